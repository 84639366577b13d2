"""What stands in a trace beside the ledger: notes, counterfactuals and findings, as rows of their tables and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast

from tracer.records import Counterfactual, Finding, Note, NoteKind
from tracer.tracefile import layout as schema
from tracer.tracefile.layout import Cell, storable, text

NOTE_COLUMNS = ("what", "path", "call", "detail", "amount", "source")
COUNTERFACTUAL_COLUMNS = (
    "step", "change", "pattern", "rules", "delta", "delta_examples", "self_leak", "seconds",
)  # fmt: skip
FINDING_COLUMNS = (
    "kind", "path", "call", "source", "share", "message", "advice", "caused_by", "delta_after",
)  # fmt: skip


def note_row(note: Note) -> tuple[Cell, ...]:
    """The cells of `note` in the order of NOTE_COLUMNS."""
    source = None if note.source is None else storable(note.source)
    return (storable(note.kind), storable(note.path), note.call, storable(note.detail), note.amount, source)


def note_from_row(row: Sequence[Cell]) -> Note:
    """What `note_row` wrote; ValueError or TypeError where a cell is not what it must be."""
    what, path, call, detail, amount, source = row
    return Note(
        kind=cast(NoteKind, text(what)),  # a kind of another version: nobody asks for it
        path=text(path),
        call=None if call is None else int(call),
        detail=text(detail),
        amount=schema.number(amount),
        source=None if source is None else text(source),
    )


def counterfactual_row(run: Counterfactual) -> tuple[Cell, ...]:
    """The cells of `run` in the order of COUNTERFACTUAL_COLUMNS."""
    return (
        run.step,
        storable(run.change),
        storable(run.pattern),
        json.dumps([storable(rule) for rule in run.rules]),
        schema.total(run.delta),
        schema.pack(run.delta),
        schema.pack(run.self_leak),
        run.seconds,
    )


def counterfactual_from_row(row: Sequence[Cell]) -> Counterfactual:
    """What `counterfactual_row` wrote; ValueError or TypeError where a cell is not what it must be."""
    step, change, pattern, rules, _total, delta, self_leak, seconds = row
    return Counterfactual(
        step=int(step),
        change=text(change),
        pattern=text(pattern),
        rules=tuple(map(text, json.loads(rules))),
        delta=schema.unpack(delta),
        self_leak=schema.unpack(self_leak),
        seconds=schema.number(seconds),
    )


def finding_row(finding: Finding) -> tuple[Cell, ...]:
    """The cells of `finding` in the order of FINDING_COLUMNS: a copy for readers of SQL."""
    texts = (finding.message, finding.advice, finding.caused_by)
    source = None if finding.source is None else storable(finding.source)
    return (
        finding.kind,
        storable(finding.path),
        finding.call,
        source,
        finding.share,
        *map(storable, texts),
        finding.delta_after,
    )
