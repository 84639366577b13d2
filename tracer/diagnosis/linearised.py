"""Faults of what has no rule: it is treated as linear, and sends back the gradient at the input.

"unseen-op" is also an op that a fused function hides, such as the softmax in `scaled_dot_product_attention`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tracer import ops
from tracer.diagnosis.evidence import Evidence
from tracer.diagnosis.fault import fault
from tracer.diagnosis.outcome import saturated_call
from tracer.diagnosis.phrases import exact, taker, weight
from tracer.diagnosis.taken_for_linear import norm_of
from tracer.records import Finding
from tracer.text import clean


@fault("unseen-op")
def unseen_op(evidence: Evidence) -> Iterator[Finding]:
    """Non-linear functions called without a module: captum hooks modules only."""
    for name, group in evidence.by_type(_linearised(evidence, "unseen-op")).items():
        shown = clean(name, 60)
        advice = exact(evidence, name)
        module = ops.captum_module(name)
        if module and evidence.trace.run.method == "captum":
            advice = f"call an nn.{module} module of its own instead, which captum rules, or {advice}"
        said = (
            f"captum has rules for modules only: it does not see the function {shown} and treats it as linear"
            if evidence.trace.run.method == "captum"
            else f"the rulebook treats the function {shown} as linear"
        )
        yield evidence.finding(
            "unseen-op", group, f"{said}; {weight(evidence, group)}", advice, issues=(351, 1082, 1085)
        )


@fault("unsupported-module")
def unsupported_module(evidence: Evidence) -> Iterator[Finding]:
    """Non-linear modules whose type captum has no rule for."""
    for name, group in evidence.by_type(_linearised(evidence, "unsupported-module")).items():
        shown = clean(name, 60)
        said = (
            f"captum has no rule for the module type {shown} and treats it as linear"
            if evidence.trace.run.method == "captum"
            else f"the rulebook treats the module type {shown} as linear"
        )
        yield evidence.finding(
            "unsupported-module", group, f"{said}; {weight(evidence, group)}", exact(evidence, name), issues=(1357,)
        )


@fault("linearised-product")
def linearised_product(evidence: Evidence) -> Iterator[Finding]:
    """Products of two tensors that both vary: the gradient holds each factor fixed at its input."""
    for name, group in evidence.by_type(_linearised(evidence, "linearised-product")).items():
        message = (
            f"{clean(name, 60)} multiplies two tensors that both change with the input, and {taker(evidence)} sends "
            f"the gradient back as if each of them changed alone; {weight(evidence, group)}"
        )
        yield evidence.finding("linearised-product", group, message, exact(evidence, name), issues=(1085,))


@fault("linearised-norm")
def linearised_norm(evidence: Evidence) -> Iterator[Finding]:
    """Normalisations whose divisor, the spread of their input, the rule holds fixed."""
    groups: dict[str, list[int]] = defaultdict(list)
    columns = evidence.columns
    for node in _linearised(evidence, "linearised-norm"):
        groups[norm_of(columns.kinds[node], columns.types[node], evidence.module_types[node])].append(node)
    for name, group in groups.items():
        message = (
            f"{clean(name, 60)} divides by the spread of its input, which differs in the reference, and "
            f"{taker(evidence)} treats the call as linear; {weight(evidence, group)}"
        )
        yield evidence.finding("linearised-norm", group, message, exact(evidence, name))


def _linearised(evidence: Evidence, fault: str) -> list[int]:
    """The leaking calls that show `fault`, without those that another fault explains."""
    nodes = evidence.linearised.get(fault, [])
    saturated = saturated_call(evidence) if nodes else None
    return [node for node in nodes if node not in evidence.accounted and node != saturated]
