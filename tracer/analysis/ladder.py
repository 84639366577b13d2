"""What was measured with other rules: single changes, the repair ladder, and both in words. Reads traces; no torch."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tracer.analysis.verdict import HOLDS, changes, relative_to, worst_example
from tracer.records import Counterfactual, Floats
from tracer.text import clean, figure, multiple, shorten, times
from tracer.tracefile.trace import Trace

_NAMED = 5
"""A sentence names at most this many changes."""


@dataclass(frozen=True, slots=True)
class Repair:
    """What making calls exact does to one run's delta: measured, run by run.

    `delta` is that of the run itself and `change` = f(x) − f(x'), float64 (E,). `singles` are changes on their own,
    best first, `ladder` changes on top of one another that bring the relative delta of every example under `bound`:
    each rung adds the best of those left. `interrupted` says that not everything was tried, `notes` what could
    not be measured, and why. `trace` is the run's own.
    """

    trace: Trace
    delta: Floats
    change: Floats
    singles: tuple[Counterfactual, ...]
    ladder: tuple[Counterfactual, ...]
    bound: float = HOLDS
    notes: tuple[str, ...] = ()
    interrupted: bool = False

    @property
    def reached(self) -> bool:
        """Whether the last rung, or the run as it is, holds `bound`."""
        return self.relative(self.ladder[-1].delta if self.ladder else self.delta) <= self.bound

    @property
    def rules(self) -> tuple[str, ...]:
        """The overrides of the last rung, "PATTERN=exact": what `record(rules=...)` and --rule take."""
        return self.ladder[-1].rules if self.ladder else ()

    @property
    def counterfactuals(self) -> tuple[Counterfactual, ...]:
        """All that was measured, as `tracer.tracefile.amend.amend` takes it."""
        return self.singles + self.ladder

    def relative(self, delta: Floats) -> float:
        """The relative delta of the worst example."""
        return worst_relative(delta, self.change)

    def worst(self, delta: Floats) -> int | None:
        """The example whose relative delta is the largest; None where there is no example."""
        return worst_example(relative_to(delta, self.change)) if delta.size else None

    def worst_delta(self, delta: Floats) -> tuple[str, str]:
        """The delta of the worst example and, where there are several, " in example K": their sum may cancel."""
        worst = self.worst(delta)
        if worst is None:
            return figure(0.0), ""
        return figure(float(delta[worst]), signed=True), f" in example {worst}" if delta.size > 1 else ""


def worst_relative(delta: Floats, change: Floats) -> float:
    """The largest |delta| / |change| of the examples (E,); infinite where a delta is NaN or a change is 0."""
    ratios = relative_to(delta, change)
    return float(np.max(np.where(np.isnan(ratios), np.inf, ratios), initial=0.0))


def stored_repair(trace: Trace, bound: float = HOLDS) -> Repair:
    """What was measured for a trace and written into it."""
    run = trace.run
    stored = trace.counterfactuals
    return Repair(
        trace=trace,
        delta=run.delta,
        change=changes(run),
        singles=tuple(measured for measured in stored if measured.step == 0),
        ladder=tuple(measured for measured in stored if measured.step > 0),
        bound=bound,
    )


def headline(repair: Repair) -> str:
    """One sentence: what it takes to bring the delta under the bound."""
    before, share_before = "".join(repair.worst_delta(repair.delta)), times(repair.relative(repair.delta))
    if not repair.ladder:
        if repair.relative(repair.delta) <= repair.bound:
            return f"Nothing to repair: the delta is {before}, {share_before} the output's change."
        if repair.interrupted:
            return "Stopped early, before a ladder was found."
        return "No call was found that could be made exact."
    last = repair.ladder[-1]
    after, share = "".join(repair.worst_delta(last.delta)), times(repair.relative(last.delta))
    changes = "1 change" if len(repair.ladder) == 1 else f"{len(repair.ladder)} changes"
    verb = "brings" if len(repair.ladder) == 1 else "bring"
    names = _listed([name(rung) for rung in repair.ladder])
    if repair.reached:
        return f"{changes} {verb} the delta from {before} to {after}, {share} the output's change: {names} exact."
    why = "Stopped early" if repair.interrupted else f"Not under {times(repair.bound)} the output's change"
    return f"{why}: {changes} ({names} exact) {verb} the delta from {before} to {after}, {share} that change."


def ladder_lines(repair: Repair, width: int = 100) -> Iterator[str]:
    """A table of the ladder, a line of the changes on their own, and the options that run the last rung again."""
    if repair.ladder:
        several = repair.delta.size > 1
        room = max(width - (52 if several else 40), 20)
        of = f"of the change{', worst example' if several else ''}"
        yield f"{'step':>4}  {'change':<{room}}{'delta':>13}{of:>{31 if several else 19}}"
        yield _row(0, "as recorded", repair.delta, repair, room)
        for rung in repair.ladder:
            yield _row(rung.step, rung.change, rung.delta, repair, room)
    if repair.singles:
        shown = [f"{name(one)} {''.join(repair.worst_delta(one.delta))}" for one in repair.singles[:_NAMED]]
        more = len(repair.singles) - _NAMED
        yield f"delta with one change alone: {', '.join(shown)}{f', and {more} more' if more > 0 else ''}"
    for note in repair.notes:
        yield f"note: {clean(note)}"
    if repair.rules:
        yield f"to confirm: {rule_options(repair.rules)}"


def rule_options(rules: Sequence[str]) -> str:
    """The rules as options of `deeplift-tracer trace`, quoted for a shell."""
    return " ".join(f"--rule {shlex.quote(clean(rule))}" for rule in rules)


def name(measured: Counterfactual) -> str:
    """What a change makes exact, without its number of calls: "softmax"."""
    return clean(measured.change).partition(" exact")[0]


def _row(step: int, change: str, delta: Floats, repair: Repair, room: int) -> str:
    value, which = repair.worst_delta(delta)
    share = f"{multiple(repair.relative(delta))}{which}"
    shown = shorten(clean(change), room - 1)
    return f"{step:>4}  {shown:<{room}}{value:>13}{share:>{31 if which else 19}}"


def _listed(names: Sequence[str]) -> str:
    if len(names) > _NAMED:
        names = [*names[: _NAMED - 1], f"{len(names) - _NAMED + 1} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
