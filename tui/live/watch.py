"""Watches a trace file that is being written, and opens it again when it has grown."""

from __future__ import annotations

from pathlib import Path

from tracer.errors import TraceFileError
from tracer.tracefile.trace import Trace, open_trace

Stamp = tuple[int, int, int]
"""Identifies the file at a path: device, inode, time of the last change."""


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of the file at `path`, None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


class Watch:
    """Looks at the trace at `path`, which may not be there yet, may grow, or may be replaced.

    `trace` is the file as it was opened before; a file with the stamp `stale` is from an earlier run and is left out.
    A look at an unchanged file costs one `stat` and one query.
    """

    def __init__(self, path: Path, trace: Trace | None = None, stale: Stamp | None = None) -> None:
        self.path = path
        self._trace = trace
        self._stale = stale
        self._file = stamp_of(path) if trace is not None else None
        # None, so that the first look reads the file again: it may have grown since it was opened.
        self._version: object = None

    def look(self) -> Trace | None:
        """The trace as it is now, with its columns read; None if nothing is new, or nothing can be read yet."""
        stamp = stamp_of(self.path)
        if stamp is None or stamp == self._stale:
            return None
        try:
            same = self._trace is not None and self._file is not None and stamp[:2] == self._file[:2]
            if same and self._trace is not None and _version(self._trace) == self._version:
                return None
            trace, version = _read(self.path)
        except TraceFileError:  # no head yet, or it changed while it was read: the next look reads it
            return None
        self._trace, self._version, self._file = trace, version, stamp
        return trace


def _read(path: Path) -> tuple[Trace, object]:
    """The trace and the version of its content, read in one transaction.

    TraceFileError where the file grew between the reading of its head and of its calls.
    """
    trace = open_trace(path)
    version = _version(trace)
    trace.query("BEGIN")
    try:
        if trace.outdated:
            raise TraceFileError(f"{path} changed while it was read: read it again")
        trace.columns  # noqa: B018
    finally:
        trace.query("COMMIT")
    return trace, version


def _version(trace: Trace) -> object:
    """A number that changes when another process commits to the file."""
    return trace.query("PRAGMA data_version")
