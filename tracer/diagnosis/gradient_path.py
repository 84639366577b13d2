"""Faults on the way back: rules that read a gradient too early, and rules that overwrite what others sent back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from tracer import ops
from tracer.diagnosis.evidence import Evidence
from tracer.diagnosis.fault import fault
from tracer.diagnosis.phrases import calls, exact, or_exact, weight
from tracer.records import Finding, Statistics
from tracer.text import clean

_OTHER = 1e-3
"""Gradients that differ by more than this share count as different."""


@fault("stale-gradient")
def stale_gradient(evidence: Evidence) -> Iterator[Finding]:
    """Modules under captum's rule that pass their output tensor to another one: the gradient is read too early.

    The two share that tensor, and captum's hook for the first module runs on it before the hook for the second.
    """
    for name, pairs in _by_type(evidence, stale_calls(evidence)).items():
        nodes = list(evidence.worst_first(pairs))
        first, second = nodes[0], pairs[nodes[0]]
        reader = clean(evidence.columns.paths[first], 80) or name
        writer = f"{clean(evidence.columns.paths[second], 80)} ({clean(evidence.columns.types[second], 60)})"
        several = f" (and {calls(len(nodes) - 1)} alike)" if len(nodes) > 1 else ""
        replaced = _part_replaced(evidence, first)
        message = (
            f"{reader} ({clean(name, 60)}) hands its output straight to {writer}, and captum's rule for the first "
            f"reads the gradient there before the rule for the second has replaced it{several}; "
            f"{weight(evidence, nodes)}"
        )
        yield evidence.finding(
            "stale-gradient",
            nodes,
            message,
            _apart(evidence, list(pairs.values())),
            issues=(1104,),
            evidence=() if replaced is None else (("elements with another gradient", replaced),),
        )


def _apart(evidence: Evidence, takers: list[int]) -> str:
    """What to change so that the rule reads the gradient of the rules behind it, and those conserve."""
    own = sum(float(np.abs(evidence.node(node).self_leak).sum()) for node in takers if node not in evidence.handed_to)
    if own > _OTHER * evidence.change:  # a rule that leaks by itself, which then is read
        return exact(evidence, *(evidence.columns.types[node] for node in takers))
    return f"put something between the two modules that makes a new tensor, such as x.clone(), {or_exact(evidence)}"


@fault("lost-path")
def lost_path(evidence: Evidence) -> Iterator[Finding]:
    """Tensors that several calls take, one of them under captum's rule, which overwrites what the others sent back."""
    yield from _lost_rules(evidence)
    kinds = evidence.columns.kinds
    nodes = list(evidence.worst_first(n for n in evidence.leaks if kinds[n] == "lost"))
    if not nodes:
        return
    first = nodes[0]
    ruled = evidence.handed_to.get(first)
    maker = clean(evidence.columns.paths[first].rpartition("/")[0], 80)
    tensor = f"the output of {maker}" if maker else "a tensor of the model's own"
    count = clean(evidence.columns.types[first].split()[0], 12)
    consumers = count if count not in ("0", "1") else "several"  # those that take a view or a copy are not counted
    rule = "the rule of a module" if ruled is None else f"captum's rule for {clean(evidence.columns.paths[ruled], 80)}"
    several = f" ({calls(len(nodes))} like this)" if len(nodes) > 1 else ""
    message = (
        f"{consumers} calls take {tensor}, and {rule} overwrites the gradient that the others sent back to "
        f"it{several}: their paths are lost; {weight(evidence, nodes).replace('call', 'tensor')}"
    )
    yield evidence.finding(
        "lost-path",
        nodes,
        message,
        f"give the ruled module a tensor of its own, as relu(h.clone()) for relu(h), {or_exact(evidence)}",
    )


def _lost_rules(evidence: Evidence) -> Iterator[Finding]:
    """Modules under captum's rule that take one tensor: only the multipliers of the last of them are kept."""
    silent = [node for node in evidence.suspects(("captum",)) if not evidence.columns.gain[node] > 0]
    overwritten = {node: figures for node, figures, kept in _taken(evidence, silent) if not kept}
    if not overwritten:
        return
    ruled = [node for node, rule in enumerate(evidence.rules) if rule == "captum"]
    keepers = {figures: node for node, figures, kept in _taken(evidence, ruled) if kept}
    winners = {node: keepers[figures] for node, figures in overwritten.items() if figures in keepers}
    if not winners:
        return
    nodes = evidence.worst_first(winners)
    paths = evidence.columns.paths
    several = f" ({calls(len(nodes))} like this)" if len(nodes) > 1 else ""
    message = (
        f"{clean(paths[nodes[0]], 80)} and {clean(paths[winners[nodes[0]]], 80)} take the same tensor, and captum's "
        f"rule for the second overwrites the gradient that the rule for the first sent back to it{several}: their "
        f"paths are lost; {weight(evidence, nodes)}"
    )
    yield evidence.finding(
        "lost-path",
        nodes,
        message,
        f"give each ruled module a tensor of its own, as relu(h.clone()) for relu(h), {or_exact(evidence)}",
    )


def _taken(
    evidence: Evidence, nodes: Iterable[int]
) -> Iterator[tuple[int, tuple[Statistics | None, Statistics | None], bool]]:
    """Each call that takes one tensor, with that tensor's figures and whether the multiplier sent to it was kept."""
    for node in nodes:
        edge = evidence.argument(node)
        if edge is not None:
            yield node, (edge.value_statistics, edge.reference_statistics), edge.multiplier_statistics is not None


def stale_calls(evidence: Evidence) -> dict[int, int]:
    """The leaking calls under captum's rule whose output tensor enters another call under captum's rule: id → id."""
    suspects = list(evidence.suspects(("captum",)))
    return {node: evidence.handed_to[node] for node in suspects if node in evidence.handed_to}


def _by_type(evidence: Evidence, pairs: dict[int, int]) -> dict[str, dict[int, int]]:
    groups = evidence.by_type(pairs)
    return {name: {node: pairs[node] for node in nodes} for name, nodes in groups.items()}


def _part_replaced(evidence: Evidence, node: int) -> float | None:
    """The share of an elementwise call's elements whose rule used another gradient, m_in·Δin/Δout, than arrived."""
    if evidence.columns.types[node] in ops.CAPTUM_POOLS | {"Softmax"}:
        return None
    sides = evidence.both_sides(node)
    if sides is None:
        return None
    x, x_ref, m_in, y, y_ref, m_out = sides
    differing = y != y_ref
    with np.errstate(all="ignore"):
        used = m_in * (x - x_ref) / (y - y_ref)
    other = np.abs(used - m_out) > _OTHER * np.maximum(np.abs(used), np.abs(m_out))
    return float(other[differing].mean()) if differing.any() else None
