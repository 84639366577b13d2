"""Cause before symptom: which findings vanish when the calls of another are made exact, and the order of all."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from tracer.analysis.verdict import changes, relative_to, worst_example
from tracer.diagnosis.evidence import Evidence
from tracer.diagnosis.explosion import sizes_without
from tracer.diagnosis.outcome import all_saturated
from tracer.diagnosis.phrases import or_exact
from tracer.records import Counterfactual, Finding, FindingKind, Floats
from tracer.rules.rulebook import fits
from tracer.text import clean, figure, times

_GONE = 0.1
"""A leak has vanished where less than this share of it is left."""
_STRONGER = 0.2
"""A cause removes its symptom's leak at least five times as well as the symptom removes its cause's."""
_COVERED = 0.9
"""A change belongs to a finding where the calls that it makes exact have this share of the finding's leak."""
_ESTIMATED = 0.99
"""The most that an estimate may claim: a measurement that removes the whole delta stands before it."""
_RULE = re.compile(r"--rule '([^']*)=exact'")
TOGETHER = "make it exact together with the other findings, or everything with --method exact"
# The evidence of a measurement on several examples: which one is the worst then, or is shown, and its delta.
WORST_AFTER: Final = "example once exact"
DELTA_AFTER: Final = "its delta once exact"


@dataclass(slots=True)
class _Case:
    """A finding, the change that was measured for its calls, and its leak `without` any multiplier blown up.

    `left` estimates what part of the delta is left once it alone is exact: without its leaks. NaN where not known.
    """

    finding: Finding
    number: int
    nodes: list[int]
    members: frozenset[int]
    size: float
    without: float
    left: float = math.nan
    change: Counterfactual | None = None

    @property
    def explodes(self) -> bool:
        """Whether this fault makes others look large."""
        return self.finding.kind == "exploding-secant"


def ranked(
    evidence: Evidence, findings: Sequence[Finding], ending: Collection[FindingKind] = ()
) -> tuple[Finding, ...]:
    """The findings, worst first, each symptom under its cause; `caused_by` and `delta_after` are filled in.

    With counterfactuals a finding is the symptom of another one where making that exact takes nine tenths of its leak
    away, and not the other way round. Without, what leaks in calls whose multipliers a later call has blown up is the
    symptom of the explosion. Causes stand by how much of the delta goes with them, as measured or by their leaks, so
    that those which others cancel come last; where multipliers are blown up, by their share of the leaks.
    Kinds in `ending`, which a run does not survive, stand before all others.
    """
    sizes = sizes_without(evidence, [node for f in findings if f.kind == "exploding-secant" for node in f.nodes])
    cases = [_case(evidence, number, finding, sizes) for number, finding in enumerate(findings)]
    explodes = any(case.explodes for case in cases)
    for case in cases:
        case.change = _measured(evidence, case, cases)
        if case.nodes and not explodes:
            case.left = _left_of_delta(evidence, case.nodes)
    total = float(sizes[np.isfinite(sizes)].sum())
    cases.sort(key=lambda case: (case.finding.kind not in ending, *_place(evidence, case, total)))
    causes: list[_Case] = []
    symptoms: dict[int, list[_Case]] = {}
    for case in cases:
        cause = next((other for other in causes if _explains(evidence, other, case)), None)
        if cause is None:
            causes.append(case)
        else:
            symptoms.setdefault(cause.number, []).append(case)
    together = _all_rules(evidence, cases)
    return tuple(
        finding
        for cause in causes
        for finding in (
            _finished(evidence, cause, "", together),
            *(
                _finished(evidence, case, cause.finding.kind, together)
                for case in sorted(symptoms.get(cause.number, []), key=lambda case: -case.size)
            ),
        )
    )


def _case(evidence: Evidence, number: int, finding: Finding, sizes: Floats) -> _Case:
    nodes = [] if math.isnan(finding.share) else list(finding.nodes)
    return _Case(finding, number, nodes, frozenset(nodes), float(evidence.size[nodes].sum()), float(sizes[nodes].sum()))


def _left_of_delta(evidence: Evidence, nodes: Sequence[int]) -> float:
    """The part of Σ |delta| over the examples shown that is left without what these calls add; NaN of no delta."""
    delta = evidence.leaks_by_example.sum(axis=0)
    whole = float(np.abs(delta).sum())
    return (
        float(np.abs(delta - evidence.leaks_by_example[list(nodes)].sum(axis=0)).sum()) / whole if whole else math.nan
    )


def _finished(evidence: Evidence, case: _Case, caused_by: FindingKind | Literal[""], together: str) -> Finding:
    finding = case.finding
    if case.change is None:
        if case.left > 1 and _RULE.search(finding.advice):
            finding = replace(finding, advice=f"its error and that of others cancel in part: {together}")
        return replace(finding, caused_by=caused_by)
    after = float(case.change.delta.sum())
    # The figure was measured with these rules together, so the advice must name them all.
    measured = " ".join(f"--rule '{clean(pattern)}=exact'" for pattern in case.change.pattern.split())
    advice = _RULE.sub(lambda _old: measured, finding.advice)
    run = evidence.trace.run
    numbers, told = finding.evidence, figure(after, signed=True)
    worse = _delta(evidence, case.change.delta) > _delta(evidence, run.delta)
    if run.examples > 1:  # a sum of deltas may cancel
        ratios = [relative_to(delta, changes(run)) for delta in (run.delta, case.change.delta)]
        before, worst = (worst_example(each) if evidence.example is None else evidence.example for each in ratios)
        value, ratio = float(case.change.delta[worst]), float(ratios[1][worst])
        numbers = (*numbers, (WORST_AFTER, float(worst)), (DELTA_AFTER, value))
        told = f"{figure(value, signed=True)} in example {worst}, {times(ratio)} the output's change there"
        worse = ratio > float(ratios[0][before])
    if worse:
        advice = f"on its own an exact rule for it makes the delta {told}; {_together(evidence)}"
    return replace(finding, advice=advice, caused_by=caused_by, delta_after=after, evidence=numbers)


def _all_rules(evidence: Evidence, cases: Sequence[_Case]) -> str:
    """The advice to make the calls of all findings exact that have a rule for them."""
    held: set[int] = set()
    kept: list[str] = []
    nodes = sorted({node for case in cases for node in case.nodes})
    # A rulebook refuses an override of which later ones take every call.
    for pattern in dict.fromkeys(match[1] for case in cases for match in _RULE.finditer(case.finding.advice)):
        fitting = {node for node in nodes if fits((pattern,), evidence.names(node))}
        if not fitting <= held:
            kept.insert(0, f"--rule {shlex.quote(f'{pattern}=exact')}")
            held |= fitting
    if len(kept) < 2:
        return _together(evidence)
    return f"make them exact together with {' '.join(kept)}, {or_exact(evidence, 'or everything with --method exact')}"


def _together(evidence: Evidence) -> str:
    return TOGETHER if evidence.trace.run.method != "exact" else "make it exact together with the other findings"


def _place(evidence: Evidence, case: _Case, total: float) -> tuple[float, ...]:
    """What the findings are sorted by, smallest first."""
    numbers = dict(case.finding.evidence)
    if case.change is not None:
        before = _delta(evidence, evidence.trace.run.delta)
        weight = 1 - _delta(evidence, case.change.delta) / before if before else 0.0
    elif not math.isnan(case.left):
        weight = min(1 - case.left, _ESTIMATED)
    else:
        weight = case.without / total if total else 0.0
        if case.explodes:
            weight += numbers["blown up"]
        weight = min(weight, _ESTIMATED)
    if case.finding.kind == "masked-difference":  # never a cause: that is the rule behind the mask
        weight = 0.0
    # Of two findings on the same calls the one with the larger flow; a dropped one first where its flow is not known.
    flow = abs(numbers.get("flow", math.inf if "dropped elements" in numbers else 0.0))
    return (
        0.0 if case.finding.kind == "saturated-output" and all_saturated(evidence) else 1.0,
        -round(weight, 6),
        0.0 if case.explodes else 1.0,
        -flow,
        case.number,
    )


def _delta(evidence: Evidence, delta: Floats) -> float:
    """Σ |delta| over the examples shown."""
    return float(np.abs(evidence.shown(delta)).sum())


def _explains(evidence: Evidence, cause: _Case, case: _Case) -> bool:
    """Whether `case` is a symptom of `cause`."""
    if not case.nodes or not cause.nodes or not cause.members.isdisjoint(case.members):
        return False
    if cause.change is None or not len(cause.change.self_leak):
        return cause.explodes and case.without <= _GONE * case.size
    left = _left(evidence, cause.change, case)
    back = 1.0 if case.change is None else _left(evidence, case.change, cause)
    # Any call made exact shrinks the multipliers before it; of two that explain each other the stronger is the cause.
    return left <= _GONE and left <= _STRONGER * back


def _left(evidence: Evidence, change: Counterfactual, case: _Case) -> float:
    """The part of a finding's leak that is left after a change; 1 where that was not measured."""
    nodes = [node for node in case.nodes if len(change.self_leak) and not math.isnan(change.self_leak[node])]
    before = float(np.abs(evidence.columns.self_leak[nodes]).sum())
    return float(np.abs(change.self_leak[nodes]).sum()) / before if before else 1.0


def _measured(evidence: Evidence, case: _Case, cases: Sequence[_Case]) -> Counterfactual | None:
    """The single change that makes a finding's calls exact; of several the one that makes the fewest calls exact."""
    best: tuple[int, Counterfactual] | None = None
    everything = sorted({node for other in cases for node in other.nodes})
    for change in evidence.trace.counterfactuals:
        if change.step or not case.nodes or len(change.self_leak) not in (0, len(evidence.size)):
            continue
        if case.finding.kind == "lost-path":  # made exact by the rule of the call that takes the tensor
            covers = _left(evidence, change, case) <= _GONE
        else:
            exact = [node for node in case.nodes if _made_exact(evidence, node, change)]
            covers = float(evidence.size[exact].sum()) >= _COVERED * case.size
        if covers:
            count = sum(_made_exact(evidence, node, change) for node in everything)
            if best is None or count < best[0]:
                best = (count, change)
    return None if best is None else best[1]


def _made_exact(evidence: Evidence, node: int, change: Counterfactual) -> bool:
    """Whether one of a change's patterns fits a call."""
    return fits(change.pattern.split(), evidence.names(node))
