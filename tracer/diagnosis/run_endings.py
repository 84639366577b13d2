"""Faults that end captum's run, or make it explain another function: how modules are called, inputs and outputs.

The recorder notes them (`tracer.recording.notes`); captum's error tells which of them ended the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from tracer.diagnosis.evidence import Evidence
from tracer.diagnosis.fault import fault
from tracer.diagnosis.noted import OR_EXACT, and_more, name_of, noted_finding
from tracer.diagnosis.phrases import amount
from tracer.records import Finding
from tracer.text import clean

_MATTERS = 1e-3
"""What f(x) − f(x') may be off by, as a share of |f(x) − f(x')|, before it is a finding."""

_FOR_DOUBLED: dict[float, str] = {
    0: "use method exact, which runs the inputs and the references one after the other",
    1: "give the input as a batch of one example, x[None]",
    2: "give the model a batch axis, first in its input and in its output, and the input as one example, x[None]",
}


@fault("integer-input", ends_run=True)
def integer_input(evidence: Evidence) -> Iterator[Finding]:
    """The attributed input is not a floating-point tensor."""
    for note in evidence.noted["integer input"][:1]:
        kind, _, where = note.detail.partition("; ")
        yield noted_finding(
            evidence,
            "integer-input",
            [],
            f"the input has {clean(kind)}, which has no differences to share out",
            f"{clean(where)} instead of to token ids",
            issues=(347,),
        )


@fault("no-module", ends_run=True)
def no_module(evidence: Evidence) -> Iterator[Finding]:
    """captum's DeepLift was given a function, and it works by hooks on modules."""
    for note in evidence.noted["no module"][:1]:
        yield noted_finding(
            evidence,
            "no-module",
            [],
            f"DeepLift was given a {clean(note.detail)}, and can hook modules only",
            "write what the function does into the forward of an nn.Module that holds the model, and give that to "
            "DeepLift and to tracer.watch",
        )


@fault("non-tensor-output", ends_run=True)
def non_tensor_output(evidence: Evidence) -> Iterator[Finding]:
    """captum cannot take the model's output apart."""
    notes = evidence.noted["non-tensor output"]
    if notes and _failed(evidence, "chunk()", "the model gives"):
        yield noted_finding(
            evidence,
            "non-tensor-output",
            [],
            f"the model returns a {clean(notes[0].detail)}, and captum takes a tensor only",
            "wrap the model in a module that returns its logits, or record it with tracer.record, which unwraps them",
            issues=(480,),
        )


@fault("keyword-call", ends_run=True)
def keyword_call(evidence: Evidence) -> Iterator[Finding]:
    """A ruled module was called without a positional input."""
    if not _failed(evidence):
        return
    for note in evidence.noted["keyword call"][-1:]:
        yield noted_finding(
            evidence,
            "keyword-call",
            [note],
            f"captum sees positional inputs only: {name_of(note)}, {clean(note.detail)}",
            f"pass the input by position, {OR_EXACT}",
        )


@fault("no-grad-call", ends_run=True)
def no_grad_call(evidence: Evidence) -> Iterator[Finding]:
    """A ruled module was called on a tensor without a gradient."""
    if not _failed(evidence):
        return
    for note in evidence.noted["no-grad call"][-1:]:
        yield noted_finding(
            evidence,
            "no-grad-call",
            [note],
            f"captum needs a gradient at every module that it rules: {name_of(note)}, {clean(note.detail)}",
            "let its gradient through: a function instead of the module, or method exact, would run, but nothing that "
            "goes this way would be attributed",
        )


@fault("reused-module", ends_run=True)
def reused_module(evidence: Evidence) -> Iterator[Finding]:
    """captum refused a module that runs more than once."""
    notes = evidence.noted["reused module"]
    if not (notes and _failed(evidence, "more than once", "required for DeepLift")):
        return
    # captum names the type of module that it failed at; a failed run has no leaks that could tell which one.
    stopped = [note for note in notes if f"Module {note.detail}(" in evidence.trace.run.message]
    first = (stopped or notes)[0]
    others = len({note.path for note in notes}) - 1
    too = f" (and so {'does' if others == 1 else 'do'} {others} more)" if others else ""
    yield noted_finding(
        evidence,
        "reused-module",
        [first, *(note for note in notes if note is not first)],
        f"{name_of(first)} ({clean(first.detail)}) runs {first.amount:.0f} times{too}, "
        "and captum keeps one input and one output a module",
        f"give each call a module of its own, {OR_EXACT}, which takes a module as often as it runs",
        issues=(199, 578, 934),
        proof=[("calls", first.amount)],
    )


@fault("in-place-target", ends_run=True)
def in_place_target(evidence: Evidence) -> Iterator[Finding]:
    """A tensor that a rule needs is overwritten, or a pool gives more than captum's hooks can take."""
    if _failed(evidence, "inplace operation"):
        notes = evidence.noted["overwritten output"]
        what = "a tensor that the backward pass needs is overwritten"
        if notes:
            last = notes[-1]
            place = f" at {clean(last.source)}" if last.source else ""
            what = f"the output of {name_of(last)} is overwritten {clean(last.detail)}{place}, and the rules need it"
        yield noted_finding(
            evidence, "in-place-target", notes[-1:], what, "write to a new tensor: y = y + 1 for y += 1",
            issues=(382, 415), source=notes[-1].source if notes else None,
        )  # fmt: skip
    elif _failed(evidence, ">1 output", "maxpool modul"):
        notes = [note for note in evidence.noted["pool settings"] if "return_indices=True" in note.detail]
        if notes:
            yield noted_finding(
                evidence,
                "in-place-target",
                notes,
                f"{name_of(notes[0])} returns its indices too, and captum's hooks take one output",
                f"make the pool with return_indices=False, {OR_EXACT}",
                issues=(382, 415),
            )
    elif not _failed(evidence):
        yield from _changed_function(evidence)


@fault("doubled-batch", ends_run=True)
def doubled_batch(evidence: Evidence) -> Iterator[Finding]:
    """captum joins the inputs and their references into one batch, and the model does not run on that."""
    for note in evidence.noted["doubled batch"][:1]:
        advice = _FOR_DOUBLED.get(note.amount, _FOR_DOUBLED[0])
        yield noted_finding(
            evidence,
            "doubled-batch",
            [],
            "captum gives the model inputs and references in one batch, of twice the rows, which it cannot take: "
            f"{clean(note.detail)}",
            advice,
            issues=(798, 975, 1177),
        )


def _changed_function(evidence: Evidence) -> Iterator[Finding]:
    """captum gave a copy to a module that works in place, and so explained another function."""
    notes = [n for n in evidence.noted["in-place input"] if not n.amount <= _MATTERS * evidence.change]
    if not notes:
        return
    off = notes[0].amount
    known = "" if math.isnan(off) else f": f(x) − f(x') changes by {amount(off)}"
    yield noted_finding(
        evidence,
        "in-place-target",
        notes,
        f"{name_of(notes[0])} overwrites a tensor that is read again{and_more(notes)}; captum gives it a copy, "
        f"so another function is explained{known}",
        "set inplace=False and write out what the model means",
        issues=(382, 415),
        proof=[] if math.isnan(off) else [("change of f", off)],
    )


def _failed(evidence: Evidence, *words: str) -> bool:
    """Whether the run failed; where `words` are given, with one of them in its error."""
    run = evidence.trace.run
    return run.status == "failed" and (not words or any(word in run.message for word in words))
