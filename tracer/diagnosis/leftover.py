"""What leaks though no fault explains it: rules that should conserve, code that was not seen, cut paths."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator

from tracer import ops
from tracer.diagnosis.evidence import Evidence
from tracer.diagnosis.noted import and_more, name_of
from tracer.diagnosis.phrases import amount, exact, weight
from tracer.records import DECIDED, Finding, LeftoverKind, Note, NoteKind
from tracer.text import clean

_CUTS: tuple[NoteKind, ...] = ("cut", "unseen")
_REPORT = "if it takes nothing else that differs between input and reference, please report it with this trace"
_FAR_BELOW = -1e3
"""An element is masked where it lies this many times their size below all unmasked elements."""


def leftovers(evidence: Evidence, named: Collection[int]) -> Iterator[Finding]:
    """Findings on the leaking calls that no fault has `named`."""
    groups: dict[tuple[LeftoverKind, str], list[int]] = defaultdict(list)
    differing = evidence.at(evidence.noted.get("differing constant", ()))
    for node in evidence.leaks:
        if node not in named and evidence.in_sum(node):
            kind = _kind(evidence, node, node in differing)
            if kind is not None:
                groups[kind, evidence.columns.types[node]].append(node)
    for (kind, name), nodes in groups.items():
        yield LEFTOVERS[kind](evidence, clean(name, 60), nodes)


def _kind(evidence: Evidence, node: int, differing: bool) -> LeftoverKind | None:
    """Why a call leaks that no fault names; None for a lost path, and for what low precision alone may cost."""
    columns, rule = evidence.columns, evidence.rules[node]
    name = columns.types[node]
    if columns.kinds[node] == "unobserved" or columns.end[node] > node + 1:
        if rule == "approximated":
            return "approximated-rule"
        return "differing-constant" if node == 0 and _cut(evidence) else "unobserved-code"
    if columns.kinds[node] == "lost":
        return None
    if differing or rule == "differing constant":
        return "differing-constant"
    if rule == "approximated":
        return "approximated-rule"
    exactly = evidence.ruled_exactly(node)
    if rule in ("autograd", "gradient") and (exactly or ops.is_linear(name)):
        if not evidence.precise(node):
            return None
        if name in ("add", "sub") and _masks(evidence, node):
            return "masked-difference"
        # Autograd is exact for linear ops, and for what exact rules leave to it: another operand must differ.
        if columns.kinds[node] == "op":
            return "differing-constant"
    return "differing-constant" if exactly and rule == "exact" and _cut(evidence) else "unconserving-rule"


def _cut(evidence: Evidence) -> list[Note]:
    """The notes on calls that hand their values on without a gradient."""
    return [note for kind in _CUTS for note in evidence.noted.get(kind, ())]


def _masks(evidence: Evidence, node: int) -> bool:
    """Whether a call adds a mask so far below its elements that their differences are lost in rounding."""
    edges = evidence.trace.edges(node)
    taken = [edge for edge in edges if edge.direction == "in"]
    made = [edge for edge in edges if edge.direction == "out"]
    if len(taken) != 1 or len(made) != 1:
        return False
    x, y, before, after = (
        taken[0].value_statistics, made[0].value_statistics,
        taken[0].difference_statistics, made[0].difference_statistics,
    )  # fmt: skip
    if x is None or y is None or before is None or after is None:
        return False
    return y.minimum < _FAR_BELOW * max(abs(x.minimum), abs(x.maximum)) and after.norm < before.norm


def _unconserving(evidence: Evidence, name: str, nodes: list[int]) -> Finding:
    worst = evidence.worst_first(nodes)[0]
    rule, ratio = evidence.rules[worst], evidence.sent_back(worst)
    who = {"captum": "captum's rule", "exact": "the exact rule", "rescale": "the rescale rule"}.get(
        rule, "the gradient"
    )
    back = "something, though nothing arrives" if math.isnan(ratio) else f"{amount(ratio)} of what it should"
    message = f"{who} of {name} does not conserve: it sends back {back}; {weight(evidence, nodes)}"
    advice = _REPORT if rule == "exact" else exact(evidence, name)
    return evidence.finding("unconserving-rule", nodes, message, advice, evidence=(("sent back", ratio),))


def _unobserved(evidence: Evidence, name: str, nodes: list[int]) -> Finding:
    whole = nodes == [0]
    what = "code that the recorder cannot see into" if whole else f"{name} is code that the recorder cannot see into"
    message = (
        f"{what}, such as a custom autograd function, and has no rule: the plain gradient is sent back through it; "
        f"{weight(evidence, nodes)}"
    )
    advice = "use --method exact, which averages its slope along the way"
    if evidence.trace.run.method == "exact":
        advice = "write it with functions of torch in the model itself, which have rules"
    return evidence.finding("unobserved-code", nodes, message, advice)


def _approximated(evidence: Evidence, name: str, nodes: list[int]) -> Finding:
    message = (
        f"there is no exact rule for {name}: its slope is averaged along the straight way from reference to input, "
        f"which is not exact here; {weight(evidence, nodes)}"
    )
    advice = "write it with functions that have an exact rule, or choose a reference nearer to the input"
    return evidence.finding("approximated-rule", nodes, message, advice)


def _masked(evidence: Evidence, name: str, nodes: list[int]) -> Finding:
    message = (
        f"{name} puts masked elements so far below the others that their differences vanish in rounding, and the rule "
        f"of a call behind it, such as a softmax, still sends multipliers back to them; {weight(evidence, nodes)}"
    )
    return evidence.finding("masked-difference", nodes, message, exact(evidence, "softmax"))


def _differing(evidence: Evidence, name: str, nodes: list[int]) -> Finding:
    message = (
        f"{name} takes a tensor that differs between input and reference and that no gradient reaches, such as a mask "
        f"or a detached value; what it does to the output is attributed to no input; {weight(evidence, nodes)}"
    )
    cut = _cut(evidence)
    if nodes == [0] and cut:
        message = (
            f"{name_of(cut[0])}{and_more(cut)} hands its value on without a gradient, and no other way leads from "
            f"there to the input; what it does to the output is attributed to no input; {weight(evidence, nodes)}"
        )
    advice = "attribute to that tensor too, let its gradient through, or keep it the same in both runs"
    decided = evidence.at(note for note in evidence.noted.get("discrete choice", ()) if note.detail == DECIDED)
    if all(node in decided for node in nodes):
        advice = "use --method exact, which attributes what such a choice does to what the input decides it by"
    return evidence.finding("differing-constant", nodes, message, advice)


LEFTOVERS: dict[LeftoverKind, Callable[[Evidence, str, list[int]], Finding]] = {
    "unconserving-rule": _unconserving,
    "unobserved-code": _unobserved,
    "approximated-rule": _approximated,
    "masked-difference": _masked,
    "differing-constant": _differing,
}
