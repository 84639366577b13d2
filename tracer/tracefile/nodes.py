"""The calls of a trace as a sequence, each read when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

from tracer.records import Node, Run
from tracer.tracefile.cells import Cell, text
from tracer.tracefile.columns import Columns
from tracer.tracefile.reader import Reader
from tracer.tracefile.rows import NODE_REST, check_examples, node_from_row

_CHUNK = 1_000
_QUERY = f"SELECT id, {', '.join(NODE_REST)} FROM node WHERE id >= ? AND id < ? ORDER BY id"
_SOURCES = "SELECT id, CASE WHEN length(source) < 16384 THEN source END FROM node WHERE id >= ? AND id < ? ORDER BY id"


class Nodes(Sequence[Node]):
    """All nodes of a trace in preorder, read one by one or a chunk at a time."""

    def __init__(self, reader: Reader, columns: Columns, run: Run) -> None:
        self._reader = reader
        self._columns = columns
        self._run = run

    def __len__(self) -> int:
        return len(self._columns.parent)

    @overload
    def __getitem__(self, index: int) -> Node: ...
    @overload
    def __getitem__(self, index: slice) -> list[Node]: ...
    def __getitem__(self, index: int | slice) -> Node | list[Node]:
        ids = range(len(self))[index]
        if isinstance(ids, int):
            return self._read(ids, ids + 1)[0]
        if ids.step == 1:
            return self._read(ids.start, ids.stop)
        return [self[node] for node in ids]

    def __iter__(self) -> Iterator[Node]:
        for start in range(0, len(self), _CHUNK):
            yield from self[start : start + _CHUNK]

    def _read(self, start: int, stop: int) -> list[Node]:
        rows = self._reader.rows(_QUERY, (start, stop))
        with self._reader.decoding():
            _check_order([row[0] for row in rows], start, stop)
            nodes = [node_from_row(self._columns, index, cells) for index, *cells in rows]
            for node in nodes:
                check_examples(self._run, f"node {node.id}", node.leak, node.self_leak)
        return nodes


def source_lines(reader: Reader, start: int, stop: int) -> list[str]:
    """The source lines of the nodes `start` to `stop`, "" where there is none; far quicker than the nodes."""
    rows = reader.rows(_SOURCES, (start, stop))
    with reader.decoding():
        _check_order([row[0] for row in rows], start, stop)
        return ["" if cell is None else text(cell) for _, cell in rows]


def _check_order(ids: list[Cell], start: int, stop: int) -> None:
    if ids != list(range(start, max(start, stop))):
        raise ValueError("its calls are not in order")
