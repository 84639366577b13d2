"""The verdict on a trace: do its attributions add up to the change of the output, and which call is worst."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tracer.records import Finding, Floats, Node, Ranking, Run
from tracer.text import clean, figure, percentage, times
from tracer.tracefile.columns import worst_first
from tracer.tracefile.trace import Trace

Level = Literal["holds", "off", "broken", "unfinished"]

HOLDS = 1e-3
"""Up to this relative delta the attributions add up: float32 itself costs about 1e-6."""
OFF = 0.1
"""Past this relative delta the attributions explain too little of the output, or too much, to be read at all."""
RANKING_TOLERANCE = 0.05
"""Past this relative delta a ranking in the sanity panel is not a ground truth."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`headline` is one sentence in words; `worst` the call of the largest |self leak|, None where there is none.

    `relative_delta` is that of the worst example: deltas of several examples may cancel in the sum. `share` is
    |self leak| of the worst call in Σ |self leak| of all calls, NaN where that sum is zero or not finite.
    """

    level: Level
    headline: str
    relative_delta: float
    worst: Node | None
    share: float


@np.errstate(over="ignore", invalid="ignore")
def verdict(trace: Trace, example: int | None = None) -> Verdict:
    """The verdict over all examples, or over one of them."""
    _, self_leak = trace.leaks(example)
    worst = trace.nodes[int(worst_first(self_leak)[0])] if len(self_leak) else None
    total = float(np.abs(self_leak).sum())
    share = abs(float(self_leak[worst.id])) / total if worst and 0 < total < math.inf else math.nan
    run = trace.run
    if run.status != "complete" or not run.examples:
        return Verdict("unfinished", _unfinished(trace), math.nan, worst, share)
    relative = relative_deltas(run)
    index = worst_example(relative) if example is None else example
    ratio = float(relative[index])
    delta = float(run.delta[index])
    change = float(changes(run)[index])
    which = f" in example {index}" if run.examples > 1 else ""
    level = level_of(ratio)
    return Verdict(level, _headline(level, delta, change, ratio, which, worst, share), ratio, worst, share)


def level_of(ratio: float) -> Level:
    """How much of the output's change attributions explain whose relative delta is `ratio`; NaN is broken."""
    return "holds" if ratio <= HOLDS else "off" if ratio <= OFF else "broken"


def relative_deltas(run: Run) -> Floats:
    """|delta| / |f(x) − f(x')| of each example, (E,); infinite where the output does not change but delta is not 0."""
    return relative_to(run.delta, changes(run))


def changes(run: Run) -> Floats:
    """f(x) − f(x') of each example, (E,): NaN where both are the same infinity."""
    with np.errstate(invalid="ignore", over="ignore"):
        return run.output - run.output_reference


def relative_to(delta: Floats, change: Floats) -> Floats:
    """|delta| / |change| of each example, (E,); infinite where the output does not change but delta is not 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(delta == 0, 0.0, np.abs(delta) / np.abs(change))


def worst_example(relative: Floats) -> int:
    """The example of the largest relative delta (E,); NaN is worse than any."""
    return int(np.argmax(np.where(np.isnan(relative), np.inf, relative)))


def ranking_warning(ranking: Ranking) -> str:
    """Why a ranking of the sanity panel is not a ground truth; "" if nothing is known against it."""
    if ranking.note:
        return ranking.note
    if ranking.relative_delta is None or ranking.relative_delta <= RANKING_TOLERANCE:
        return ""
    size = times(ranking.relative_delta)
    return f"{ranking.name} is itself off by {size} the output's change: no truth to compare with"


def _headline(
    level: Level, delta: float, change: float, ratio: float, which: str, worst: Node | None, share: float
) -> str:
    moved = f"the output's change of {figure(change, signed=True)}"
    size = f"{times(ratio)} {moved}" if math.isfinite(ratio) else "the output changes by " + figure(change)
    found = f"{figure(delta, signed=True)}, {size}"
    if level == "holds":
        return f"The attributions add up: the delta{which} is {found}."
    blame = ""
    if worst is not None:
        part = "" if math.isnan(share) else f", {percentage(share)} of all leaks"
        blame = f" Worst call: {call_name(worst)} ({clean(worst.type, 60)}{part})."
    advice = "The attributions are slightly off" if level == "off" else "Do not read these attributions"
    return f"{advice}: the delta{which} is {found}.{blame}"


def _unfinished(trace: Trace) -> str:
    run = trace.run
    if run.status == "recording":
        stage = f" ({clean(run.message, 80)})" if run.message else ""
        state = trace.recording_state
        if state == "running":
            return f"This trace is still being recorded{stage}: the figures are not complete."
        if state == "outdated":
            return f"This trace was still being recorded when it was opened{stage}: open it again."
        if state == "unknown":
            return f"This trace is still being recorded{stage}, or was killed: the figures are not complete."
        return f"The recording of this trace was killed{stage}, or its disk was full: the figures are not complete."
    if run.status == "failed":
        reason = f": {clean(run.message)}" if run.message else "."
        return f"The run failed before its attribution was complete{reason}"
    return "The trace holds no example."


def call_name(found: Node | Finding) -> str:
    """The path of a call, with its number where it is not the first; "the model" for the model itself."""
    path = clean(found.path) or "the model"
    return f"{path} call {found.call}" if found.call else path
