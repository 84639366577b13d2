"""What was measured with other rules, as lines: the ladder of repairs, each change on its own, and one run in full."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.cells import cell_len

from tracer.analysis.verdict import HOLDS
from tracer.records import Counterfactual, Run
from tracer.text import clean, multiple, relative
from tui.lines.format import bar, fit, log_length, number, plural, seconds, shorten, wrap
from tui.lines.help import HelpText
from tui.lines.pieces import paragraph
from tui.looks.roles import Line, Piece, Role
from tui.model.figures import Figures, figure_of

_DELTA = 12
_RELATIVE = 16
_LEAST_CHANGE = 18
_LEAST_DECADES = 4.0
_MOST_DECADES = 16.0
_MOST_CALLS = 30
READING: HelpText = (
    ("ladder", "runs of the same attribution with more and more calls made exact: measured, not estimated"),
    ("on its own", "one change alone, on the run as recorded: leaks of opposite sign may cancel in that"),
    ("bar", "|delta| / |f(x)-f(x')| on one logarithmic scale"),
    ("✔", f"the attributions add up: that share is {HOLDS:.1%} or less"),
)
"""How to read the screen Repair, for the help."""


@dataclass(frozen=True, slots=True)
class Step:
    """A line of the list: the recorded run (`run` None), a rung, a change on its own, or the title between them.

    `delta` is of the example that is looked at, or the sum of all; a title has none.
    """

    label: str
    words: str
    delta: float
    run: Counterfactual | None = None
    title: bool = False


@dataclass(frozen=True, slots=True)
class Ladder:
    """All lines of the list, and f(x) − f(x') and the delta as they were recorded."""

    steps: tuple[Step, ...]
    change: float
    before: float
    largest: float
    decades: float

    @property
    def rungs(self) -> list[Step]:
        """The ladder's own steps, the first first."""
        return [step for step in self.steps if step.run is not None and step.run.step >= 1]

    @property
    def singles(self) -> list[Step]:
        """The changes that were tried on their own."""
        return [step for step in self.steps if step.run is not None and step.run.step == 0]

    @property
    def enough(self) -> Step | None:
        """The first rung after which the attributions add up."""
        return next((step for step in self.rungs if relative(step.delta, self.change) <= HOLDS), None)


def ladder(run: Run, measured: Sequence[Counterfactual], example: int | None) -> Ladder:
    """The list of what was measured: the recorded run, the rungs, the single changes by falling use (NaN last)."""
    change = figure_of(run.output, example) - figure_of(run.output_reference, example)
    before = figure_of(run.delta, example)

    def step(each: Counterfactual) -> Step:
        return Step(str(each.step or ""), clean(each.change, 300), figure_of(each.delta, example), each)

    def size(each: Step) -> float:
        return math.inf if math.isnan(each.delta) else abs(each.delta)

    rungs = [step(each) for each in sorted(measured, key=lambda each: each.step) if each.step >= 1]
    singles = sorted((step(each) for each in measured if each.step == 0), key=size)
    steps = [Step("0" if rungs else "", "as recorded", before), *rungs]
    if singles:
        steps += [Step("", "Each change on its own", math.nan, title=True), *singles]
    sizes = [relative(step.delta, change) for step in steps if not step.title]
    known = [value for value in sizes if math.isfinite(value) and value]
    largest = max(known, default=0.0)
    span = math.log10(largest / min(known)) + 1 if known else 0.0
    return Ladder(tuple(steps), change, before, largest, min(max(span, _LEAST_DECADES), _MOST_DECADES))


def heading(width: int) -> Line:
    """The titles of the list's columns."""
    change, length = _layout(width)
    cells: list[Piece] = [
        (fit("     change, on top of those before it", 5 + change), Role.TITLE),
        (" " + fit("delta after", _DELTA, right=True), Role.TITLE),
    ]
    if length >= 0:
        cells.append((" " + fit("of f(x)-f(x')", _RELATIVE, right=True), Role.TITLE))
    if length > 0:
        cells.append(("  " + fit("logarithmic", length), Role.TITLE))
    return cells


def row(given: Ladder, index: int, width: int) -> Line:
    """A line of the list, exactly `width` cells; "✔" where the attributions add up, a bar on one logarithmic scale."""
    step = given.steps[index]
    if step.title:
        return [(fit(f"     {step.words}", width), Role.TITLE)]
    room, length = _layout(width)
    share = relative(step.delta, given.change)
    holds = share <= HOLDS
    cells: list[Piece] = [
        ("✔ " if holds else "  ", Role.GOOD),
        (fit(step.label, 2, right=True) + " ", Role.ACCENT),
        (fit(shorten(step.words, room), room), Role.TEXT if step.run else Role.MUTED),
        (" " + fit(number(step.delta, signed=True), _DELTA, right=True), Role.GOOD if holds else Role.STRONG),
    ]
    if length >= 0:
        cells.append((" " + fit(multiple(share), _RELATIVE, right=True), Role.TEXT))
    if length > 0:
        part = log_length(share, given.largest, 1.0, given.decades)
        text = "?".ljust(length) if math.isnan(share) else bar(part, length)
        cells.append(("  " + text, Role.GOOD if holds else Role.LARGE))
    return cells


def step_lines(given: Ladder, index: int, figures: Figures, width: int) -> list[Line]:
    """One line of the list in full: what it comes to, the rules to paste, the calls that it moves most."""
    step = given.steps[index]
    if step.title:
        return _singles(given, width)
    if step.run is None:
        return _recorded(given, width)
    lines: list[Line] = paragraph(step.words, width, Role.STRONG)
    holds = relative(step.delta, given.change) <= HOLDS
    before, after = number(given.before, signed=True), number(step.delta, signed=True)
    end = ": the attributions add up." if holds else f", {multiple(relative(step.delta, given.change))} of f(x)-f(x')."
    text = f"{'✔ ' if holds else ''}delta {before} → {after}, measured in {seconds(step.run.seconds)}{end}"
    lines += paragraph(text, width, Role.GOOD if holds else Role.TEXT)
    if step.run.step == 0 and abs(step.delta) > abs(given.before):
        lines += paragraph(
            "Alone it makes the delta larger: leaks of opposite sign had cancelled.", width, Role.WARNING
        )
    lines += _rules(step.run, width)
    return [*lines, *_moved(step.run, figures, width)]


def nothing_lines(run: Run, file: str, width: int) -> list[Line]:
    """How to measure, where nothing was; `file` is the trace's name on a command line."""
    name = _quoted(file) if file else "FILE"
    lines = paragraph("No repair has been measured for this trace.", width, Role.TEXT)
    if run.status != "complete":
        text = "The run is not complete, and only a complete run can be measured again."
        return lines + paragraph(text, width, Role.MUTED)
    lines += [[], *paragraph("Measure which rules to change, and the delta after each change, with", width, Role.MUTED)]
    lines += [[("  " + part, Role.ACCENT)] for part in wrap(f"deeplift-tracer repair {name}", width - 2)]
    return [
        *lines,
        [],
        *paragraph("It runs the model again, and writes what it finds into the trace.", width, Role.MUTED),
    ]


def rule_options(rung: Counterfactual) -> list[str]:
    """The options that make this run again, quoted for a shell: "--rule 'softmax=exact'"."""
    return [f"--rule {_quoted(rule)}" for rule in rung.rules]


def _recorded(given: Ladder, width: int) -> list[Line]:
    """The outcome of the whole ladder."""
    lines: list[Line] = []
    enough, rungs = given.enough, given.rungs
    before = number(given.before, signed=True)
    if relative(given.before, given.change) <= HOLDS:
        lines += paragraph(
            "✔ The attributions add up as they were recorded: nothing is to be repaired.", width, Role.GOOD
        )
    elif enough is not None and enough.run is not None:
        steps = "1 change brings" if enough.run.step == 1 else f"{enough.run.step} changes bring"
        after = number(enough.delta, signed=True)
        text = f"✔ {steps} the delta from {before} to {after}: the attributions add up."
        lines += [*paragraph(text, width, Role.GOOD), *_rules(enough.run, width)]
    elif rungs and rungs[-1].run is not None:
        after = number(rungs[-1].delta, signed=True)
        text = f"▲ After {plural(len(rungs), 'step')} the delta is {after}: the attributions do not add up yet."
        lines += [*paragraph(text, width, Role.WARNING), *_rules(rungs[-1].run, width)]
    else:
        lines += paragraph("Changes were tried one by one; no ladder was measured.", width, Role.TEXT)
    measured = [step.run for step in given.steps if step.run is not None]
    spent = sum(each.seconds for each in measured if math.isfinite(each.seconds))
    text = f"{plural(len(measured), 'run')} measured, {seconds(spent)} in all. Each line is a run of its own."
    return [*lines, [], *paragraph(text, width, Role.MUTED)]


def _singles(given: Ladder, width: int) -> list[Line]:
    singles = given.singles
    worse = sum(abs(step.delta) > abs(given.before) for step in singles)
    lines = paragraph("Each of these was tried alone, on the run as recorded. The best is on top.", width, Role.TEXT)
    if worse:
        text = (
            f"{worse} of {plural(len(singles), 'change')} made the delta larger: leaks of opposite sign had cancelled. "
            "What leaks most is not always the cause."
        )
        lines += [[], *paragraph(text, width, Role.WARNING)]
    return lines


def _rules(rung: Counterfactual, width: int) -> list[Line]:
    options = rule_options(rung)
    if not options:
        return []
    lines: list[Line] = [[], *paragraph("To paste behind deeplift-tracer trace", width, Role.TITLE)]
    line = ""
    for option in options:
        if line and cell_len(line) + 1 + cell_len(option) > width - 2:
            lines.append([("  " + line, Role.ACCENT)])
            line = ""
        line = f"{line} {option}" if line else option
    wrapped = wrap(line, width - 2) if cell_len(line) > width - 2 else [line]
    return [*lines, *([("  " + part, Role.ACCENT)] for part in wrapped)]


def moved_most(rung: Counterfactual, figures: Figures) -> list[int]:
    """The calls whose self leak this run changes most, the largest change first; NaN and no change are left out."""
    if len(rung.self_leak) != len(figures):
        return []
    with np.errstate(invalid="ignore"):
        change = np.abs(rung.self_leak - figures.self_leak)
    order = np.argsort(-np.where(np.isfinite(change), change, -1.0), kind="stable")[:_MOST_CALLS]
    return [int(node) for node in order if np.isfinite(change[node]) and change[node] > 0]


def _moved(rung: Counterfactual, figures: Figures, width: int) -> list[Line]:
    nodes = moved_most(rung, figures)
    if not nodes:
        return []
    lines: list[Line] = [[], *paragraph("Self leaks that change most, from → to", width, Role.TITLE)]
    for node in nodes:
        call = int(figures.call[node])
        name = (clean(figures.paths[node]) or "the model") + (f" #{call}" if call else "")
        before, after = (number(float(leaks[node]), signed=True) for leaks in (figures.self_leak, rung.self_leak))
        lines.append(
            [
                (fit(before, 11, right=True), Role.TEXT),
                (" → ", Role.MUTED),
                (fit(after, 11) + " ", Role.STRONG),
                (shorten(name, width - 26), Role.MUTED),
            ]
        )
    return lines


def _layout(width: int) -> tuple[int, int]:
    """The width of the change in words, and of the bar; −1 where not even the relative delta has room."""
    room = width - 5 - _DELTA - 1
    if room - _RELATIVE - 1 < _LEAST_CHANGE:
        return max(room, 4), -1
    room -= _RELATIVE + 1
    bars = min(max(room - 30, 10), 30) if room >= 36 else 0
    return room - (bars + 2 if bars else 0), bars


def _quoted(text: str) -> str:
    """In single quotes, as a shell takes it; characters that a terminal would obey are gone."""
    cleaned = clean(text)
    quoted = shlex.quote(cleaned)
    return quoted if quoted.startswith("'") else f"'{cleaned}'"
