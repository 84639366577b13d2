"""Reads a trace: the run's head at once, everything else when it is asked for. Needs numpy and sqlite3 only."""

from __future__ import annotations

import json
import os
import sqlite3
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, overload

import numpy as np
import numpy.typing as npt

from tracer.errors import InputError, TraceFileError
from tracer.records import Counterfactual, Edge, Floats, Node, Note, Run, Statistics, TensorRef
from tracer.text import clean, require_example
from tracer.tracefile import attachments
from tracer.tracefile import layout as schema
from tracer.tracefile.bounds import BoundedQueries
from tracer.tracefile.columns import FIGURES_BYTES, FIGURES_QUERY, NAMES_QUERY, Columns, columns_from_rows, worst_first
from tracer.tracefile.layout import MISSHAPEN, content_hash
from tracer.tracefile.opening import UNREADABLE, damaged, open_connection
from tracer.tracefile.reservation import set_aside_by

Array = npt.NDArray[Any]
TensorName = Literal["input", "reference", "multiplier_in", "output", "output_reference", "multiplier_out"]

_PLACES: dict[str, tuple[str, str]] = {
    "input": ("in", "value"),
    "reference": ("in", "reference"),
    "multiplier_in": ("in", "multiplier"),
    "output": ("out", "value"),
    "output_reference": ("out", "reference"),
    "multiplier_out": ("out", "multiplier"),
}
_NODE_CELLS = (
    "source", "rule", "largest_secant", "small_differences", "dropped_differences", "nonfinite", "leak_examples",
    "self_leak_examples",
)  # fmt: skip
_CHUNK = 1_000
_TENSORS = "SELECT hash, id, dtype, shape, length(data), typeof(data) FROM tensor"
_Attachment = TypeVar("_Attachment")


def open_trace(path: str | os.PathLike[str]) -> Trace:
    """The trace in the file `path`; TraceFileError where it is none, damaged or too new. Loads no torch."""
    file = Path(path)
    connection, version = open_connection(file)
    return Trace(connection, file, version)


class Trace:
    """A recorded run. Arrays are numpy's; figures of one example each are float64 (E,).

    `path` None: a run in memory, whose tensors' data are `contents`, by row, and empty in the database.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path | None,
        version: int = schema.VERSION,
        contents: dict[int, bytes] | None = None,
    ) -> None:
        self.path = path
        self.version = version
        self._connection = connection
        self._contents = contents
        self._queries = BoundedQueries(connection, path)
        self._finalizer = weakref.finalize(self, _close, connection, contents)
        try:
            columns = [name if version > 1 or name != "command" else "''" for name in schema.RUN_COLUMNS]
            rows = self._rows(f"SELECT {', '.join(columns)} FROM run")
            if not rows:
                raise TraceFileError(
                    f"{path} holds no run yet: its recording has not begun, or was killed before it did{_before(path)}"
                )
            try:
                self.run: Run = schema.run_from_row(rows[0])
            except MISSHAPEN as error:
                raise damaged(path, error) from error
        except TraceFileError:
            self.close()
            raise

    @property
    def delta(self) -> Floats:
        """The convergence delta, (E,)."""
        return self.run.delta

    @property
    def outdated(self) -> bool:
        """Whether its recording has gone on since `run` was read: open the file again to see how far."""
        now = self._rows("SELECT status, message FROM run")
        return now != [(self.run.status, self.run.message)]

    @cached_property
    def attributions(self) -> tuple[Array, ...]:
        """The attributions, one array of the input's shape for each model input."""
        ((value,),) = self._rows("SELECT attributions FROM run")
        try:
            refs = schema.refs_from_json(value)
        except MISSHAPEN as error:
            raise damaged(self.path, error) from error
        found: dict[bytes | None, Array] = {}  # one tensor named a million times is still one
        size = 0
        for index, ref in enumerate(refs):
            if ref.hash not in found:
                found[ref.hash] = self._stored(ref, f"attribution {index}")
                size += found[ref.hash].nbytes
                if not self._queries.holds(size):
                    raise damaged(self.path, "its attributions are larger than the file")
        return tuple(found[ref.hash] for ref in refs)

    @cached_property
    def columns(self) -> Columns:
        """The figures of all nodes, read once."""
        figures = self._rows(FIGURES_QUERY, width=FIGURES_BYTES)
        try:
            return columns_from_rows(figures, list(self._names()), complete=self.run.status == "complete")
        except MISSHAPEN as error:
            raise damaged(self.path, error) from error

    @cached_property
    def notes(self) -> tuple[Note, ...]:
        """What the recorder noticed about the run, in the order of noticing."""
        return tuple(self._attachments("note", attachments.NOTE_COLUMNS, attachments.note_from_row))

    @property
    def counterfactuals(self) -> tuple[Counterfactual, ...]:
        """The same run under other rules, as far as it was measured: single changes, then the rungs of the ladder."""
        columns = attachments.COUNTERFACTUAL_COLUMNS
        runs = self._attachments("counterfactual", columns, attachments.counterfactual_from_row)
        try:
            for run in runs:
                self._check_examples(f"the change {run.change!r}", run.delta)
                if len(run.self_leak) not in (0, len(self.nodes)):
                    raise ValueError(f"the change {run.change!r} has figures of {len(run.self_leak)} calls")
        except MISSHAPEN as error:
            raise damaged(self.path, error) from error
        return tuple(sorted(runs, key=lambda run: run.step))

    @property
    def left_out(self) -> int:
        """How many of its calls' tensors were to be kept, but had no room, and are there as figures only."""
        counts = ", ".join(f"total({name}_hash = x'')" for name in schema.STORED)
        ((*found,),) = self._rows(f"SELECT {counts} FROM edge")
        return int(sum(found))

    def sources(self, start: int, stop: int) -> list[str]:
        """The source lines of the nodes `start` to `stop`, "" where there is none; far quicker than the nodes."""
        line = "CASE WHEN length(source) < 16384 THEN source END"
        rows = self._rows(f"SELECT id, {line} FROM node WHERE id >= ? AND id < ? ORDER BY id", (start, stop))
        try:
            if [row[0] for row in rows] != list(range(start, max(start, stop))):
                raise ValueError("its calls are not in order")
            return ["" if cell is None else schema.text(cell) for _, cell in rows]
        except MISSHAPEN as error:
            raise damaged(self.path, error) from error

    @property
    def nodes(self) -> Sequence[Node]:
        """All nodes in preorder; each is built when it is asked for."""
        return _Nodes(self)

    def edges(self, node: Node | int) -> tuple[Edge, ...]:
        """The tensors into and out of a call: the inputs by slot, then the outputs by slot."""
        columns = ", ".join(f"edge.{column}" for column in schema.EDGE_COLUMNS)
        joins = "".join(f" LEFT JOIN tensor AS {name} ON {name}.hash = edge.{name}_hash" for name in schema.STORED)
        described = ", ".join(f"{name}.dtype, {name}.shape" for name in schema.STORED)
        rows = self._rows(
            f"SELECT {columns}, {described} FROM edge{joins} WHERE node = ? ORDER BY direction, slot", (_id(node),)
        )
        try:
            edges = tuple(map(_edge, rows))
            self._check_examples(f"an edge of node {_id(node)}", *(edge.flow for edge in edges))
            return edges
        except MISSHAPEN as error:
            raise damaged(self.path, error) from error

    def tensor(self, node: Node | int, name: TensorName, slot: int = 0) -> Array:
        """A recorded tensor in full; bfloat16 as float32. TraceFileError where it was not recorded."""
        return self._stored(*self._reference(node, name, slot))

    def tensor_rows(self, node: Node | int, name: TensorName, start: int, stop: int, slot: int = 0) -> Array:
        """Rows `start` to `stop` of a tensor seen as a matrix of its last axis: (stop − start, last size).

        All other axes are flattened into one. Only these rows are read from the file.
        """
        (rows,) = self.tensor_blocks(node, name, start, stop, slot)
        return rows.copy()

    def tensor_blocks(
        self, node: Node | int, name: TensorName, start: int, stop: int, slot: int = 0, rows: int | None = None
    ) -> Iterator[Array]:
        """The same rows, `rows` at a time and read one block after the other; None: all in one, which may be empty.

        The blocks must not be written to. The file stays in use until the last is read or the iterator is let go.
        """
        ref, what = self._reference(node, name, slot)
        rowid, dtype, shape = self._locate(ref, what)
        width = shape[-1] if shape else 1
        row_bytes = width * np.dtype(schema.ITEM_TYPES[dtype]).itemsize
        start, stop, _ = slice(start, stop).indices(_product(shape[:-1]))
        stop = max(start, stop)
        step = max(stop - start if rows is None or not width else rows, 1)
        try:
            with self._reading(rowid) as read:
                for first in range(start, max(stop, start + 1), step):
                    count = min(step, stop - first)
                    yield _elements(read(first * row_bytes, count * row_bytes), dtype).reshape(count, width)
        except (*UNREADABLE, ValueError) as error:
            raise damaged(self.path, error) from error

    @contextmanager
    def _reading(self, rowid: int) -> Iterator[Callable[[int, int], bytes | memoryview]]:
        """What reads so many bytes of a stored tensor, from that byte on."""
        if self._contents is not None:
            content = memoryview(self._contents[rowid])
            yield lambda start, size: content[start : start + size]
            return
        # One handle for all reads: each new one would walk the chain of the tensor's pages from its beginning.
        with self._connection.blobopen("tensor", "data", rowid, readonly=True) as blob:

            def read(start: int, size: int) -> bytes:
                blob.seek(start)
                return blob.read(size)

            yield read

    def leaks(self, example: int | None = None) -> tuple[Floats, Floats]:
        """Leak and self leak of every node, (N,) each: of one example, or summed over all."""
        if example is None:
            return self.columns.leak, self.columns.self_leak
        require_example(example, self.run.examples)
        count, size = len(self.columns.parent), 8 * self.run.examples
        if not count:  # killed before its first call
            return np.zeros(0), np.zeros(0)
        cells = (
            f"CASE WHEN length({name}) = {size} THEN {name} END" for name in ("leak_examples", "self_leak_examples")
        )
        rows = self._rows(f"SELECT {', '.join(cells)} FROM node ORDER BY id LIMIT ?", (count,), 2 * size)
        try:
            leak, self_leak = (
                schema.unpack(b"".join(column)).reshape(count, self.run.examples)[:, example]
                for column in zip(*rows, strict=True)
            )
        except MISSHAPEN as error:
            raise damaged(self.path, error) from error
        return leak, self_leak

    def find(self, path: str, call: int = 0) -> Node:
        """The node of one call of `path`; InputError where there is none."""
        rows = self._rows("SELECT id FROM node WHERE path = ? AND call = ?", (schema.storable(path), call))
        if not rows or not 0 <= rows[0][0] < len(self.nodes):
            raise InputError(f"the trace has no call {call} of {path!r}: look the paths up in trace.columns.paths")
        return self.nodes[rows[0][0]]

    def worst(self, n: int = 10) -> list[Node]:
        """The `n` nodes of the largest |self leak|, worst first; a NaN is worse than any number."""
        return [self.nodes[int(node)] for node in worst_first(self.columns.self_leak)[:n]]

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection that may change the trace, in one transaction: all of it or, after an error, nothing."""
        if self.path is None:
            connection = self._connection
        else:
            address = f"{self.path.absolute().as_uri()}?mode=rw"
            connection = sqlite3.connect(address, uri=True, isolation_level=None)
        try:
            if connection.in_transaction:  # a trace in memory stays in the writer's
                connection.execute("COMMIT")
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        finally:
            if self.path is not None:
                connection.close()

    def stored_tensors(self, digest: bytes | None = None) -> list[tuple[schema.Cell, ...]]:
        """(hash, row, dtype, shape, bytes, "blob") of every stored tensor, or of the one with that hash.

        As the file says it: the shape is JSON, and nothing is checked.
        """
        rows = self._rows(_TENSORS) if digest is None else self._rows(f"{_TENSORS} WHERE hash = ?", (digest,))
        if self._contents is None:
            return rows
        return [(*row[:4], len(self._contents.get(row[1], b"")), row[5]) for row in rows]

    def content(self, row: int, what: str) -> bytes:
        """The elements of the stored tensor in that row, as they were recorded; `what` it is called in an error."""
        if self._contents is not None:
            found = self._contents.get(row)
        else:
            rows = self._rows("SELECT data FROM tensor WHERE id = ? AND typeof(data) = 'blob'", (row,))
            found = rows[0][0] if rows else None
        if found is None:
            raise damaged(self.path, f"{what} is missing")
        return found

    def query(self, sql: str, values: Sequence[schema.Cell] = ()) -> list[tuple[schema.Cell, ...]]:
        """The rows of a query on the trace's tables (`layout`); TraceFileError where the file is damaged.

        The data of a trace in memory are not in its table `tensor`: see `content`.
        """
        return self._rows(sql, values)

    def __repr__(self) -> str:
        run = self.run
        name = "in memory" if self.path is None else str(self.path)
        figures = f"delta {schema.total(run.delta):+.4g}" if run.status == "complete" else run.status
        return f"<Trace {name}: {run.model}, {run.method}, {run.variant}; {figures}; {len(self.nodes)} calls>"

    def _repr_html_(self) -> str:
        from tracer.report.html import fragment

        return fragment(self)

    def close(self) -> None:
        """End the reading; also done when the trace is let go."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(
        self, sql: str, values: Sequence[schema.Cell] = (), width: int | None = None
    ) -> list[tuple[schema.Cell, ...]]:
        try:
            return self._queries.rows(sql, values, width)
        except UNREADABLE as error:
            raise damaged(self.path, error) from error

    def _attachments(
        self, table: str, columns: Sequence[str], read: Callable[[Sequence[schema.Cell]], _Attachment]
    ) -> list[_Attachment]:
        if self.version == 1:
            return []
        rows = self._rows(f"SELECT {', '.join(columns)} FROM {table} ORDER BY id")
        try:
            return [read(row) for row in rows]
        except MISSHAPEN as error:
            raise damaged(self.path, error) from error

    def _names(self) -> Iterator[tuple[schema.Cell, ...]]:
        size, last = 0, -1
        while True:
            ((end, *names),) = self._rows(NAMES_QUERY, (last,))
            if end is None:
                return
            size += sum(map(len, names))
            if end <= last or not self._queries.holds(size):
                raise ValueError("its calls are not in order")
            last = end
            yield (end, *names)

    def _read_nodes(self, start: int, stop: int) -> list[Node]:
        sql = f"SELECT id, {', '.join(_NODE_CELLS)} FROM node WHERE id >= ? AND id < ? ORDER BY id"
        rows = self._rows(sql, (start, stop))
        try:
            if [row[0] for row in rows] != list(range(start, max(start, stop))):
                raise ValueError("its calls are not in order")
            return [self._node(*row) for row in rows]
        except MISSHAPEN as error:
            raise damaged(self.path, error) from error

    def _node(
        self, index: int, source: schema.Cell, rule: schema.Cell, secant: schema.Cell, small: schema.Cell,
        dropped: schema.Cell, nonfinite: schema.Cell, leaks: schema.Cell, self_leaks: schema.Cell,
    ) -> Node:  # fmt: skip
        columns = self.columns
        parent, end = int(columns.parent[index]), int(columns.end[index])
        children = []
        child = index + 1
        while child < end:
            children.append(child)
            child = int(columns.end[child])
        leak, self_leak = schema.unpack(leaks), schema.unpack(self_leaks)
        self._check_examples(f"node {index}", leak, self_leak)
        return Node(
            id=index,
            parent=parent if parent >= 0 else None,
            end=end,
            depth=int(columns.depth[index]),
            path=columns.paths[index],
            call=int(columns.call[index]),
            kind=columns.kinds[index],
            type=columns.types[index],
            source=None if source is None else schema.text(source),
            rule=schema.text(rule),
            leak=leak,
            self_leak=self_leak,
            gain=float(columns.gain[index]),
            relative_leak=float(columns.relative_leak[index]),
            largest_secant=schema.number(secant),
            small_differences=int(small),
            dropped_differences=int(dropped),
            nonfinite=int(nonfinite),
            seconds=float(columns.seconds[index]),
            children=tuple(children),
        )

    def _check_examples(self, what: str, *figures: Floats) -> None:
        if self.run.status == "complete" and any(len(numbers) != self.run.examples for numbers in figures):
            sizes = ", ".join(str(len(numbers)) for numbers in figures)
            raise ValueError(f"{what} has figures of {sizes} examples, the run has {self.run.examples}")

    def _reference(self, node: Node | int, name: TensorName, slot: int) -> tuple[TensorRef, str]:
        """The stored tensor's reference, and what to call it in an error."""
        if name not in _PLACES:
            raise ValueError(f"{name!r} is none of {', '.join(_PLACES)}")
        direction, column = _PLACES[name]
        where = "node = ? AND direction = ? AND slot = ?"
        rows = self._rows(
            f"SELECT {column}_hash, dtype, shape FROM edge WHERE {where}", (_id(node), direction, slot)
        )  # fmt: skip
        what = f"{name} {slot} of {clean(self.columns.paths[_id(node)]) or 'the model'}"
        if not rows:
            raise TraceFileError(f"the trace has no {what}: see trace.edges(node) for what the call was given and gave")
        digest, dtype, _ = rows[0]
        if digest is None and self.run.capture != "tensors":
            raise TraceFileError(f"the trace has figures only, not {what}: record it with --capture tensors")
        if not isinstance(digest, bytes | None):
            raise damaged(self.path, f"the hash of {what} is no hash")
        return TensorRef(digest or None, str(dtype), (), elided=digest == b""), what

    def _locate(self, ref: TensorRef, what: str) -> tuple[int, str, tuple[int, ...]]:
        """Row number, dtype and shape of a stored tensor, checked against the length of its data before any is read."""
        if ref.hash is None:
            reason = "was left out to save room" if ref.elided else "does not exist"
            raise TraceFileError(f"{what} {reason}: its figures are in trace.edges(node)")
        rows = self.stored_tensors(ref.hash)
        if not rows:
            raise damaged(self.path, f"{what} is missing")
        _hash, rowid, dtype, sizes, length, stored_as = rows[0]
        try:
            shape = schema.parse_shape(json.loads(sizes))
            expected = _product(shape) * np.dtype(schema.ITEM_TYPES[dtype]).itemsize
        except MISSHAPEN as error:
            raise damaged(self.path, error) from error
        if stored_as != "blob" or length != expected:
            raise damaged(self.path, f"{what} has {length} bytes, its shape needs {expected}")
        if not self._queries.holds(expected):
            raise damaged(self.path, f"{what} claims {expected} bytes, more than the file has")
        return int(rowid), dtype, shape

    def _stored(self, ref: TensorRef, what: str) -> Array:
        rowid, dtype, shape = self._locate(ref, what)
        data = self.content(rowid, what)
        if content_hash(data, dtype, shape, self.version) != ref.hash:
            raise damaged(self.path, f"{what} is not what was recorded")
        try:
            return _decode(data, dtype).reshape(shape)
        except ValueError as error:  # a shape with a zero and sizes whose product no array can have
            raise damaged(self.path, error) from error


class _Nodes(Sequence[Node]):
    """All nodes of a trace, read one by one or a chunk at a time."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def __len__(self) -> int:
        return len(self._trace.columns.parent)

    @overload
    def __getitem__(self, index: int) -> Node: ...
    @overload
    def __getitem__(self, index: slice) -> list[Node]: ...
    def __getitem__(self, index: int | slice) -> Node | list[Node]:
        ids = range(len(self))[index]
        if isinstance(ids, int):
            return self._trace._read_nodes(ids, ids + 1)[0]
        if ids.step == 1:
            return self._trace._read_nodes(ids.start, ids.stop)
        return [self[node] for node in ids]

    def __iter__(self) -> Iterator[Node]:
        for start in range(0, len(self), _CHUNK):
            yield from self[start : start + _CHUNK]


def _close(connection: sqlite3.Connection, contents: dict[int, bytes] | None) -> None:
    connection.close()
    if contents is not None:
        contents.clear()


def _before(path: Path | None) -> str:
    """Where the trace is that a recording without a run was to replace."""
    if path is None or not (old := set_aside_by(path)).exists():
        return ""
    return f"; the trace that it was to replace is {old}"


def _edge(row: tuple[schema.Cell, ...]) -> Edge:
    cells = dict(zip(schema.EDGE_COLUMNS, row, strict=False))
    described = row[len(schema.EDGE_COLUMNS) :]
    direction = cells["direction"]
    if direction not in ("in", "out"):
        raise ValueError(f"an edge of direction {direction!r}")
    shape = schema.parse_shape(json.loads(cells["shape"]))
    dtype = schema.text(cells["dtype"])
    refs: dict[str, TensorRef | None] = {}
    for index, tensor in enumerate(schema.STORED):
        digest = cells[f"{tensor}_hash"]
        if not isinstance(digest, bytes | None):
            raise TypeError("a hash is no hash")
        stored_dtype, stored_shape = described[2 * index : 2 * index + 2]
        if digest is None:
            refs[tensor] = None
        elif stored_dtype is None:
            refs[tensor] = TensorRef(digest or None, dtype, shape, elided=digest == b"")
        else:
            refs[tensor] = TensorRef(digest, schema.text(stored_dtype), schema.parse_shape(json.loads(stored_shape)))
    return Edge(
        direction=direction,
        slot=int(cells["slot"]),
        name=schema.text(cells["name"]),
        shape=shape,
        dtype=dtype,
        flow=schema.unpack(cells["flow_examples"]),
        value_statistics=_statistics(cells, "value"),
        reference_statistics=_statistics(cells, "reference"),
        difference_statistics=_statistics(cells, "difference"),
        multiplier_statistics=_statistics(cells, "multiplier"),
        value=refs["value"],
        reference=refs["reference"],
        multiplier=refs["multiplier"],
    )


def _statistics(cells: Mapping[str, schema.Cell], tensor: str) -> Statistics | None:
    return schema.statistics_from_cells([cells[f"{tensor}_{figure}"] for figure in schema.FIGURES])


def _decode(data: bytes, dtype: str) -> Array:
    numbers = _elements(data, dtype)
    return numbers if numbers.flags.writeable else numbers.copy()


def _elements(data: bytes | memoryview, dtype: str) -> Array:
    numbers = np.frombuffer(data, dtype=schema.ITEM_TYPES[dtype])
    return (numbers.astype(np.uint32) << 16).view(np.float32) if dtype == "bfloat16" else numbers


def _product(sizes: Sequence[int]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


def _id(node: Node | int) -> int:
    return node if isinstance(node, int) else node.id
