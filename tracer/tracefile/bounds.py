"""SQL on an untrusted file, bounded in bytes and time by the file's size.

A few pages can claim anything: pages that point at each other make endless rows, cells that share pages make gigabytes
of text, and SQLite reads them all.
"""

from __future__ import annotations

import math
import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_LEAST = 1 << 20
_FACTOR = 8  # JSON makes six bytes of a control character
_ROW, _CELL = 64, 8  # what an empty row and a cell cost in Python, at the least
_SECONDS, _SPEED = 0.5, 5e6  # a hundredth of the speed at which SQLite reads rows
_STEPS = 100_000  # of SQLite's, a millisecond or so
_SPARSE = 1 << 26  # bytes: smaller files are not searched for holes
_EXTENTS = 10_000
_TOO_MUCH = "it claims more than it can hold"


class BoundedQueries:
    """The queries of one connection to the file `path`; no bounds where `path` is None, in memory."""

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        self._connection = connection
        # The log lies beside the file that a link leads to.
        self._files = () if path is None else (path, Path(f"{os.path.realpath(path)}-wal"))
        self._size = 0
        self._this_thread = threading.local()
        # Without it two threads may wait for each other: one holds SQLite's lock and, to call `_is_late`, waits for the
        # interpreter's; the other holds that and waits for SQLite's.
        self._lock = threading.RLock()
        if self._files:
            connection.set_progress_handler(self._is_late, _STEPS)
            self._grew()

    def holds(self, size: float) -> bool:
        """Whether a tensor of so many bytes can come from the file."""
        return size <= self._most or (self._grew() and size <= self._most)

    def rows(self, sql: str, values: Sequence[Any] = (), width: int | None = None) -> list[tuple[Any, ...]]:
        """The rows of a query; sqlite3.Error where it gives or takes too much.

        `width` says that the query itself keeps each row to so many bytes: its rows are then counted, not measured.
        """
        with self._lock:
            try:
                return self._bounded(sql, values, width)
            except sqlite3.Error:
                if not self._grew():
                    raise
            return self._bounded(sql, values, width)

    @property
    def _most(self) -> float:
        """Bytes that one query, or one tensor, may come to."""
        return _LEAST + _FACTOR * self._size if self._files else math.inf

    def _grew(self) -> bool:
        """Whether the file and its log have grown since the last look, as they do while a run is recorded."""
        size = 0
        for file in self._files:
            with suppress(OSError):  # no log, or another program took the file away while this one has it open
                size += _held(file)
        if size <= self._size:
            return False
        self._size = size
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, int(min(self._most, 2**31 - 1)))
        return True

    def _bounded(self, sql: str, values: Sequence[Any], width: int | None) -> list[tuple[Any, ...]]:
        if not self._files:
            return self._connection.execute(sql, values).fetchall()
        self._this_thread.deadline = None
        try:
            cursor = self._connection.execute(sql, values)
            if width is None:
                return _measured(cursor, self._most)
            rows = cursor.fetchmany(int(self._most // (_ROW + width)))
            if cursor.fetchone() is not None:
                raise sqlite3.DataError(_TOO_MUCH)
            return rows
        except MemoryError as error:  # what SQLite says of some false sizes
            raise sqlite3.DataError(_TOO_MUCH) from error
        finally:
            self._this_thread.deadline = math.inf

    def _is_late(self) -> bool:
        # Processor time of this thread: neither a slow disk nor other threads count. Asking for it is slow, so the
        # clock starts only when a query turns out to be long.
        now, deadline = time.thread_time(), getattr(self._this_thread, "deadline", math.inf)
        if deadline is None:
            self._this_thread.deadline = now + _SECONDS + self._size / _SPEED
            return False
        return bool(now > deadline)


def _held(file: Path) -> int:
    """Bytes of a file, without the holes of a sparse one: a terabyte of those takes no time to write."""
    status = os.stat(file)
    if status.st_size < _SPARSE or 512 * getattr(status, "st_blocks", math.inf) >= status.st_size:
        return status.st_size
    held = place = 0
    with open(file, "rb", buffering=0) as content, suppress(OSError):  # raised behind the last extent
        for _ in range(_EXTENTS):
            start = os.lseek(content.fileno(), place, os.SEEK_DATA)
            place = os.lseek(content.fileno(), start, os.SEEK_HOLE)
            held += place - start
    return held


def _measured(cursor: sqlite3.Cursor, most: float) -> list[tuple[Any, ...]]:
    rows, used = [], 0
    for row in cursor:
        used += _ROW + _CELL * len(row)
        for cell in row:
            if isinstance(cell, bytes | str):
                used += len(cell)
        if used > most:
            raise sqlite3.DataError(_TOO_MUCH)
        rows.append(row)
    return rows
