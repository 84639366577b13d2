"""Findings on what the recorder noted, and the words that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tracer.diagnosis.evidence import Evidence
from tracer.records import EvidenceName, Finding, FindingKind, Note
from tracer.text import clean

OR_EXACT = "or use method exact"


def noted_finding(
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
    """A finding on the calls that the notes are about; where none was recorded it still has the first note's path."""
    finding = evidence.finding(kind, evidence.at(notes), message, advice, issues=issues, evidence=proof, leaks=leaks)
    if notes and finding.node is None:
        finding = replace(finding, path=notes[0].path, call=notes[0].call or 0)
    return finding if source is None else replace(finding, source=source)


def name_of(note: Note) -> str:
    """The path of the module or op that a note is about."""
    return clean(note.path) or "the model"


def and_more(notes: Sequence[Note]) -> str:
    """ " and 2 more": the other modules that the notes are about."""
    others = len({note.path for note in notes}) - 1
    return f" and {others} more" if others > 0 else ""
