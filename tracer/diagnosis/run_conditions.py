"""Faults in how a run was made: hooks, subclasses, training mode, precision, and the reference's extra arguments.

The recorder notes them (`tracer.recording.notes`); here they become findings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from tracer.diagnosis.evidence import Evidence
from tracer.diagnosis.fault import fault
from tracer.diagnosis.noted import OR_EXACT, and_more, name_of, noted_finding
from tracer.diagnosis.phrases import amount, number, or_exact
from tracer.records import Finding, Note, NoteKind
from tracer.text import clean, percentage

_MATTERS = 1e-3
"""What f(x') may be off by, as a share of |f(x) − f(x')|, before it is a finding."""
_NONFINITE_QUERY = """SELECT node, dtype, TOTAL(CASE direction WHEN 'in' THEN multiplier_nonfinite END),
    TOTAL(CASE direction WHEN 'out' THEN multiplier_nonfinite END)
FROM edge WHERE multiplier_nonfinite > 0 GROUP BY node"""


@fault("hook-skipped")
def hook_skipped(evidence: Evidence) -> Iterator[Finding]:
    """captum skipped a module because it already had a backward hook."""
    notes = _leaking(evidence, "hook skipped")
    if notes:
        yield noted_finding(
            evidence,
            "hook-skipped",
            notes,
            f"captum skips {name_of(notes[0])}{and_more(notes)} and treats it as linear: {clean(notes[0].detail)}",
            "remove the hook before attributing",
            leaks=True,
        )


@fault("subclass-ignored")
def subclass_ignored(evidence: Evidence) -> Iterator[Finding]:
    """captum has a rule for the base class and looks types up exactly."""
    notes = _leaking(evidence, "subclass ignored")
    if notes:
        base = clean(notes[0].detail).rpartition(" ")[2]
        yield noted_finding(
            evidence,
            "subclass-ignored",
            notes,
            f"captum treats {name_of(notes[0])}{and_more(notes)} as linear: {clean(notes[0].detail)}, "
            "and captum has rules for the exact types only",
            f"use nn.{base} itself, {or_exact(evidence, OR_EXACT)}",
            leaks=True,
        )


@fault("training-mode", harmful=True)
def training_mode(evidence: Evidence) -> Iterator[Finding]:
    """Modules or ops ran in training mode: masks and statistics differ between runs, or are shared by them."""
    notes = evidence.noted["training mode"]
    if not notes:
        return
    always = all("without running statistics" in note.detail for note in notes)
    advice = "call model.eval() first"
    if always:
        advice = "give batch norm running statistics (track_running_stats=True) and call model.eval()"
    batch = all("norm" in note.detail.lower() for note in notes)
    effect = "input and reference share the statistics of their batch"
    if not batch:
        effect = "input and reference are given different random masks"
    if evidence.trace.run.method in ("exact", "gradient"):
        effect = "attributions explain that mode"
    yield noted_finding(
        evidence,
        "training-mode",
        notes,
        f"{name_of(notes[0])} is in training mode ({clean(notes[0].detail)}){and_more(notes)}: {effect}",
        advice,
        leaks=True,
        proof=[("modules", float(len({note.path for note in notes})))],
    )


@fault("half-underflow")
def half_underflow(evidence: Evidence) -> Iterator[Finding]:
    """captum's guard against small differences rounds to 0 in half precision, and 0 / 0 is NaN."""
    began = []
    for node, dtype, into, out in evidence.trace.query(_NONFINITE_QUERY):
        if evidence.is_call(node) and dtype == "float16" and evidence.rules[node] == "captum" and into and not out:
            began.append((node, into))
    if not began:
        return
    node, into = max(began)  # the last call is the first in the backward pass
    call = evidence.node(node)
    finding = evidence.finding(
        "half-underflow",
        [node for node, _into in began],
        f"{number(into)} multipliers of {clean(call.path)} ({clean(call.type)}) are NaN or infinite: "
        f"{evidence.small[node]} of its inputs equal the reference's, and captum's eps of 1e-10 is 0 in half precision",
        f"attribute in float32 (model.float()), {or_exact(evidence, OR_EXACT)}",
        issues=(835,),
        evidence=[("non-finite multipliers", into), ("equal inputs", float(evidence.small[node]))],
        leaks=False,
    )
    yield replace(finding, node=node, path=call.path, call=call.call, source=call.source,
                  nodes=(node, *(other for other in finding.nodes if other != node)))  # fmt: skip


@fault("shared-extras")
def shared_extras(evidence: Evidence) -> Iterator[Finding]:
    """The reference ran with the input's mask or positions; with its own, f(x') would differ."""
    for note, part in _mattering(evidence, "shared extras"):
        yield noted_finding(
            evidence,
            "shared-extras",
            [],
            "captum runs the reference under the input's extra arguments: with its own, f(x') differs by "
            f"{amount(note.amount)}{part}",
            "use method exact, which takes baseline_forward_args, or attribute with extras that fit both",
            issues=(375,),
            proof=[("difference of f(x')", note.amount)],
        )


@fault("other-without-grad")
def other_without_grad(evidence: Evidence) -> Iterator[Finding]:
    """The model computes another function while gradients are off, and captum's delta is of that one."""
    for note, part in _mattering(evidence, "other without grad"):
        yield noted_finding(
            evidence,
            "other-without-grad",
            [],
            f"{clean(note.detail)}, in which the model gives other values than in the run that is explained: f(x) "
            f"and f(x') differ by {amount(note.amount)} in all{part}",
            "make the model compute the same with and without gradients; nn.TransformerEncoder does after "
            "torch.backends.mha.set_fastpath_enabled(False)",
            proof=[("difference without grad", note.amount)],
        )


@fault("multipliers-returned")
def multipliers_returned(evidence: Evidence) -> Iterator[Finding]:
    """captum gave multipliers, or what a function made of them: their sum is not f(x) − f(x')."""
    for note in evidence.noted["multipliers returned"]:
        yield noted_finding(
            evidence,
            "multipliers-returned",
            [],
            f"captum returned no attributions, which this trace shows, but other numbers ({clean(note.detail)}): their "
            "sum is not f(x) − f(x')",
            "for attributions use multiply_by_inputs=True and no custom_attribution_func; otherwise do not read "
            "captum's delta",
            issues=(35, 170),
            proof=[] if math.isnan(note.amount) else [("captum's delta", note.amount)],
        )


@fault("other-module")
def other_module(evidence: Evidence) -> Iterator[Finding]:
    """DeepLift was given a module around the watched one, or a part of it."""
    for note in evidence.noted["other module"]:
        yield noted_finding(
            evidence,
            "other-module",
            [],
            f"DeepLift was given {clean(note.detail)}: this trace is of what DeepLift was given",
            "give tracer.watch the module that DeepLift is given",
        )


def _leaking(evidence: Evidence, kind: NoteKind) -> list[Note]:
    """The notes whose calls leak."""
    return [note for note in evidence.noted[kind] if any(evidence.leaking[node] for node in evidence.at([note]))]


def _mattering(evidence: Evidence, kind: NoteKind) -> Iterator[tuple[Note, str]]:
    """The notes whose amount matters against the output's change, each with its share of that change in words."""
    for note in evidence.noted[kind]:
        if note.amount > _MATTERS * evidence.change:
            yield note, f", {percentage(note.amount / evidence.change)} of f(x) − f(x')" if evidence.change else ""
