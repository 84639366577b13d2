"""Faults of rules that couple: pooling windows that overlap, and examples of a batch that change one another."""

from __future__ import annotations

from collections.abc import Iterator

from tracer import ops
from tracer.diagnosis.evidence import Evidence
from tracer.diagnosis.fault import fault
from tracer.diagnosis.gradient_path import stale_calls
from tracer.diagnosis.noted import noted_finding
from tracer.diagnosis.phrases import amount, calls, exact, weight
from tracer.records import Finding
from tracer.text import clean, figure, percentage

_COUPLED = 1e-3
"""Up to this relative difference an example's attributions do not depend on its batch: kernels round differently."""


@fault("pool-overlap")
def pool_overlap(evidence: Evidence) -> Iterator[Finding]:
    """Max pools whose windows overlap: captum unpools by assignment, so it keeps one share of each winner."""
    settings = evidence.at(evidence.noted.get("pool settings", ()))
    stale = stale_calls(evidence)
    nodes = [
        node
        for node in evidence.suspects(("captum",))
        if evidence.columns.types[node] in ops.CAPTUM_POOLS
        and (settings[node].amount if node in settings else node not in stale)
    ]
    for name, group in evidence.by_type(nodes).items():
        worst = evidence.worst_first(group)[0]
        detail = ", ".join(settings[worst].detail.split(", ")[:2]) if worst in settings else ""
        shown = f"{name}({clean(detail, 80)})" if detail else name
        message = (
            f"the windows of {shown} overlap: where several choose the same element, captum's rule keeps the share of "
            f"one and drops those of the others; {weight(evidence, group)}"
        )
        yield evidence.finding(
            "pool-overlap",
            group,
            message,
            f"use windows that do not overlap (stride = kernel_size), or {exact(evidence, name)}",
        )


@fault("batch-coupled", harmful=True)
def batch_coupled(evidence: Evidence) -> Iterator[Finding]:
    """Attributions of an example that depend on the rest of its batch: measured by running the last example alone."""
    for note in evidence.noted.get("batch coupled", ()):
        if not note.amount > _COUPLED:
            continue
        nodes = _couplers(evidence)
        names = list(dict.fromkeys(evidence.columns.types[node] for node in nodes))
        if not names:
            reason = "something in the model computes over the whole batch"
        elif "Softmax" in names:
            reason = "captum's rule for nn.Softmax takes a mean over the whole batch"
        else:
            shown = clean(names[0], 60)
            reason = f"captum's rule for {shown} takes the first example's gradient wherever input and reference agree"
        message = (
            f"the attributions of the last example change by {percentage(note.amount)} when it is attributed alone: "
            f"{reason}{f' ({calls(len(nodes))})' if len(nodes) > 1 else ''}"
        )
        yield evidence.finding(
            "batch-coupled",
            nodes,
            message,
            "attribute one example at a time, or use exact rules, which know no batch: --method exact",
            issues=(1276, 519),
            evidence=(("relative difference", note.amount),),
            leaks=bool(evidence.leaking[nodes].any()) if nodes else False,
        )
        return


def _couplers(evidence: Evidence) -> list[int]:
    """The calls whose rule mixes examples: those of captum's softmax, or else of its max pools."""
    types = evidence.columns.types
    ruled = [node for node, rule in enumerate(evidence.rules) if rule == "captum"]
    softmax = [node for node in ruled if types[node] == "Softmax"]
    return softmax or [node for node in ruled if types[node] in ops.CAPTUM_POOLS]


@fault("coupled-examples", harmful=True)
def coupled_examples(evidence: Evidence) -> Iterator[Finding]:
    """Rows of the input that are not examples: each reaches the outputs of others, as nodes of a graph do."""
    notes = evidence.noted.get("coupled examples", ())
    if notes:
        run = evidence.trace.run
        yield noted_finding(
            evidence,
            "coupled-examples",
            notes,
            f"the rows of the input reach one another's outputs: each row's attributions explain all {run.examples} "
            f"outputs, so a row has a delta of up to {figure(notes[0].amount)} against its own, and only their sum, "
            f"{amount(run.delta.sum(), signed=True)}, says how well the attributions add up",
            "give the rows as one example (x[None], and the output that is to be explained summed or picked), or read "
            "the sum over the rows",
        )
