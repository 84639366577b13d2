"""The flow map as lines: Σ m·Δ of each token in each layer, and where its sign changes from layer to layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from rich.cells import cell_len, chop_cells, set_cell_size

from tracer.text import percentage
from tui.lines.flow_table import OFF_SHARE, FlowTable, last_before
from tui.lines.format import fit, narrow, number, number_with_exponent, plural, shorten, wrap
from tui.lines.help import HelpText
from tui.lines.pieces import cut
from tui.looks import heat
from tui.looks.roles import Line, Piece, Role

FLIP = "↕"
_SUM = 11
_NUMBER_CELL = 8
_LEAST_CELL = 4
_LONGEST_NAME = 28
_MOST_HEADINGS = 3
READING: HelpText = (
    (
        "cell",
        "Σ m·Δ over everything but the tokens' axis, at the layer's output: the part of the output's change that "
        "this token's place carries after this layer, by the multipliers that DeepLIFT sends back",
    ),
    (
        "row sum",
        "what the layer's output carries in all. With exact rules every row of a plain stack of layers sums to "
        f"f(x)-f(x'); a sum that is off by {OFF_SHARE:.0%} or more stands out, and the leak lies behind that row",
    ),
    ("column sum", "the same token over all layers"),
    ("heat", "sign and shade by the largest of the row, or of the whole map (key s); a dot is under 2 % of it"),
    (FLIP, "the token's sign differs from that in the last layer before in which it mattered"),
)
"""How to read the screen Flow, for the help."""


@dataclass(frozen=True, slots=True)
class FlowLayout:
    """Widths in characters: the layer's name, the row's sum (0: not shown), a token's cell; how many tokens fit."""

    name: int
    sum: int
    cell: int
    numbers: bool
    visible: int

    @property
    def frozen(self) -> int:
        """The width of what does not scroll sideways."""
        return self.name + self.sum


def layout(flow: FlowTable, width: int, numbers: bool) -> FlowLayout:
    """Widths for `width` cells. Numbers are shown where all tokens fit with them, or where they are asked for."""
    columns = flow.shape[1]
    longest = max((cell_len(name) for name in flow.names), default=0)
    name = max(min(longest + 1, _LONGEST_NAME, width // 4), 11 if width >= 60 else 6)
    total = _SUM if width >= 60 else 0
    room = max(width - name - total, 1)
    even = room // max(columns, 1)
    if numbers or even >= _NUMBER_CELL:
        cell = min(max(even, _NUMBER_CELL), _NUMBER_CELL + 2)
        return FlowLayout(name, total, cell, True, max(min(room // cell, columns), 1))
    cell = min(max(even, _LEAST_CELL), _NUMBER_CELL - 1)
    return FlowLayout(name, total, cell, False, max(min(room // cell, columns), 1))


def headings(flow: FlowTable, given: FlowLayout, first: int, column: int, lines: int) -> list[Line]:
    """The tokens from `first` on, above their columns, in `lines` lines; the one of the cursor stands out."""
    shown = range(first, min(first + given.visible, flow.shape[1]))
    pieces = {index: _pieces(flow.tokens[index], given.cell - 1, lines) for index in shown}
    result: list[Line] = []
    for line in range(lines):
        bottom = line == lines - 1
        cells: list[Piece] = [(fit("layer" if bottom else "", given.name), Role.TITLE)]
        if given.sum:
            cells.append((fit("row sum " if bottom else "", given.sum, right=True), Role.TITLE))
        for index in shown:
            text = pieces[index][line]
            role = Role.ACCENT if index == column else Role.TITLE
            cells.append((" " + fit(text, given.cell - 1, right=given.numbers), role))
        result.append(cells)
    return result


def heading_lines(flow: FlowTable, given: FlowLayout, height: int) -> int:
    """How many lines the tokens take: as many as the longest needs, one on a low screen, at most three."""
    most = _MOST_HEADINGS if height >= 16 else 1
    width = max(given.cell - 1, 1)
    longest = max((math.ceil(cell_len(token) / width) for token in flow.tokens), default=1)
    return max(min(most, longest), 1)


def row(
    flow: FlowTable, given: FlowLayout, index: int, first: int, column: int | None = None
) -> tuple[Line, int | None]:
    """The line of a layer with the tokens from `first` on, and which of its cells is the one of `column`."""
    cells: list[Piece] = [(fit(shorten(flow.names[index], given.name - 1), given.name), Role.TEXT)]
    if given.sum:
        role = Role.DIVERGING if flow.off[index] else Role.MUTED
        cells.append((fit(_sum(float(flow.row_sums[index])), given.sum, right=True), role))
    at = None
    for token in range(first, min(first + given.visible, flow.shape[1])):
        marker = FLIP if flow.flips[index, token] else " "
        cells.append((marker, Role.ACCENT))
        if token == column:
            at = len(cells)
        cells.append(_cell(flow, given, index, token))
    return cells, at


def sums(flow: FlowTable, given: FlowLayout, first: int) -> Line:
    """The last line: what each column sums to."""
    with np.errstate(invalid="ignore"):
        total = float(flow.row_sums[~flow.empty].sum())
    cells: list[Piece] = [(fit("column sum" if given.name > 10 else "sum", given.name), Role.TITLE)]
    if given.sum:
        cells.append((fit(_sum(total), given.sum, right=True), Role.MUTED))
    largest = heat.largest_of(flow.column_sums)
    found = heat.levels(flow.column_sums, largest)
    for token in range(first, min(first + given.visible, flow.shape[1])):
        value, level = float(flow.column_sums[token]), int(found[token])
        if given.numbers:
            text = fit(figure(value, largest), given.cell - 1, right=True)
            cells.append((" " + text, Role.TEXT if level else Role.MUTED))
        else:
            text, role = heat.shaded(level, given.cell - 1)
            cells += [(" ", Role.TEXT), (text, role)]
    return cells


def cursor_lines(flow: FlowTable, row: int, column: int, width: int) -> list[Line]:
    """The cell under the cursor in numbers: value, layer, token, sums; and its part of the largest."""
    value, total = float(flow.map.values[row, column]), float(flow.row_sums[row])
    largest = float(flow.largest[row])
    role = Role.NONFINITE if not math.isfinite(value) else Role.POSITIVE if value >= 0 else Role.NEGATIVE
    first: list[Piece] = [
        (f"{number(value, signed=True, digits=6)}", role),
        (f"  token {column} ", Role.MUTED),
        (f"“{flow.tokens[column]}”", Role.STRONG),
        ("  at ", Role.MUTED),
        (shorten(flow.names[row], max(width // 3, 8)), Role.STRONG),
    ]
    if flow.flips[row, column]:
        before = last_before(flow, row, column)
        first.append((f"  {FLIP} was {number(before, signed=True)}", Role.ACCENT))
    facts = [
        f"row sum {number(total, signed=True)}",
        f"f(x)-f(x') {number(flow.change, signed=True)}",
        f"column sum {number(float(flow.column_sums[column]), signed=True)}",
    ]
    if largest > 0 and math.isfinite(value):
        of = "the map" if flow.whole else "its row"
        facts.insert(0, f"{percentage(abs(value) / largest)} of the largest of {of}")
    return [cut(first, width), [(_joined(facts, width), Role.MUTED)]]


def summary(flow: FlowTable, width: int) -> list[Line]:
    """What the map shows, in a few sentences."""
    counts = flow.flips.sum(axis=1)
    if counts.any():
        most = int(np.argmax(counts))
        changes = f"{plural(int(counts.sum()), 'change')} of sign ({FLIP}), most at {flow.names[most]}"
        text = f"{changes}: {int(counts[most])} of {plural(flow.shape[1], 'token')}."
    else:
        text = "No token changes its sign on the way."
    lines = wrap(f"{text} {_sums_in_words(flow)}", width)
    return [[(line, Role.TEXT)] for line in lines]


def _sums_in_words(flow: FlowTable) -> str:
    change = f"f(x)-f(x') = {number(flow.change, signed=True)}"
    filled = np.flatnonzero(~flow.empty)
    off = np.flatnonzero(flow.off)
    if not len(off):
        text = f"Every row sums to {change}."
    elif off[0] != filled[0]:
        text = f"The inputs' row sums to {change}; rows that do not are branches beside others, or leaks that cancel."
    elif off[-1] == filled[-1]:
        text = f"Not even the last row sums to {change}: the sum is lost behind {flow.names[off[-1]]}."
    else:
        after = int(filled[np.searchsorted(filled, off[-1], side="right")])
        text = f"Rows should sum to {change}; going back from the output, that is lost in {flow.names[after]}."
    if flow.empty.any():
        text += f" {plural(int(flow.empty.sum()), 'row')} without numbers: tensors left out of the trace, or NaN."
    return text


def legend(flow: FlowTable, given: FlowLayout, first: int, width: int) -> Line:
    """Which tokens are in view where not all are, and what colours, shades and marks mean, as much as fits."""
    of = "the map" if flow.whole else "its row"
    columns = flow.shape[1]
    facts = [f"tokens {first}-{first + given.visible - 1} of 0-{columns - 1}"] if given.visible < columns else []
    facts += [
        f"heat by the largest of {of}" if given.numbers else f"{heat.legend()} of the largest of {of}",
        f"{FLIP} sign changed",
        "Σ m·Δ at each layer's output",
    ]
    return [(_joined(facts, width), Role.MUTED)]


def figure(value: float, largest: float) -> str:
    """`value` in at most seven characters, with as many decimals as `largest` needs: a row reads as one."""
    if not math.isfinite(value):
        return number(value, signed=True)
    if not 0.01 <= largest < 99_999.5:
        text = "0" if value == 0 else number_with_exponent(value, 1, "+")
        return text if len(text) <= _NUMBER_CELL - 1 else number_with_exponent(value, 0, "+")
    decimals = min(max(2 - math.floor(math.log10(largest)), 0), 3)
    return f"{value:+.{decimals}f}"


def _cell(flow: FlowTable, given: FlowLayout, row: int, token: int) -> Piece:
    level = int(flow.levels[row, token])
    width = given.cell - 1
    if not given.numbers:
        return heat.shaded(level, width)
    text = figure(float(flow.map.values[row, token]), float(flow.largest[row]))
    return fit(text, width, right=True), Role.MUTED if level == 0 else heat.role_of(level)


def _sum(value: float) -> str:
    text = number(value, signed=True, digits=3)
    return (text if len(text) < _SUM - 1 else narrow(value, _SUM - 2)) + " "


def _pieces(token: str, width: int, lines: int) -> list[str]:
    """A token cut into `lines` pieces of `width` cells, the last of them in the last line."""
    width = max(width, 2)
    pieces = chop_cells(token, width) or [""]
    if len(pieces) > lines:
        pieces = pieces[:lines]
        if width > 3:
            pieces[-1] = set_cell_size(pieces[-1], width - 1) + "…"
    return [""] * (lines - len(pieces)) + pieces


def _joined(facts: list[str], width: int) -> str:
    """As many facts as fit in one line."""
    kept = list(facts)
    while len(kept) > 1 and cell_len("   ".join(kept)) > width:
        kept.pop()
    return shorten("   ".join(kept), width)
