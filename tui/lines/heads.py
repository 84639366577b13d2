"""The table of heads as lines: layers down, heads across, each cell its leak or gain as a number on its heat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.cells import cell_len

from tracer.analysis.heads import Attention, HeadFigures
from tracer.records import Floats
from tracer.text import clean, percentage
from tui.lines.format import fit, narrow, number, shorten
from tui.lines.help import HelpText
from tui.lines.pieces import paragraph
from tui.looks import heat
from tui.looks.roles import Line, Piece, Role

_LONGEST_NAME = 30
_TOTAL = 11
_NUMBER_CELL = 7
_LEAST_CELL = 3
READING: HelpText = (
    ("leak", "a head's part of the call's leak: Σ m·Δ going in less Σ m·Δ coming out, over its own elements"),
    ("gain", "‖m in‖ / ‖m out‖ of the head: above 1 it makes multipliers larger"),
    ("matrices", "of the selected head, queries down and keys across; each has colours of its own scale"),
    ("fused", "scaled_dot_product_attention keeps its probabilities to itself; --explicit softmax records them"),
)
"""How to read the screen Heads, for the help."""


@dataclass(frozen=True, slots=True)
class HeadTable:
    """The table: the attentions, and the figures that are known so far, by node.

    A leak of less than `floor` = 0.1 % of |f(x) − f(x')| colours no cell. `gain` shows gains instead of leaks.
    """

    attentions: Sequence[Attention]
    figures: Mapping[int, HeadFigures]
    floor: float = 0.0
    gain: bool = False

    @property
    def heads(self) -> int:
        """The most heads of any attention."""
        return max((attention.heads for attention in self.attentions), default=0)

    def values(self, row: int) -> Floats:
        """What the cells of a row show, NaN where it is not known."""
        attention = self.attentions[row]
        figures = self.figures.get(attention.node)
        if figures is None:
            return np.full(attention.heads, np.nan)
        return figures.gain if self.gain else figures.leak

    @property
    def largest(self) -> float:
        """The value of the strongest heat."""
        largest = max((heat.largest_of(self.values(row)) for row in range(len(self.attentions))), default=0.0)
        return largest if self.gain else max(largest, self.floor)

    @property
    def worst(self) -> tuple[int, int] | None:
        """Row and head of the largest |value| that is known; None while none is."""
        best: tuple[float, int, int] | None = None
        for row in range(len(self.attentions)):
            sizes = np.abs(self.values(row))
            if not np.isfinite(sizes).any():
                continue
            head = int(np.nanargmax(np.where(np.isinf(sizes), np.nan, sizes)))
            if best is None or sizes[head] > best[0]:
                best = (float(sizes[head]), row, head)
        return None if best is None else best[1:]


@dataclass(frozen=True, slots=True)
class HeadLayout:
    """Widths in cells: the name, the row's total (0: not shown), a head's cell; and how many heads fit."""

    name: int
    total: int
    cell: int
    visible: int


def layout(table: HeadTable, width: int) -> HeadLayout:
    """Widths for `width` cells: numbers where all heads fit with them, else signs and shades."""
    longest = max((cell_len(attention.name) for attention in table.attentions), default=0)
    name = max(min(longest + 1, _LONGEST_NAME, width // 3), 6)
    total = _TOTAL if width >= 60 else 0
    heads = max(table.heads, 1)
    room = max(width - name - total, _LEAST_CELL)
    cell = min(max(room // heads, _LEAST_CELL), _NUMBER_CELL + 2)
    return HeadLayout(name, total, cell, max(min(room // cell, heads), 1))


def heading(table: HeadTable, given: HeadLayout, first: int, cursor: int) -> Line:
    """The numbers of the heads above their cells."""
    cells: list[Piece] = [(fit("layer", given.name), Role.TITLE)]
    if given.total:
        cells.append((fit("" if table.gain else "all heads", given.total, right=True), Role.TITLE))
    for head in range(first, min(first + given.visible, table.heads)):
        role = Role.STRONG if head == cursor else Role.MUTED
        cells.append((fit(f" {head}" if given.cell >= 4 else str(head), given.cell, right=True), role))
    return cells


def row(table: HeadTable, given: HeadLayout, index: int, first: int) -> tuple[Line, int]:
    """A layer's line, and how many cells of it do not scroll sideways."""
    attention, values = table.attentions[index], table.values(index)
    cells: list[Piece] = [(fit(clean(attention.name), given.name), Role.TEXT)]
    if given.total:
        known = attention.node in table.figures
        total = "" if table.gain else number(float(values.sum()), signed=True, digits=3) if known else "…"
        cells.append((fit("-" if total == "nan" else total, given.total, right=True), Role.TEXT))
    frozen = len(cells)
    levels = heat.levels(values, table.largest)
    for head in range(first, min(first + given.visible, attention.heads)):
        cells.append(_cell(float(values[head]), int(levels[head]), given.cell, attention.node in table.figures))
    return cells, frozen


def _cell(value: float, level: int, width: int, known: bool) -> Piece:
    if not known or (level == heat.NO_NUMBER):
        return ("…" if not known else "-").rjust(width), Role.FAINT
    if width < _NUMBER_CELL:
        text, role = heat.shaded(level, width - 1)
        return " " + text, role
    return fit(narrow(value, width - 1), width, right=True), heat.role_of(level)


def head_lines(table: HeadTable, index: int, head: int, total: float, width: int) -> list[Line]:
    """The selected head in words; `total` is Σ|leak| over all heads of all layers."""
    attention = table.attentions[index]
    figures = table.figures.get(attention.node)
    facts: list[list[Piece]] = [[(f"head{'s' * (attention.group > 1)} {attention.head_name(head)}", Role.ACCENT)]]
    if figures is None:
        facts.append([("reading …", Role.MUTED)])
    elif not figures.problem:
        leak, gain = float(figures.leak[head]), float(figures.gain[head])
        facts.append([("leak ", Role.MUTED), (number(leak, signed=True), Role.STRONG)])
        facts.append([("gain ", Role.MUTED), ("-" if np.isnan(gain) else f"×{number(gain)}", Role.TEXT)])
        if total > 0 and np.isfinite(leak):
            facts.append([(f"{percentage(abs(leak) / total)} of Σ|leak| of all heads", Role.MUTED)])
    line = _packed(facts, width)
    path, left = clean(attention.path), width - sum(cell_len(text) for text, _ in line) - 3
    lines: list[Line]
    if cell_len(path) <= left:
        lines = [[(path, Role.STRONG), ("   ", Role.TEXT), *line]]
    else:
        lines = [line, [(shorten(path, width), Role.STRONG)]]
    if figures is not None and figures.problem:
        lines += paragraph(figures.problem, width, Role.MUTED)
    return lines


def total_leak(table: HeadTable) -> float:
    """Σ|leak| over all heads that are known."""
    found = [np.abs(figures.leak) for figures in table.figures.values()]
    return float(sum(leak[np.isfinite(leak)].sum() for leak in found))


def empty_text(searching: bool) -> str:
    """What stands where there is no attention."""
    if searching:
        return "Looking for attention …"
    return (
        "No attention was found in this trace: no softmax over (examples, heads, queries, keys) and no "
        "scaled_dot_product_attention ran where the recorder could see it."
    )


def unrecorded_text(attention: Attention) -> str:
    """What to say where a fused attention has no matrices."""
    return (
        f"This matrix was not recorded: {clean(attention.path).rpartition('/')[2] or 'the attention'} is fused, it "
        "computes the probabilities inside one kernel. Record the run with --explicit softmax to see them."
    )


def pair_line(query: str, key: str, values: Sequence[tuple[str, float]], width: int) -> Line:
    """One pair of tokens in all matrices: "great → movie   probability +0.012   reference …"."""
    facts: list[list[Piece]] = [[(f"{query} → {key}", Role.ACCENT)]]
    facts += [[(f"{name} ", Role.MUTED), (number(value, signed=True), Role.TEXT)] for name, value in values]
    return _packed(facts, width)


def _packed(facts: Sequence[Sequence[Piece]], width: int) -> Line:
    """As many of the facts as fit in one line; the first in any case."""
    line: list[Piece] = []
    left = width
    for fact in facts:
        taken = sum(cell_len(text) for text, _ in fact) + (3 if line else 0)
        if taken > left and line:
            break
        line += [("   ", Role.TEXT), *fact] if line else [(shorten(text, width), role) for text, role in fact]
        left -= taken
    return line
