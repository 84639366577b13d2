"""Opens a trace file for reading without trusting it."""

from __future__ import annotations

import os
import sqlite3
import stat
import struct
from pathlib import Path

from tracer.errors import TraceFileError
from tracer.text import clean
from tracer.tracefile.bounds import BoundedQueries
from tracer.tracefile.layout import APPLICATION_ID, SCHEMAS, VERSION

_HEADER = 100
_MAGIC = b"SQLite format 3\0"

UNREADABLE = (sqlite3.Error, UnicodeError, OverflowError)
"""What reading a damaged file raises; sqlite3 gives a UnicodeError where SQLite's own message quotes bad text."""


def open_connection(path: Path) -> tuple[sqlite3.Connection, int]:
    """A read-only connection to the trace at `path`, and the version of its layout, which it must match exactly.

    Only the first page and the schema are read, whatever the file's size. TraceFileError says what else the file is.
    """
    log = Path(f"{_real(path)}-wal")
    version, uses_log = _check_header(path, has_log=os.path.exists(log))
    _check_neighbours(path)
    # A file in log mode whose log is gone (it was copied alone) opens only as a file that never changes.
    mode = "immutable=1" if uses_log and not os.path.exists(log) else "mode=ro"
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?{mode}", uri=True, check_same_thread=False, isolation_level=None
        )
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA cell_size_check = ON")
            found = BoundedQueries(connection, path).rows("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
        except BaseException:
            connection.close()
            raise
    except UNREADABLE as error:
        raise damaged(path, error) from error
    expected = SCHEMAS.get(version, {})
    if dict(found) != expected or len(found) != len(expected):
        connection.close()
        extra = sorted({str(name) for name, _ in found} - set(expected))
        what = f"an unknown part {extra[0]!r}" if extra else "a changed layout"
        raise TraceFileError(f"{path} has {what}, so it is not a trace as deeplift-tracer writes it: record it again")
    return connection, version


def says_trace(path: Path) -> bool:
    """Whether the first bytes of a file say that it is a trace, of whatever version; it need not open."""
    try:
        if not path.is_file():  # reading a pipe would wait
            return False
        with path.open("rb") as file:
            header = file.read(_HEADER)
    except OSError:
        return False
    return header.startswith(_MAGIC) and header[68:72] == struct.pack(">I", APPLICATION_ID)


def damaged(path: Path | None, reason: object) -> TraceFileError:
    """The error for a trace that turns out unreadable; `reason` is said in brackets."""
    name = path or "the trace in memory"
    if isinstance(reason, sqlite3.ProgrammingError) and "closed" in str(reason):
        return TraceFileError(f"{name} was closed: open it again with tracer.open_trace")
    # SQLite and json quote the bad content, which may be anything, of any length.
    words = clean(" ".join(str(reason).split()), 120)
    return TraceFileError(f"{name} is damaged or cut short ({words}): record it again")


def _check_neighbours(path: Path) -> None:
    """TraceFileError where what SQLite looks for beside the file is not a plain file.

    SQLite would wait for the writer of a pipe, and write to where a link points.
    """
    for ending in ("-wal", "-shm", "-journal"):
        beside = Path(f"{_real(path)}{ending}")
        try:
            mode = beside.lstat().st_mode
        except (OSError, ValueError):  # not there, or no longer: a recording that ends removes its log
            continue
        if not stat.S_ISREG(mode):
            raise TraceFileError(f"{beside} beside the trace is not a plain file, so it is not SQLite's: take it away")


def _real(path: Path) -> Path:
    """The file that a link points to: the log lies beside that."""
    try:
        return Path(os.path.realpath(path))
    except ValueError:  # a name with a null byte: opening it says so
        return path


def _check_header(path: Path, has_log: bool) -> tuple[int, bool]:
    """The version of the layout, and whether the file is in write-ahead-log mode; TraceFileError where its first bytes
    are not those of a trace."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # reading a pipe would wait for whoever writes into it
            raise TraceFileError(f"{path} is a device or a pipe: give a trace file")
        with path.open("rb") as file:
            header = file.read(_HEADER)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise TraceFileError(
            f"{path} does not exist: give a file that 'deeplift-tracer trace' or 'demo' wrote"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TraceFileError(f"cannot read {path} ({reason}): give a trace file that you can read") from None
    if not header.startswith(_MAGIC) and not (header and _MAGIC.startswith(header)):
        what = "is empty, so it is not a trace" if size == 0 else "is not a trace"
        raise TraceFileError(f"{path} {what}: give a file that 'deeplift-tracer trace' or 'demo' wrote")
    if len(header) < _HEADER:
        raise damaged(path, f"{size} bytes")
    page_size, write_version = struct.unpack(">HB", header[16:19])
    (pages,) = struct.unpack(">I", header[28:32])
    (version,) = struct.unpack(">I", header[60:64])
    (application,) = struct.unpack(">I", header[68:72])
    if application != APPLICATION_ID:
        raise TraceFileError(
            f"{path} is an SQLite database but not a trace: give a file that 'deeplift-tracer trace' or 'demo' wrote"
        )
    if version > VERSION:
        raise TraceFileError(
            f"{path} was written by a newer version (schema {version}, this one reads up to {VERSION}): "
            "upgrade deeplift-tracer"
        )
    expected = pages * (65_536 if page_size == 1 else page_size)
    if size < expected and not has_log:  # with a log, the pages that are missing stand there
        raise damaged(path, f"{size} bytes of {expected}")
    return int(version), bool(write_version == 2)
