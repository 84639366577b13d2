"""The list of the traces in a folder as lines of cells, and its orders."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from tracer.analysis.folder import FolderEntry, method_words
from tracer.text import clean, figure, multiple
from tui.lines.format import fit, plural, shorten
from tui.lines.menus import Item
from tui.lines.pieces import paragraph
from tui.looks.roles import Line, Piece, Role

Sort = Literal["name", "relative", "delta", "method", "model", "status"]
SORTS: tuple[Sort, ...] = get_args(Sort)
_SIGNS: dict[str, tuple[str, Role]] = {
    "holds": ("✔", Role.GOOD),
    "off": ("▲", Role.WARNING),
    "broken": ("✖", Role.LARGE),
    "unfinished": ("…", Role.MUTED),
    "unreadable": ("?", Role.WARNING),
}
_WORDS = {
    "holds": "the attributions add up",
    "off": "the attributions are slightly off",
    "broken": "do not read these attributions",
    "unfinished": "the run is not complete",
    "unreadable": "cannot be read",
}
_RANKS = ("unreadable", "broken", "off", "unfinished", "holds")
_LEAD = 4
_LEAST_NAME = 16


@dataclass(frozen=True, slots=True)
class _Column:
    name: Sort
    title: str
    width: int
    right: bool = False


_COLUMNS = (
    _Column("relative", "relative", 15, right=True),
    _Column("delta", "delta", 11, right=True),
    _Column("status", "status", 9),
    _Column("method", "method, variant", 26),
    _Column("model", "model", 24),
)
_DROPPED_FIRST: tuple[Sort, ...] = ("model", "status", "method", "delta", "relative")


def sorted_entries(entries: Sequence[FolderEntry], sort: Sort) -> list[FolderEntry]:
    """The entries in order: by figures the worst first, by words alphabetically, equal ones by name.

    Unreadable files come last, unless the order is by status or by name.
    """

    def rank(entry: FolderEntry) -> tuple[object, ...]:
        if sort == "status":
            return (_RANKS.index(entry.level), entry.name)
        if sort in ("relative", "delta"):
            value = abs(entry.relative if sort == "relative" else entry.delta)
            # A run that is complete with NaN is worse than any number; one that is not complete has no figure.
            known = entry.level in ("holds", "off", "broken")
            return (not known, -(math.inf if math.isnan(value) else value), entry.name)
        words = {"name": entry.name, "method": method_words(entry), "model": entry.model}[sort]
        return (entry.level == "unreadable" and sort != "name", words.casefold(), entry.name)

    return sorted(entries, key=rank)


def sort_items(sort: Sort) -> list[Item]:
    """The orders, for a menu."""
    notes = {"relative": "the worst first", "delta": "the largest |delta| first", "status": "by verdict"}
    keys = {"name": "n", "relative": "r", "delta": "d", "method": "m", "model": "o", "status": "s"}
    return [Item(keys[name], name.capitalize(), name, notes.get(name, ""), name == sort) for name in SORTS]


def layout(width: int) -> tuple[int, tuple[_Column, ...]]:
    """The width of the name and the columns that fit beside it."""
    columns = list(_COLUMNS)
    for name in _DROPPED_FIRST:
        if _LEAD + _LEAST_NAME + sum(column.width + 1 for column in columns) <= width:
            break
        columns = [column for column in columns if column.name != name]
    return max(width - _LEAD - sum(column.width + 1 for column in columns), 1), tuple(columns)


def heading(width: int, sort: Sort) -> Line:
    """The titles; "▼" is at the one that the list is sorted by."""
    room, columns = layout(width)

    def title(name: Sort, text: str, size: int, right: bool = False) -> str:
        return fit(fit(text, min(len(text), size - 1)) + "▼" if name == sort else text, size, right)

    cells: list[Piece] = [(" " * _LEAD + title("name", "trace", room), Role.TITLE)]
    cells += [(" " + title(column.name, column.title, column.width, column.right), Role.TITLE) for column in columns]
    return cells


def sort_at(x: int, width: int) -> Sort:
    """What a click on the titles at this cell sorts by."""
    start, columns = layout(width)
    start += _LEAD
    for column in columns:
        if start <= x < start + column.width + 1:
            return column.name
        start += column.width + 1
    return "name"


def row(entry: FolderEntry, width: int, marks: Collection[Path] = ()) -> Line:
    """The line of a file, exactly `width` cells wide; of one that cannot be read it says why."""
    room, columns = layout(width)
    sign, role = _SIGNS[entry.level]
    cells: list[Piece] = [
        (" ●" if entry.path in marks else "  ", Role.KEY),
        (sign + " ", role),
        (fit(shorten(entry.name, room), room), Role.MUTED if entry.problem else Role.STRONG),
    ]
    if entry.problem:
        rest = sum(column.width + 1 for column in columns)
        return [*cells, (" " + fit(entry.reason, rest - 1), Role.WARNING)] if rest else cells
    for column in columns:
        text, kind = _cell(entry, column.name, role)
        cells.append((" " + fit(text, column.width, column.right), kind))
    return cells


def entry_lines(entry: FolderEntry, width: int) -> list[Line]:
    """The file in words: its name in full, the verdict and the run, or why it cannot be read."""
    sign, role = _SIGNS[entry.level]
    lines: list[Line] = [[(f"{sign} ", role), (fit(entry.name, width - 2), Role.STRONG)]]
    if entry.problem:
        return [*lines, *paragraph(entry.problem, width, Role.WARNING)]
    facts = [_WORDS[entry.level]]
    if not math.isnan(entry.relative):
        worst = " of the worst" if entry.examples > 1 else ""
        facts.append(f"delta{worst} {figure(entry.delta, signed=True)}, relative {multiple(entry.relative)}")
    facts += [
        plural(entry.examples, "example") if entry.examples > 1 else "",
        f"target {clean(entry.target, 40)}" if entry.target else "",
        clean(entry.model, 80),
        method_words(entry),
        clean(entry.message, 200),
    ]
    return [*lines, *paragraph("; ".join(fact for fact in facts if fact), width, Role.TEXT)]


def summary(entries: Sequence[FolderEntry], folder: str, marks: int) -> str:
    """The title of the list: where, how many, how many are broken."""
    parts = [clean(folder), plural(len(entries), "trace")]
    for level, words in (("broken", "broken"), ("unreadable", "unreadable")):
        if count := sum(entry.level == level for entry in entries):
            parts.append(f"{count} {words}")
    if marks:
        parts.append(plural(marks, "mark"))
    return "   ".join(parts)


def _cell(entry: FolderEntry, name: Sort, sign: Role) -> tuple[str, Role]:
    if name == "relative":
        return ("" if math.isnan(entry.relative) else multiple(entry.relative)), sign
    if name == "delta":
        return ("" if math.isnan(entry.delta) else figure(entry.delta, signed=True)), Role.TEXT
    if name == "status":
        return clean(entry.status, 20), Role.MUTED if entry.status == "complete" else Role.WARNING
    return (method_words(entry) if name == "method" else clean(entry.model, 60)), Role.MUTED
