"""What a report says about a trace, in every form: text, Markdown, HTML and JSON. Pure: a trace in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tracer.analysis.ladder import Repair, stored_repair
from tracer.analysis.verdict import Verdict, call_name, relative_deltas, verdict, worst_example
from tracer.diagnosis.faults import diagnose, ended_by
from tracer.diagnosis.ranking import DELTA_AFTER, WORST_AFTER
from tracer.records import Finding, Floats, Node, Panel, Ranking
from tracer.text import clean, figure, of_example, percentage, relative, times, total
from tracer.tracefile.columns import worst_first
from tracer.tracefile.trace import Trace

SIGNS = {"holds": "HOLDS", "off": "OFF", "broken": "BROKEN", "unfinished": "UNFINISHED"}


@dataclass(frozen=True)
class TraceReport:
    """What a report says about a trace, over all examples or one; each part is computed when it is first asked for."""

    trace: Trace
    example: int | None = None

    @cached_property
    def verdict(self) -> Verdict:
        """Whether the attributions add up."""
        return verdict(self.trace, self.example)

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """The diagnosis, worst first, symptoms under their causes."""
        return diagnose(self.trace, self.example)

    @property
    def complete(self) -> bool:
        """Whether the run has a delta and leaks: one that failed or is not finished has flows of some calls only."""
        return self.trace.run.status == "complete"

    @cached_property
    def headline(self) -> str:
        """The verdict in one sentence; of a failed run the fault that ended it, where that is known."""
        fault = ended_by(self.trace)
        if fault is None:
            return self.verdict.headline
        return f"The run failed before its attribution was complete: {clean(fault.message)}."

    @cached_property
    def repair(self) -> Repair:
        """What was measured with other rules."""
        return stored_repair(self.trace)

    @cached_property
    def self_leak(self) -> Floats:
        """The self leak of each call, (N,)."""
        return self.trace.leaks(self.example)[1]

    @property
    def delta(self) -> float:
        """The convergence delta, of the example shown or in sum."""
        return self.figure(self.trace.run.delta)

    @property
    def change(self) -> float:
        """f(x) − f(x'), of the example shown or in sum."""
        return self.figure(self.trace.run.output) - self.figure(self.trace.run.output_reference)

    @property
    def judged_example(self) -> int:
        """The example that the verdict is about: the one shown, or the one of the largest relative delta."""
        return worst_example(relative_deltas(self.trace.run)) if self.example is None else self.example

    def figure(self, values: Floats) -> float:
        """One number of a figure (E,): the sum over the examples, or that of the one shown; NaN where there is none."""
        return math.nan if len(values) == 0 and self.example is None else of_example(values, self.example)

    def worst(self, top: int | None) -> list[Node]:
        """The calls of the largest |self leak|, worst first: `top` of them, or all; of an incomplete run the last."""
        if self.complete:
            order = worst_first(self.self_leak)[:top].tolist()
        else:
            count = len(self.trace.nodes)
            order = list(range(0 if top is None else max(count - top, 0), count))
        if top is not None and top < 1_000:
            return [self.trace.nodes[node] for node in order]
        nodes = list(self.trace.nodes)  # one pass over the file is faster than a look-up for each
        return [nodes[node] for node in order]

    def numbers(self) -> list[tuple[str, str]]:
        """What ran on what and what came out, as (name, one clean line of text)."""
        run = self.trace.run
        output, reference = self.figure(run.output), self.figure(run.output_reference)
        ratio = relative(self.delta, self.change)
        calls = len(self.trace.nodes)
        rows = [
            ("model", clean(run.model, 200)),
            ("method", clean(f"{run.method}, {run.variant}" if run.variant else run.method)),
            ("target", clean(run.target)),
            ("text", clean(run.text, 300)),
            ("reference", clean(run.reference, 300)),
            ("examples", _examples(run.examples, self.example)),
            ("f(x)", figure(output)),
            ("f(x')", f"{figure(reference)}   f(x) - f(x') = {figure(self.change, signed=True)}"),
            ("delta", f"{figure(self.delta, signed=True)}   {times(ratio)} f(x) - f(x'){self._worst_of_several()}"),
            ("not exact", clean(run.message)),
            ("self leaks", f"{figure(total(self.self_leak), signed=True)} in sum over {calls} calls"),
        ]
        if not self.complete:
            unknown = {"delta", "not exact", "self leaks"} | ({"f(x)", "f(x')"} if math.isnan(output) else set())
            known = [row for row in rows if row[0] not in unknown]
            error = clean(run.message) if run.status == "failed" else ""
            rows = [*known, ("error", error), ("got to", f"{calls} call{'s' * (calls != 1)} recorded, no delta")]
        return [(name, value) for name, value in rows if value]

    def _worst_of_several(self) -> str:
        """The worst example's delta, to follow a sum in which deltas may cancel; "" where there is no sum."""
        run = self.trace.run
        if self.example is not None or run.examples < 2 or not self.complete:
            return ""
        worst = self.judged_example
        return f" in sum; {figure(float(run.delta[worst]), signed=True)} in example {worst}, the worst"


def finding_title(finding: Finding) -> str:
    """ "unseen-op: 47 % of all leaks, caused by exploding-secant"."""
    share = "" if math.isnan(finding.share) else f": {percentage(finding.share)} of all leaks"
    return clean(finding.kind) + share + (f", caused by {clean(finding.caused_by)}" if finding.caused_by else "")


def finding_facts(finding: Finding, report: TraceReport) -> Iterator[tuple[str, str]]:
    """A finding as (label, one clean line): where, why, what to change, what was measured, where it was reported.

    A symptom has no change of its own: it goes when its cause is repaired.
    """
    if finding.node is not None or finding.path:
        more = len(finding.nodes) - 1
        yield "where", call_name(finding) + (f" and {more} more call{'s' * (more > 1)}" if more > 0 else "")
    if finding.source:
        yield "line", clean(finding.source)
    yield "why", clean(finding.message)
    if not finding.caused_by:
        yield "change", clean(finding.advice)
    if finding.delta_after is not None:
        after = f"the delta is {_before_and_after(finding, report)}, measured"
        yield ("alone", f"made exact without its cause, {after}") if finding.caused_by else ("then", after)
    if finding.issues:
        yield "see", "captum " + ", ".join(f"#{issue}" for issue in finding.issues)


def token_attributions(trace: Trace, example: int | None) -> Iterator[tuple[int, str, float]]:
    """(example, token, attribution) of each token of the examples shown; NaN where attributions are not by token."""
    rows = trace.run.tokens
    if not rows:
        return
    first = trace.attributions[0] if trace.attributions else np.zeros(0)
    by_token = None
    if first.ndim >= 2 and first.shape[0] == len(rows):
        by_token = first.reshape(*first.shape[:2], -1).sum(axis=-1, dtype=np.float64)
    for index, tokens in enumerate(rows):
        if example is not None and index != example:
            continue
        fits = by_token is not None and by_token.shape[1] == len(tokens)
        for place, token in enumerate(tokens):
            yield index, token, float(by_token[index, place]) if by_token is not None and fits else math.nan


def repair_steps(repair: Repair) -> list[tuple[str, str, Floats]]:
    """(step, change, delta (E,)) of the run as recorded, of each rung, and of each change alone, which has no step."""
    rungs = [(str(rung.step), rung.change, rung.delta) for rung in repair.ladder]
    singles = [("", f"{single.change}, alone", single.delta) for single in repair.singles]
    return [("0", "as recorded", repair.delta), *rungs, *singles]


def panel_outputs(panel: Panel) -> list[tuple[str, float, float]]:
    """(label, output, output for the reference) of each class; one without a label is named by its number, "7"."""
    labels = [*panel.labels, *map(str, range(len(panel.labels), len(panel.output)))]
    return list(zip(labels, panel.output, panel.output_reference, strict=False))


def ranked(ranking: Ranking, tokens: Sequence[str]) -> list[tuple[str, float, float]]:
    """(token, score, normalised score) by falling score, NaN last; one without a token is named by its place, "#7"."""
    names = [*tokens, *(f"#{index}" for index in range(len(tokens), len(ranking.scores)))]
    rows = list(zip(names, ranking.scores, ranking.normalised, strict=False))
    return sorted(rows, key=lambda row: (math.isnan(row[1]), -row[1]))


def counts(types: dict[str, int]) -> str:
    """ "softmax × 6, gelu × 6": the types with their numbers, most frequent first."""
    ordered = sorted(types.items(), key=lambda item: -item[1])
    return ", ".join(f"{clean(name, 60)} × {count}" for name, count in ordered) or "none"


def _before_and_after(finding: Finding, report: TraceReport) -> str:
    """Two deltas: "-0.1 in example 0 instead of -0.3 in example 2", the worst then and now, where there are several."""
    delta, numbers = report.trace.run.delta, dict(finding.evidence)
    worst = numbers.get(WORST_AFTER)
    if worst is None or finding.delta_after is None:
        now = of_example(delta, None)
        return f"{figure(finding.delta_after or 0.0, signed=True)} instead of {figure(now, signed=True)}"
    example = report.judged_example
    return (
        f"{figure(numbers.get(DELTA_AFTER, math.nan), signed=True)} in example {worst:.0f} "
        f"instead of {figure(float(delta[example]), signed=True)} in example {example}"
    )


def _examples(count: int, example: int | None) -> str:
    if count <= 1:
        return ""
    return f"example {example} of {count} (0 to {count - 1})" if example is not None else f"sums over {count}"
