"""Faults of captum's rule for softmax: one secant for each element, less the mean over the whole tensor.

    m_in = m_out·Δout/Δin − mean(m_out·Δout/Δin)        (the gradient instead of the secant where |Δin| < 1e-10)

So Σ m_in·Δin = Σ m_out·Δout − mean·ΣΔin − what the fallback drops: two leaks, and secants that nothing bounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from tracer import ops
from tracer.diagnosis.evidence import Evidence
from tracer.diagnosis.explosion import exploding, sizes_without
from tracer.diagnosis.fault import fault
from tracer.diagnosis.phrases import amount, exact, number, weight
from tracer.records import Finding
from tracer.text import clean, figure, percentage

_SMALL = 1e-10  # captum's eps
_UNSEEN_PART = 1e-2
_EVEN = 1e-5
_READ = 24
_ISSUES = (519,)


@fault("softmax-normalised")
def softmax_normalised(evidence: Evidence) -> Iterator[Finding]:
    """Softmax modules under captum's rule, which subtracts one mean from all multipliers."""
    nodes = [node for node in evidence.suspects(("captum",)) if evidence.columns.types[node] == "Softmax"]
    parts = _parts_of(evidence, nodes)
    nodes = [node for node in nodes if not abs(parts[node][1]) < _UNSEEN_PART * evidence.size[node]]
    nodes = [node for node in nodes if not (evidence.dropped[node] and _balanced(evidence, node))]
    if nodes:
        message = (
            "captum's rule for nn.Softmax takes one mean, over all rows, heads and examples of the batch, off every "
            "multiplier, though the probabilities of a row depend on the logits of that row alone; "
            f"{weight(evidence, nodes)}"
        )
        flow = sum(parts[node][1] for node in nodes)
        yield evidence.finding(
            "softmax-normalised",
            nodes,
            message,
            exact(evidence, "softmax"),
            issues=(519, 1367),
            evidence=() if math.isnan(flow) else (("flow", flow),),
        )


@fault("dropped-difference")
def dropped_difference(evidence: Evidence) -> Iterator[Finding]:
    """Calls ruled element by element where an element's input is the same in both runs and its output is not."""
    nodes = [node for node in evidence.suspects(("captum", "rescale")) if evidence.dropped[node]]
    parts = _parts_of(evidence, nodes)
    nodes = [node for node in nodes if not abs(parts[node][0]) < _UNSEEN_PART * evidence.size[node]]
    for name, group in evidence.by_type(nodes).items():
        dropped = int(evidence.dropped[group].sum())
        elements = float(evidence.elements[group].sum())
        flow = sum(parts[node][0] for node in group)
        lost = "" if math.isnan(flow) else f" ({amount(flow, signed=True)})"
        message = (
            f"{figure(dropped)} of {figure(elements)} elements that enter {clean(name, 60)} are equal in input and "
            f"reference but differ when they come out, and a rule that works element by element drops what they do to "
            f"the output{lost}; {weight(evidence, group)}"
        )
        yield evidence.finding(
            "dropped-difference",
            group,
            message,
            _made_exact(evidence, name),
            issues=_ISSUES,
            evidence=(
                ("dropped elements", dropped),
                ("elements", elements),
                *(() if math.isnan(flow) else (("flow", flow),)),
            ),
        )


@fault("exploding-secant", harmful=True)
def exploding_secant(evidence: Evidence) -> Iterator[Finding]:
    """Calls ruled element by element whose multipliers grow beyond the op's steepest slope."""
    for name, group in evidence.by_type(exploding(evidence)).items():
        secant = float(np.nanmax(evidence.largest_secant[group]))
        gain = float(np.nanmax(evidence.columns.gain[group]))
        before = evidence.size - sizes_without(evidence, group)
        before[group] = 0
        blown_up = float(before.sum()) / evidence.total if evidence.total else 0.0
        shown = "nn.Softmax" if name == "Softmax" else clean(name, 60)
        message = (
            f"{shown} is ruled element by element, though its elements depend on one another: where one hardly "
            f"differs from the reference the rule divides by almost nothing, and multipliers grow up to "
            f"{number(secant)} times ({number(gain)} times in norm)"
        )
        if blown_up >= 0.005:
            message += f"; {percentage(blown_up)} of the error arises in calls before it that are blown up by this"
        yield evidence.finding(
            "exploding-secant",
            group,
            message,
            _made_exact(evidence, name),
            issues=_ISSUES,
            evidence=(("largest secant", secant), ("largest gain", gain), ("blown up", blown_up)),
        )


def _made_exact(evidence: Evidence, name: str) -> str:
    """The advice to rule calls of the type `name` exactly; softmaxes by one pattern that fits module and op."""
    return exact(evidence, "softmax" if ops.common_name(name) == "softmax" else name)


def _parts_of(evidence: Evidence, nodes: Sequence[int]) -> dict[int, tuple[float, float]]:
    """The two parts of the worst calls' leaks; NaN for all others, whose tensors are not read."""
    worst = set(evidence.worst_first(nodes)[:_READ])
    return {node: _parts(evidence, node) if node in worst else (math.nan, math.nan) for node in nodes}


def _parts(evidence: Evidence, node: int) -> tuple[float, float]:
    """The two parts of a call's leak: (what the fallback drops, what the mean subtracts); NaN without tensors."""
    sides = evidence.both_sides(node)
    if sides is None:
        return math.nan, math.nan
    x, x_ref, m_in, y, y_ref, m_out = sides
    din, dout = x - x_ref, y - y_ref
    dropped = (np.abs(din) < _SMALL) & (np.abs(dout) >= _SMALL)
    flow = float((m_in * din - m_out * dout)[dropped].sum())
    return flow, float(evidence.self_leak[node]) - flow


def _balanced(evidence: Evidence, node: int) -> bool:
    """Whether Σ Δin = 0, so that subtracting one number from all multipliers leaves the flow as it is."""
    edge = evidence.argument(node)
    difference = None if edge is None else edge.difference_statistics
    if difference is None:
        return False
    return abs(difference.mean) * math.sqrt(difference.count) <= _EVEN * difference.norm
