"""Reserves the path that a recording writes to, and keeps the old file until there is a new run."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from tracer.errors import TraceFileError
from tracer.tracefile.opening import UNREADABLE, open_connection


@contextmanager
def beginning(path: Path) -> Iterator[None]:
    """In this context no other recording begins in the folder: of two that begin at once, one must see the other."""
    folder = None
    try:
        import fcntl

        folder = os.open(path.parent, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)
    except (ImportError, OSError):  # a system or a file system without such locks
        pass
    try:
        yield
    finally:
        if folder is not None:
            os.close(folder)


def claim(path: Path, force: bool, content: bytes) -> Path | None:
    """Make `path` a new file of `content`. A file that is there is refused or, with `force`, set aside.

    Gives back where the old file then is, or None: the writer moves it back if nothing is recorded. TraceFileError,
    even with `force`, where a recording into `path` is under way.
    """
    old, made = None, False
    try:
        if force and path.exists() and not path.is_dir():
            refuse_special(path)
            refuse_running(path)
            old = _set_aside(path)
        with open(path, "xb", buffering=0) as file:
            made = True
            if file.write(content) < len(content):  # in one go: a process that is killed leaves no half of it
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except FileExistsError:
        refuse_running(path)
        hint = "give a file in it" if path.is_dir() else "give another file, or overwrite it with --force (force=True)"
        raise TraceFileError(f"{path} already exists{' as a folder' * path.is_dir()}: {hint}") from None
    except OSError as error:
        if made:
            path.unlink(missing_ok=True)
        if old is not None:
            move(old, path)
        full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
        hint = "look at the free space" if full else "give a file in a folder that you can write"
        raise TraceFileError(f"cannot write {path} ({error.strerror}): {hint}") from None
    return old


def refuse_running(path: Path) -> None:
    """TraceFileError where a recording into `path` is under way.

    Replacing it would harm both: SQLite finds a file's log by its name, so each would remove the other's at its end.
    """
    if being_recorded(path):
        raise TraceFileError(f"{path} is being recorded at this moment: wait for it, end it, or give another file")


def refuse_special(path: Path) -> None:
    """TraceFileError for a device or a pipe, which must not be renamed."""
    if path.exists() and not path.is_file():
        raise TraceFileError(f"{path} is a device or a pipe: give a file")


def being_recorded(path: Path) -> bool:
    """Whether a living process, perhaps this one, records into `path`: it holds SQLite's lock for writing."""
    path = path.resolve()
    if not os.path.exists(f"{path}-wal"):
        return False
    try:
        # While the first connection is open, the second does not put the log into the file when it is closed.
        with (
            closing(open_connection(path)[0]),
            closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=0, isolation_level=None)) as writing,
        ):
            writing.execute("BEGIN IMMEDIATE")
            writing.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return error.sqlite_errorcode == sqlite3.SQLITE_BUSY
    except (TraceFileError, *UNREADABLE):  # no trace, so no recording of this program
        return False
    return False


def set_aside_by(path: Path) -> Path:
    """Where the file that a recording into `path` replaces is kept until there is a new one."""
    return path.with_name(f".{path.name}.old")


def _set_aside(path: Path) -> Path:
    old = set_aside_by(path)
    if old.exists() and _never_began(path):  # its recorder was killed: the last trace is what that one had set aside
        remove(path)
    else:
        remove(old)
        move(path, old)
    return old


def _never_began(path: Path) -> bool:
    if not path.stat().st_size:
        return True
    try:
        with closing(open_connection(path)[0]) as connection:
            return not connection.execute("SELECT 1 FROM run LIMIT 1").fetchall()
    except (TraceFileError, *UNREADABLE):
        return False


def fold_log(connection: sqlite3.Connection) -> None:
    """Move the write-ahead log into the file; while a reader has it open the log stays beside it, harmlessly."""
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA busy_timeout = 200")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode = DELETE")


def remove(path: Path) -> None:
    """Remove a trace file and what SQLite keeps beside it."""
    for name in _files(path):
        if os.path.lexists(name):  # with its ending the name may be too long
            name.unlink(missing_ok=True)


def move(path: Path, to: Path) -> None:
    """Give a trace file, and what SQLite keeps beside it, another name in its folder."""
    for name, target in zip(_files(path), _files(to), strict=True):
        if os.path.lexists(name):
            with suppress(FileNotFoundError):  # a reader that ends removes the log
                name.replace(target)


def _files(path: Path) -> list[Path]:
    return [Path(f"{path}{ending}") for ending in ("", "-wal", "-shm", "-journal")]
