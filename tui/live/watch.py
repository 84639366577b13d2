"""Follows a trace file that is being written: says when there is more of it. Knows no screen."""

from __future__ import annotations

from pathlib import Path

from tracer.errors import TraceFileError
from tracer.tracefile.trace import Trace, open_trace

Stamp = tuple[int, int, int]
"""Which file lies at a path: device, number, time of the last change."""


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of the file at `path`, None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


class Watch:
    """Looks at the trace at `path`, which may not be there yet, may grow, or may be replaced.

    `trace` is the file as it is known; without one, the file with the stamp `stale` is another run's and not looked
    at. A look at what has not changed costs a question to the file system and one to SQLite.
    """

    def __init__(self, path: Path, trace: Trace | None = None, stale: Stamp | None = None) -> None:
        self.path = path
        self._trace = trace
        self._stale = stale
        self._file = stamp_of(path) if trace is not None else None
        # What was committed since the trace was opened would be missed: the first look reads the file again.
        self._version: object = None

    def look(self) -> Trace | None:
        """The trace as it is now, with its columns read; None where nothing is new, or nothing to be read."""
        stamp = stamp_of(self.path)
        if stamp is None or stamp == self._stale:
            return None
        try:
            same = self._trace is not None and self._file is not None and stamp[:2] == self._file[:2]
            if same and self._trace is not None and _version(self._trace) == self._version:
                return None
            trace, version = _read(self.path)
        except TraceFileError:  # no head yet, or it changed while it was read: the next look will tell
            return None
        self._trace, self._version, self._file = trace, version, stamp
        return trace


def _read(path: Path) -> tuple[Trace, object]:
    """The trace and the version of its content, from one moment: the file may grow while it is read.

    TraceFileError where it grew between its head and its calls.
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
    """A number that changes when somebody else commits to the file."""
    return trace.query("PRAGMA data_version")
