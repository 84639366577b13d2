"""The traces in a folder, each by its head: what ran, and whether its attributions add up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tracer.analysis.verdict import Level, level_of, relative_deltas, worst_example
from tracer.errors import TraceFileError
from tracer.text import clean, figure, multiple
from tracer.tracefile.opening import says_trace
from tracer.tracefile.trace import open_trace

SUFFIX = ".dltrace"
SIGNS = {"holds": "OK", "off": "OFF", "broken": "BROKEN", "unfinished": "UNFINISHED", "unreadable": "UNREADABLE"}


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """A file of a folder. `problem` says why it cannot be read; nothing else is known then.

    `delta` and `relative` are those of the example that is worst; NaN where the run is not complete.
    """

    path: Path
    level: Level | Literal["unreadable"]
    problem: str = ""
    status: str = ""
    model: str = ""
    method: str = ""
    variant: str = ""
    target: str = ""
    message: str = ""
    examples: int = 0
    delta: float = math.nan
    relative: float = math.nan

    @property
    def name(self) -> str:
        """The file's name, safe for a terminal."""
        return clean(self.path.name)

    @property
    def reason(self) -> str:
        """The problem without the file's path in front."""
        return self.problem.removeprefix(f"{clean(str(self.path))} ")


def list_traces(folder: Path) -> list[FolderEntry]:
    """An entry for each trace, by name: files NAME.dltrace, and others whose header says so; no subfolders.

    TraceFileError where the folder cannot be read.
    """
    try:
        files = sorted(path for path in folder.iterdir() if _is_listed(path))
    except OSError as error:
        reason = error.strerror
        raise TraceFileError(f"cannot read the folder {folder} ({reason}): give one that you can read") from None
    return [entry_of(path) for path in files]


def entry_of(path: Path) -> FolderEntry:
    """What the head of one file says; an entry with a `problem` where it cannot be read."""
    try:
        with open_trace(path) as trace:
            run = trace.run
    except TraceFileError as error:
        return FolderEntry(path, "unreadable", clean(" ".join(str(error).split())))
    delta = relative = math.nan
    level: Level = "unfinished"
    if run.status == "complete" and run.examples:
        relatives = relative_deltas(run)
        worst = worst_example(relatives)
        delta, relative = float(run.delta[worst]), float(relatives[worst])
        level = level_of(relative)
    return FolderEntry(
        path=path, level=level, status=run.status, model=run.model, method=run.method, variant=run.variant,
        target=run.target, message=run.message, examples=run.examples, delta=delta, relative=relative,
    )  # fmt: skip


def folder_text(folder: Path, entries: list[FolderEntry], width: int = 100) -> str:
    """The entries as a plain table, and below it a line for each file that cannot be read."""
    if not entries:
        return f"{clean(str(folder))} holds no traces: 'deeplift-tracer trace' writes them.\n"
    rows: list[tuple[str, ...]] = [("", "trace", "delta", "relative", "method", "model")]
    rows += [(SIGNS[entry.level], *_cells(entry)) for entry in entries]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(size) if column in (2, 3) else cell.ljust(size)
            for column, (cell, size) in enumerate(zip(row, widths, strict=True))
        ]
        line = "  ".join(cells).rstrip()
        lines.append(line if len(line) <= width else line[: width - 1] + "…")
    lines += [f"{entry.name} {entry.reason}" for entry in entries if entry.problem]
    return "\n".join(lines) + "\n"


def method_words(entry: FolderEntry) -> str:
    """The method and how the model was changed for it: "captum, softmax explicit"."""
    words = [clean(part, 60) for part in (entry.method, entry.variant) if part]
    return ", ".join(words)


def _cells(entry: FolderEntry) -> tuple[str, ...]:
    if entry.problem:
        return entry.name, "", "", "", ""
    known = not math.isnan(entry.relative)
    delta = figure(entry.delta, signed=True) if known else entry.status
    return entry.name, delta, multiple(entry.relative) if known else "", method_words(entry), clean(entry.model, 60)


def _is_listed(path: Path) -> bool:
    if path.name.startswith("."):  # the old file that a recording replaces
        return False
    return (path.suffix == SUFFIX and path.is_file()) or says_trace(path)
