"""Faults that lie in the circumstances of a run: how modules are called, hooks, modes, precision, arguments, outputs.

The recorder notes them (`tracer.recording.notes`); here they become findings. Those of `ENDING` end a captum run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from tracer.diagnosis.evidence import Evidence, gather
from tracer.diagnosis.wording import number
from tracer.records import EvidenceName, Finding, FindingKind, Note, NoteKind
from tracer.text import clean, figure, percentage
from tracer.tracefile.trace import Trace

# What f(x') or f(x) − f(x') may be off by, as a share of |f(x) − f(x')|, before it is worth a word.
_MATTERS = 1e-3
_EXACT = "or use method exact"
_NONFINITE_QUERY = """SELECT node, dtype, TOTAL(CASE direction WHEN 'in' THEN multiplier_nonfinite END),
    TOTAL(CASE direction WHEN 'out' THEN multiplier_nonfinite END)
FROM edge WHERE multiplier_nonfinite > 0 GROUP BY node"""

Fault = Callable[[Evidence], Iterator[Finding]]


def reused_module(evidence: Evidence) -> Iterator[Finding]:
    """captum refused a module that runs more than once."""
    notes = evidence.noted["reused module"]
    if not (notes and _failed(evidence, "more than once", "required for DeepLift")):
        return
    # captum names the type that it failed at; of a failed run no leak says which module that is.
    stopped = [note for note in notes if f"Module {note.detail}(" in evidence.trace.run.message]
    first = (stopped or notes)[0]
    others = len({note.path for note in notes}) - 1
    too = f" (and so {'does' if others == 1 else 'do'} {others} more)" if others else ""
    yield _at(
        evidence,
        "reused-module",
        [first, *(note for note in notes if note is not first)],
        f"{_name(first)} ({clean(first.detail)}) runs {first.amount:.0f} times{too}, "
        "and captum keeps one input and one output a module",
        f"give each call a module of its own, {_EXACT}, which takes a module as often as it runs",
        issues=(199, 578, 934),
        proof=[("calls", first.amount)],
    )


def keyword_call(evidence: Evidence) -> Iterator[Finding]:
    """A ruled module was called without a positional input, or on a tensor without a gradient."""
    if not _failed(evidence):
        return
    for note in evidence.noted["keyword call"][-1:]:
        yield _at(
            evidence,
            "keyword-call",
            [note],
            f"captum sees positional inputs only: {_name(note)}, {clean(note.detail)}",
            f"pass the input by position, {_EXACT}",
        )
    for note in evidence.noted["no-grad call"][-1:]:
        yield _at(
            evidence,
            "no-grad-call",
            [note],
            f"captum needs a gradient at every module that it rules: {_name(note)}, {clean(note.detail)}",
            f"call a function such as torch.relu there instead of a module, {_EXACT}",
        )


def integer_input(evidence: Evidence) -> Iterator[Finding]:
    """The attributed input is no floating-point tensor."""
    for note in evidence.noted["integer input"][:1]:
        kind, _, where = note.detail.partition("; ")
        yield _at(
            evidence,
            "integer-input",
            [],
            f"the input has {clean(kind)}, which has no differences to share out",
            f"{clean(where)} instead of to token ids",
            issues=(347,),
        )


def non_tensor_output(evidence: Evidence) -> Iterator[Finding]:
    """captum cannot take the model's output apart."""
    notes = evidence.noted["non-tensor output"]
    if notes and _failed(evidence, "chunk()", "the model gives"):
        yield _at(
            evidence,
            "non-tensor-output",
            [],
            f"the model returns a {clean(notes[0].detail)}, and captum takes a tensor only",
            "wrap the model in a module that returns its logits, or record it with tracer.record, which unwraps them",
            issues=(480,),
        )


def in_place_target(evidence: Evidence) -> Iterator[Finding]:
    """A tensor that a rule needs is overwritten, or a pool gives more than captum's hooks can take."""
    if _failed(evidence, "inplace operation"):
        notes = evidence.noted["overwritten output"]
        what = "a tensor that the backward pass needs is overwritten"
        if notes:
            last = notes[-1]
            place = f" at {clean(last.source)}" if last.source else ""
            what = f"the output of {_name(last)} is overwritten {clean(last.detail)}{place}, and the rules need it"
        yield _at(
            evidence, "in-place-target", notes[-1:], what, "write to a new tensor: y = y + 1 for y += 1",
            issues=(382, 415), source=notes[-1].source if notes else None,
        )  # fmt: skip
    elif _failed(evidence, ">1 output", "maxpool modul"):
        notes = [note for note in evidence.noted["pool settings"] if "return_indices=True" in note.detail]
        if notes:
            yield _at(
                evidence,
                "in-place-target",
                notes,
                f"{_name(notes[0])} returns its indices too, and captum's hooks take one output",
                f"make the pool with return_indices=False, {_EXACT}",
                issues=(382, 415),
            )
    elif not _failed(evidence):
        yield from _changed_function(evidence)


def _changed_function(evidence: Evidence) -> Iterator[Finding]:
    """captum let a module that works in place work on a copy, and so explained another function."""
    notes = [n for n in evidence.noted["in-place input"] if not n.amount <= _MATTERS * evidence.change]
    if not notes:
        return
    amount = notes[0].amount
    known = "" if math.isnan(amount) else f": f(x) − f(x') changes by {figure(float(f'{amount:.3g}'))}"
    yield _at(
        evidence,
        "in-place-target",
        notes,
        f"{_name(notes[0])} overwrites a tensor that is read again{_more(notes)}; captum gives it a copy, "
        f"so another function is explained{known}",
        "set inplace=False and write out what the model means",
        issues=(382, 415),
        proof=[] if math.isnan(amount) else [("change of f", amount)],
    )


def hook_skipped(evidence: Evidence) -> Iterator[Finding]:
    """captum passed over a module because it carried a backward hook already."""
    notes = _leaking(evidence, "hook skipped")
    if notes:
        yield _at(
            evidence,
            "hook-skipped",
            notes,
            f"captum skips {_name(notes[0])}{_more(notes)} and takes it for linear: {clean(notes[0].detail)}",
            "remove the hook before attributing",
            leaks=True,
        )


def subclass_ignored(evidence: Evidence) -> Iterator[Finding]:
    """captum has a rule for the base class and looks types up exactly."""
    notes = _leaking(evidence, "subclass ignored")
    if notes:
        base = clean(notes[0].detail).rpartition(" ")[2]
        yield _at(
            evidence,
            "subclass-ignored",
            notes,
            f"captum takes {_name(notes[0])}{_more(notes)} for linear: {clean(notes[0].detail)}, "
            "and captum has rules for the exact types only",
            f"use nn.{base} itself, {_EXACT}",
            leaks=True,
        )


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
    yield _at(
        evidence,
        "training-mode",
        notes,
        f"{_name(notes[0])} is in training mode ({clean(notes[0].detail)}){_more(notes)}: {effect}",
        advice,
        leaks=True,
        proof=[("modules", float(len({note.path for note in notes})))],
    )


def half_underflow(evidence: Evidence) -> Iterator[Finding]:
    """captum's guard against small differences rounds to 0 in half precision, and 0 / 0 is no number."""
    count = len(evidence.rules)
    began = []
    for node, dtype, into, out in evidence.trace.query(_NONFINITE_QUERY):
        if 0 <= node < count and dtype == "float16" and evidence.rules[node] == "captum" and into and not out:
            began.append((node, into))
    if not began:
        return
    node, into = max(began)  # the backward pass comes to the last call first
    call = evidence.node(node)
    finding = evidence.finding(
        "half-underflow",
        [node for node, _into in began],
        f"{number(into)} multipliers of {clean(call.path)} ({clean(call.type)}) are no numbers: "
        f"{evidence.small[node]} of its inputs equal the reference's, and captum's eps of 1e-10 is 0 in half precision",
        f"attribute in float32 (model.float()), {_EXACT}",
        issues=(835,),
        evidence=[("non-finite multipliers", into), ("equal inputs", float(evidence.small[node]))],
        leaks=False,
    )
    yield replace(finding, node=node, path=call.path, call=call.call, source=call.source,
                  nodes=(node, *(other for other in finding.nodes if other != node)))  # fmt: skip


def shared_extras(evidence: Evidence) -> Iterator[Finding]:
    """The reference ran under the input's mask or positions, and its own would give another f(x')."""
    for note in evidence.noted["shared extras"]:
        if note.amount > _MATTERS * evidence.change:
            part = f", {percentage(note.amount / evidence.change)} of f(x) − f(x')" if evidence.change else ""
            yield _at(
                evidence,
                "shared-extras",
                [],
                "captum runs the reference under the input's extra arguments: with its own, f(x') differs by "
                f"{figure(float(f'{note.amount:.3g}'))}{part}",
                "use method exact, which takes baseline_forward_args, or attribute with extras that fit both",
                issues=(375,),
                proof=[("difference of f(x')", note.amount)],
            )


ENDING: tuple[Fault, ...] = (integer_input, non_tensor_output, keyword_call, reused_module, in_place_target)
"""What can end a run."""


def ended_by(trace: Trace) -> Iterator[Finding]:
    """What ended a failed run, as far as its notes and its error say."""
    if trace.run.status == "failed":
        with np.errstate(over="ignore", invalid="ignore"):  # the figures of a trace may be anything
            evidence = gather(trace)
            found = [finding for fault in ENDING for finding in fault(evidence)]
        yield from found


def _failed(evidence: Evidence, *words: str) -> bool:
    """Whether the run ended with an error, one with any of `words` in it where they are given."""
    run = evidence.trace.run
    return run.status == "failed" and (not words or any(word in run.message for word in words))


def _leaking(evidence: Evidence, kind: NoteKind) -> list[Note]:
    """The notes whose calls leak."""
    return [note for note in evidence.noted[kind] if any(evidence.leaking[node] for node in evidence.at([note]))]


def _at(
    evidence: Evidence,
    kind: FindingKind,
    notes: Sequence[Note],
    message: str,
    advice: str,
    *,
    issues: tuple[int, ...] = (),
    proof: Sequence[tuple[EvidenceName, float]] = (),
    leaks: bool = False,
    source: str | None = None,
) -> Finding:
    """A finding on the calls that the notes are about; without calls it still bears the first note's path."""
    finding = evidence.finding(kind, evidence.at(notes), message, advice, issues=issues, evidence=proof, leaks=leaks)
    if notes and finding.node is None:
        finding = replace(finding, path=notes[0].path, call=notes[0].call or 0)
    return finding if source is None else replace(finding, source=source)


def _name(note: Note) -> str:
    return clean(note.path) or "the model"


def _more(notes: Sequence[Note]) -> str:
    """ " and 2 more": the other modules that the notes are about."""
    others = len({note.path for note in notes}) - 1
    return f" and {others} more" if others > 0 else ""
