"""The head of the screen as lines: the verdict first, then what ran on what and the numbers behind the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from tracer.analysis.verdict import Level, Verdict, changes, relative_deltas
from tracer.records import Run
from tracer.text import clean, figure, multiple
from tui.lines.format import fit, number, shorten, wrap
from tui.looks.roles import Line, Piece, Role
from tui.model.figures import figure_of

_GAP = "   "
_BEFORE, _AFTER = "‹ ", " ›"
_SIGNS: Mapping[Level, tuple[str, Role]] = {
    "holds": ("✔", Role.GOOD),
    "off": ("▲", Role.WARNING),
    "broken": ("✖", Role.LARGE),
    "unfinished": ("▲", Role.WARNING),
}


@dataclass(frozen=True, slots=True)
class Fact:
    """A figure with its label; where there is no room, facts of the highest `rank` are left out first."""

    rank: int
    cells: list[Piece]

    @property
    def width(self) -> int:
        """Cells on the screen."""
        return sum(cell_len(text) for text, _ in self.cells)


def header_lines(run: Run, verdict: Verdict, width: int, short: bool, example: int | None = None) -> list[Line]:
    """The head in `width` cells: up to three lines of verdict and two of facts; one of each on a short screen.

    The figures are those of one example, or sums over all.
    """
    glyph, role = _SIGNS[verdict.level]
    texts = wrap(clean(verdict.headline), width - 2)
    if len(texts) > (1 if short else 3):
        texts = texts[: 1 if short else 3]
        texts[-1] = fit(texts[-1] + " …", width - 2)
    lines: list[Line] = [
        [(f"{glyph} " if index == 0 else "  ", role), (text, role)] for index, text in enumerate(texts)
    ]
    if short:
        return [*lines, _packed([_delta(run, example), _change(run, example)], width)]
    return [*lines, _packed(_numbers(run, example), width), _packed(_subject(run), width)]


def clicked(line: Line, x: int) -> str:
    """The example that a click at this cell of a line asks for: "previous", "next", "choose" (one), or "" (none)."""
    cells = list(line)
    for place in range(1, len(cells) - 1):
        if cells[place - 1][0] != _BEFORE or cells[place + 1][0] != _AFTER:
            continue
        start = sum(cell_len(text) for text, _ in cells[: place - 1])
        ends = [start + cell_len(_BEFORE)]
        ends += [ends[0] + cell_len(cells[place][0]), ends[0] + cell_len(cells[place][0] + _AFTER)]
        if start <= x < ends[2]:
            return "previous" if x < ends[0] else "choose" if x < ends[1] else "next"
    return ""


def _numbers(run: Run, example: int | None) -> list[Fact]:
    relative = run.relative_delta if example is None else float(relative_deltas(run)[example])
    facts = [
        _delta(run, example),
        Fact(1, [("relative ", Role.MUTED), (_known(run, relative, multiple(relative)), Role.TEXT)]),
        Fact(1, [("f(x) ", Role.MUTED), _number(run, figure_of(run.output, example))]),
        Fact(1, [("f(x') ", Role.MUTED), _number(run, figure_of(run.output_reference, example))]),
        _change(run, example),
    ]
    if run.examples > 1:
        which = f"sums over {run.examples} examples" if example is None else f"example {example} of {run.examples}"
        facts.insert(0, Fact(0, [(_BEFORE, Role.KEY), (which, Role.WARNING), (_AFTER, Role.KEY)]))
    return facts


def _delta(run: Run, example: int | None) -> Fact:
    delta = figure_of(run.delta, example)
    return Fact(0, [("delta ", Role.MUTED), (_known(run, delta, figure(delta, signed=True)), Role.STRONG)])


def _change(run: Run, example: int | None) -> Fact:
    return Fact(2, [("f(x)-f(x') ", Role.MUTED), _number(run, figure_of(changes(run), example), signed=True)])


def _number(run: Run, value: float, signed: bool = False) -> Piece:
    return _known(run, value, number(value, signed=signed)), Role.TEXT


def _known(run: Run, value: float, text: str) -> str:
    """`text`, or "-" where NaN says that an unfinished run does not have the figure."""
    return "-" if math.isnan(value) and run.status != "complete" else text


def _subject(run: Run) -> list[Fact]:
    method = clean(run.method, 60) + (f" / {clean(run.variant, 60)}" if run.variant else "")
    facts = [Fact(3, [(shorten(clean(run.model) or "model", 40), Role.TEXT)]), Fact(0, [(method, Role.TEXT)])]
    if run.target:
        facts.append(Fact(2, [("target ", Role.MUTED), (clean(run.target, 40), Role.TEXT)]))
    if run.panel.hooks is not None:
        facts.append(Fact(1, [(run.panel.hooks.summary, Role.TEXT)]))
    return facts


def _packed(facts: Sequence[Fact], width: int) -> Line:
    """The facts in one line; those of the highest rank are left out, the last of them first, until the rest fits."""
    left = list(facts)
    while len(left) > 1 and sum(fact.width + len(_GAP) for fact in left) > width:
        highest = max(fact.rank for fact in left)
        left.remove([fact for fact in left if fact.rank == highest][-1])
    if left and left[0].width + 2 > width:
        text, role = left[0].cells[-1]
        return [("  ", Role.TEXT), (shorten(text, width - 2), role)]
    line: list[Piece] = [("  ", Role.TEXT)]
    for index, fact in enumerate(left):
        line += [(_GAP, Role.TEXT), *fact.cells] if index else fact.cells
    return line
