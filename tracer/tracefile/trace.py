"""A recorded run, opened for reading: its head at once, everything else when it is asked for. Loads no torch."""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, Self, TypeVar

from tracer.errors import InputError, TraceFileError
from tracer.records import Counterfactual, Edge, Finding, Floats, Node, Note, Run, TensorRef
from tracer.text import clean, require_example, total
from tracer.tracefile import rows
from tracer.tracefile.cells import Cell, storable
from tracer.tracefile.columns import Columns, read_columns, read_leaks, worst_first
from tracer.tracefile.layout import (
    COUNTERFACTUAL_COLUMNS,
    EDGE_COLUMNS,
    FINDING_COLUMNS,
    NOTE_COLUMNS,
    RUN_COLUMNS,
    STORED,
    VERSION,
)
from tracer.tracefile.nodes import Nodes, source_lines
from tracer.tracefile.opening import damaged, open_connection
from tracer.tracefile.reader import Reader
from tracer.tracefile.reservation import being_recorded, set_aside_by
from tracer.tracefile.tensors import Array, Tensors

TensorName = Literal["input", "reference", "multiplier_in", "output", "output_reference", "multiplier_out"]
RecordingState = Literal["over", "running", "outdated", "killed", "unknown"]

_PLACES: dict[str, tuple[str, str]] = {
    "input": ("in", "value"),
    "reference": ("in", "reference"),
    "multiplier_in": ("in", "multiplier"),
    "output": ("out", "value"),
    "output_reference": ("out", "reference"),
    "multiplier_out": ("out", "multiplier"),
}
# An edge, and the dtype and shape of its tensors that are stored.
_EDGES = (
    f"SELECT {', '.join(f'edge.{column}' for column in EDGE_COLUMNS)}, "
    f"{', '.join(f'{name}.dtype, {name}.shape' for name in STORED)} FROM edge"
    + "".join(f" LEFT JOIN tensor AS {name} ON {name}.hash = edge.{name}_hash" for name in STORED)
    + " WHERE node = ? ORDER BY direction, slot"
)
_LEFT_OUT = "SELECT " + ", ".join(f"total({name}_hash = x'')" for name in STORED) + " FROM edge"
_Record = TypeVar("_Record")


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
        version: int = VERSION,
        contents: dict[int, bytes] | None = None,
    ) -> None:
        self.path = path
        self.version = version
        self._reader = Reader(connection, path, version, contents)
        self._tensors = Tensors(self._reader)
        # It follows the reader, which the nodes hold too: they can still be read when the trace itself was let go.
        self._finalizer = weakref.finalize(self._reader, _close, connection, contents)
        try:
            columns = [name if version > 1 or name != "command" else "''" for name in RUN_COLUMNS]
            found = self._reader.rows(f"SELECT {', '.join(columns)} FROM run")
            if not found:
                raise TraceFileError(
                    f"{path} holds no run yet: its recording has not begun, or was killed before it did{_before(path)}"
                )
            with self._reader.decoding():
                self.run: Run = rows.run_from_row(found[0])
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
        now = self._reader.rows("SELECT status, message FROM run")
        return now != [(self.run.status, self.run.message)]

    @property
    def recording_state(self) -> RecordingState:
        """Whether the run is still being recorded, asked anew each time.

        "over": it ended before the file was opened; "running": a process records it now; "outdated": it has gone on
        since the file was opened; "killed": its process has ended; "unknown": running or killed, which a file that
        one may not write does not tell.
        """
        if self.run.status != "recording":
            return "over"
        if self.path is None or being_recorded(self.path):
            return "running"
        if self.outdated:
            return "outdated"
        return "killed" if os.access(self.path, os.W_OK) else "unknown"

    @cached_property
    def attributions(self) -> tuple[Array, ...]:
        """The attributions, one array of the input's shape for each model input."""
        ((value,),) = self._reader.rows("SELECT attributions FROM run")
        with self._reader.decoding():
            refs = rows.refs_from_json(value)
        found: dict[bytes | None, Array] = {}  # one tensor named a million times is still one
        size = 0
        for index, ref in enumerate(refs):
            if ref.hash not in found:
                found[ref.hash] = self._tensors.whole(ref, f"attribution {index}")
                size += found[ref.hash].nbytes
                if not self._reader.queries.holds(size):
                    raise damaged(self.path, "its attributions are larger than the file")
        return tuple(found[ref.hash] for ref in refs)

    @cached_property
    def columns(self) -> Columns:
        """The figures of all nodes, read once."""
        return read_columns(self._reader, complete=self.run.status == "complete")

    @cached_property
    def notes(self) -> tuple[Note, ...]:
        """What the recorder noticed about the run, in the order of noticing."""
        return tuple(self._records("note", NOTE_COLUMNS, rows.note_from_row, since=2))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What `tracer.diagnose` found when the run was recorded or last repaired; () where the file does not say."""
        return tuple(self._records("finding", FINDING_COLUMNS, rows.finding_from_row, since=3))

    @property
    def counterfactuals(self) -> tuple[Counterfactual, ...]:
        """The same run under other rules, as far as it was measured: single changes, then the rungs of the ladder."""
        runs = self._records("counterfactual", COUNTERFACTUAL_COLUMNS, rows.counterfactual_from_row, since=2)
        with self._reader.decoding():
            for run in runs:
                rows.check_examples(self.run, f"the change {run.change!r}", run.delta)
                if len(run.self_leak) not in (0, len(self.nodes)):
                    raise ValueError(f"the change {run.change!r} has figures of {len(run.self_leak)} calls")
        return tuple(sorted(runs, key=lambda run: run.step))

    @property
    def left_out(self) -> int:
        """How many of its calls' tensors were to be kept, but had no room, and are there as figures only."""
        ((*found,),) = self._reader.rows(_LEFT_OUT)
        return int(sum(found))

    def sources(self, start: int, stop: int) -> list[str]:
        """The source lines of the nodes `start` to `stop`, "" where there is none; far quicker than the nodes."""
        return source_lines(self._reader, start, stop)

    @property
    def nodes(self) -> Sequence[Node]:
        """All nodes in preorder; each is built when it is asked for."""
        return Nodes(self._reader, self.columns, self.run)

    def edges(self, node: Node | int) -> tuple[Edge, ...]:
        """The tensors into and out of a call: the inputs by slot, then the outputs by slot."""
        found = self._reader.rows(_EDGES, (_id(node),))
        with self._reader.decoding():
            edges = tuple(map(rows.edge_from_row, found))
            rows.check_examples(self.run, f"an edge of node {_id(node)}", *(edge.flow for edge in edges))
        return edges

    def tensor(self, node: Node | int, name: TensorName, slot: int = 0) -> Array:
        """A recorded tensor in full; bfloat16 as float32. TraceFileError where it was not recorded."""
        return self._tensors.whole(*self._reference(node, name, slot))

    def tensor_rows(self, node: Node | int, name: TensorName, start: int, stop: int, slot: int = 0) -> Array:
        """Rows `start` to `stop` of a tensor seen as a matrix of its last axis: (stop − start, last size).

        All other axes are flattened into one. Only these rows are read from the file.
        """
        (block,) = self.tensor_blocks(node, name, start, stop, slot)
        return block.copy()

    def tensor_blocks(
        self, node: Node | int, name: TensorName, start: int, stop: int, slot: int = 0, rows: int | None = None
    ) -> Iterator[Array]:
        """The same rows, `rows` at a time and read one block after the other; None: all in one, which may be empty.

        The blocks must not be written to. The file stays in use until the last is read or the iterator is let go.
        """
        ref, what = self._reference(node, name, slot)
        yield from self._tensors.blocks(ref, what, start, stop, rows)

    def leaks(self, example: int | None = None) -> tuple[Floats, Floats]:
        """Leak and self leak of every node, (N,) each: of one example, or summed over all."""
        if example is None:
            return self.columns.leak, self.columns.self_leak
        require_example(example, self.run.examples)
        return read_leaks(self._reader, len(self.columns.parent), self.run.examples, example)

    def find(self, path: str, call: int = 0) -> Node:
        """The node of one call of `path`; InputError where there is none."""
        found = self._reader.rows("SELECT id FROM node WHERE path = ? AND call = ?", (storable(path), call))
        if not found or not 0 <= found[0][0] < len(self.nodes):
            raise InputError(f"the trace has no call {call} of {path!r}: look the paths up in trace.columns.paths")
        return self.nodes[found[0][0]]

    def worst(self, n: int = 10) -> list[Node]:
        """The `n` nodes of the largest |self leak|, worst first; a NaN is worse than any number."""
        return [self.nodes[int(node)] for node in worst_first(self.columns.self_leak)[:n]]

    def stored_tensors(self, digest: bytes | None = None) -> list[tuple[Cell, ...]]:
        """(hash, row, dtype, shape, bytes, "blob") of every stored tensor, or of the one with that hash.

        As the file says it: the shape is JSON, and nothing is checked.
        """
        return self._tensors.rows(digest)

    def content(self, row: int, what: str) -> bytes:
        """The elements of the stored tensor in that row, as they were recorded; an error calls the tensor `what`."""
        return self._tensors.content(row, what)

    def query(self, sql: str, values: Sequence[Cell] = ()) -> list[tuple[Cell, ...]]:
        """The rows of a query on the trace's tables (FORMAT.md); TraceFileError where the file is damaged.

        The data of a trace in memory are not in its table `tensor`: see `content`.
        """
        return self._reader.rows(sql, values)

    def __repr__(self) -> str:
        run = self.run
        name = "in memory" if self.path is None else str(self.path)
        figures = f"delta {total(run.delta):+.4g}" if run.status == "complete" else run.status
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

    def _records(
        self, table: str, columns: Sequence[str], from_row: Callable[[Sequence[Cell]], _Record], since: int
    ) -> list[_Record]:
        """All records of a table in the order of writing; none in a trace older than version `since`."""
        if self.version < since:
            return []
        found = self._reader.rows(f"SELECT {', '.join(columns)} FROM {table} ORDER BY id")
        with self._reader.decoding():
            return [from_row(row) for row in found]

    def _reference(self, node: Node | int, name: TensorName, slot: int) -> tuple[TensorRef, str]:
        """The stored tensor's reference, and what to call it in an error."""
        if name not in _PLACES:
            raise ValueError(f"{name!r} is none of {', '.join(_PLACES)}")
        direction, column = _PLACES[name]
        found = self._reader.rows(
            f"SELECT {column}_hash, dtype FROM edge WHERE node = ? AND direction = ? AND slot = ?",
            (_id(node), direction, slot),
        )
        what = f"{name} {slot} of {clean(self.columns.paths[_id(node)]) or 'the model'}"
        if not found:
            raise TraceFileError(f"the trace has no {what}: see trace.edges(node) for what the call was given and gave")
        digest, dtype = found[0]
        if digest is None and self.run.capture != "tensors":
            raise TraceFileError(f"the trace has figures only, not {what}: record it with --capture tensors")
        if not isinstance(digest, bytes | None):
            raise damaged(self.path, f"the hash of {what} is not a hash")
        return TensorRef(digest or None, str(dtype), (), elided=digest == b""), what


def _close(connection: sqlite3.Connection, contents: dict[int, bytes] | None) -> None:
    connection.close()
    if contents is not None:
        contents.clear()


def _before(path: Path | None) -> str:
    """Where the trace is that a recording without a run was to replace."""
    if path is None or not (old := set_aside_by(path)).exists():
        return ""
    return f"; the trace that it was to replace is {old}"


def _id(node: Node | int) -> int:
    return node if isinstance(node, int) else node.id
