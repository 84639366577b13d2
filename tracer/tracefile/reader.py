"""Queries of one open trace; whatever is wrong with the file becomes one error that names it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tracer.tracefile.bounds import BoundedQueries
from tracer.tracefile.cells import MISSHAPEN, Cell
from tracer.tracefile.opening import UNREADABLE, damaged


class Reader:
    """The connection to the trace in the file `path`, whose layout is of `version`.

    `path` None: a run in memory, whose tensors' data are `contents`, by row, and empty in the database.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path | None, version: int, contents: dict[int, bytes] | None
    ) -> None:
        self.connection = connection
        self.path = path
        self.version = version
        self.contents = contents
        self.queries = BoundedQueries(connection, path)

    def rows(self, sql: str, values: Sequence[Cell] = (), width: int | None = None) -> list[tuple[Cell, ...]]:
        """The rows of a query; `width` as in `BoundedQueries.rows`."""
        try:
            return self.queries.rows(sql, values, width)
        except UNREADABLE as error:
            raise damaged(self.path, error) from error

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """In this context, a cell that is not what it must be is a damaged file."""
        try:
            yield
        except MISSHAPEN as error:
            raise damaged(self.path, error) from error
