"""Writes a trace file while a run is recorded."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tracer.errors import InputError, TraceFileError
from tracer.records import Edge, Node, Note, Run, TensorRef
from tracer.tracefile import layout
from tracer.tracefile.cells import ITEM_TYPES, Cell, content_hash, shape_text, storable, tensor_bytes
from tracer.tracefile.reservation import beginning, claim, fold_log, move, remove
from tracer.tracefile.rows import edge_row, node_row, note_row, refs_to_json, run_row

if TYPE_CHECKING:
    from tracer.tracefile.trace import Trace

_BATCH = 2_000
_COMMIT_SECONDS = 0.5
_COMMIT_BYTES = 2**24  # of tensors, at the latest; SQLite then moves its log into the file, and writes over it
_PAGE = 2**15  # bytes: tensors go through the write-ahead log twice as fast as in SQLite's 4 096
_BEGIN = "BEGIN IMMEDIATE"  # holds the lock for writing all along, which shows that the file is being recorded

_ADD_NODE = layout.insertion("node", layout.NODE_COLUMNS)
_REPLACE_NODE = _ADD_NODE.replace("INSERT", "INSERT OR REPLACE")
_ADD_EDGE = layout.insertion("edge", layout.EDGE_COLUMNS)
_ADD_TENSOR = layout.insertion("tensor", ("hash", "dtype", "shape", "data"))
_ADD_RUN = layout.insertion("run", layout.RUN_COLUMNS)
_ADD_NOTE = layout.insertion("note", layout.NOTE_COLUMNS)
_SET_RUN = f"UPDATE run SET {', '.join(f'{column} = ?' for column in layout.RUN_COLUMNS)}"


class TraceWriter:
    """Writes one trace: `begin`, then tensors and nodes in any order, then `finish`.

    `path` None keeps the trace in memory, in the same schema, its tensors beside the database. A file can be opened
    while it is written, and a killed process leaves what was committed, with the status "recording". Leaving the
    context before `finish` leaves the status "failed" and the reason; leaving it before `begin` leaves no file.
    `max_bytes` bounds the stored tensors.
    """

    def __init__(self, path: str | os.PathLike[str] | None, force: bool = False, max_bytes: int | None = None) -> None:
        if not (max_bytes is None or isinstance(max_bytes, int)):
            raise InputError(f"max_bytes is {max_bytes!r}; expected a number of bytes")
        self.path = None if path is None else Path(path)
        self.max_bytes = max_bytes
        self.stored_bytes = 0
        """Bytes of tensors stored so far, each content counted once."""
        self._begun = self._finished = self._handed_over = False
        self._provisional = self._settling = False
        self._nodes: list[tuple[Cell, ...]] = []
        self._edges: list[tuple[Cell, ...]] = []
        self._hashes: set[bytes] = set()
        self._committed = time.monotonic()
        self._uncommitted = 0
        self._contents: dict[int, bytes] | None = {} if path is None else None
        with self._errors():
            image = _empty(log=path is not None)
        with nullcontext() if self.path is None else beginning(self.path):
            self._open(force, image)

    def _open(self, force: bool, image: bytes) -> None:
        self._old = None if self.path is None else claim(self.path, force, image)
        try:
            with self._errors():
                # Views may be shown from another thread than the one that recorded.
                self._connection = sqlite3.connect(
                    self.path or ":memory:", check_same_thread=False, isolation_level=None, cached_statements=32
                )
                self._largest = self._connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) - 1024
                # A killed process loses nothing by it, only a power cut may; and a trace can be recorded again.
                self._connection.execute("PRAGMA synchronous = OFF")
                self._connection.execute(f"PRAGMA wal_autocheckpoint = {_COMMIT_BYTES // _PAGE}")
                if self.path is None:
                    self._connection.deserialize(image)
                self._connection.execute(_BEGIN)
        except BaseException:
            self._remove_own()
            raise

    def begin(self, run: Run) -> None:
        """Write the head of the run, with the status "recording"; from here on the file can be opened.

        Called again, it brings the head up to date.
        """
        with self._errors():
            self._connection.execute(_SET_RUN if self._begun else _ADD_RUN, run_row(replace(run, status="recording")))
            self._begun = True
            self._commit()

    def note_progress(self, message: str, nodes: Iterable[Node]) -> None:
        """Write how far the run is, and calls whose figures are not known yet; a killed process leaves them.

        The first `add` removes these provisional calls; from then on nothing is committed until `finish`, so that a
        file shows the provisional calls or the final ones, never both.
        """
        with self._errors():
            self._provisional = True
            self._connection.executemany(_REPLACE_NODE, map(node_row, nodes))
            self._connection.execute("UPDATE run SET message = ?", (storable(message),))
            self._commit()

    def put_tensor(
        self, raw: bytes | memoryview, dtype: str, shape: tuple[int, ...], *, always: bool = False
    ) -> TensorRef:
        """The reference to a stored tensor: `raw` are its elements in row-major order, `dtype` torch's name of it.

        One content is stored once. A tensor that a database cell cannot hold (1 GB), of a dtype that numpy does not
        know, or for which `max_bytes` leaves no room, is left out (`elided`); `always` ignores `max_bytes`.
        """
        data = memoryview(raw).cast("B") if memoryview(raw).nbytes else memoryview(b"")
        if dtype not in ITEM_TYPES or data.nbytes > self._largest:
            return TensorRef(None, dtype, shape, elided=True)
        if data.nbytes != tensor_bytes(dtype, shape):
            raise ValueError(f"{data.nbytes} bytes do not make a {dtype} tensor of shape {shape}")
        digest = content_hash(data, dtype, shape)
        if digest not in self._hashes:
            if not always and self.max_bytes is not None and self.stored_bytes + data.nbytes > self.max_bytes:
                return TensorRef(None, dtype, shape, elided=True)
            content = None if self._contents is None else bytes(data)  # SQLite would copy it three times
            with self._errors():
                row = (digest, dtype, shape_text(shape), data if content is None else b"")
                number = self._connection.execute(_ADD_TENSOR, row).lastrowid
            if self._contents is not None and content is not None and number is not None:
                self._contents[number] = content
            self._hashes.add(digest)
            self.stored_bytes += data.nbytes
            self._uncommitted += data.nbytes if content is None else 0
            self._commit_if_due()
        return TensorRef(digest, dtype, shape)

    def add(self, node: Node, edges: Sequence[Edge]) -> None:
        """Write a node and its edges. The order is free; together the ids must be 0 … N − 1, in preorder."""
        self._nodes.append(node_row(node))
        self._edges += [edge_row(node.id, edge) for edge in edges]
        if len(self._nodes) >= _BATCH:
            self._flush()
        self._commit_if_due()

    def set_attributions(self, refs: Sequence[TensorRef]) -> None:
        """Write which stored tensors are the attributions, one a model input; `begin` must have been called."""
        with self._errors():
            self._connection.execute("UPDATE run SET attributions = ?", (refs_to_json(refs),))

    def add_notes(self, notes: Iterable[Note]) -> None:
        """Write what the recorder noticed; `begin` must have been called."""
        with self._errors():
            self._connection.executemany(_ADD_NOTE, map(note_row, notes))

    def finish(self, run: Run) -> None:
        """Write the final head of the run and leave one file, with nothing beside it."""
        with self._errors():
            self._flush()
            self._connection.execute(_SET_RUN, run_row(run))
            self._commit()
        self._finished = True
        self._fold()
        self._forget_old()

    def commit(self) -> None:
        """Make what was written so far visible to whoever opens the file, and safe from the end of this process."""
        self._flush()
        with self._errors():
            self._commit()
        self._settling = False

    def trace(self) -> Trace:
        """What was written so far, opened for reading. In memory, the trace takes the database over."""
        from tracer.tracefile.trace import Trace, open_trace

        self.commit()
        if self.path is not None:
            return open_trace(self.path)
        self._handed_over = True
        return Trace(self._connection, None, contents=self._contents)

    def discard(self) -> None:
        """End the writing, and leave no file; one that `force` set aside comes back."""
        self._connection.close()
        self._finished = self._handed_over = True
        self._remove_own()

    def close(self) -> None:
        """End the writing; see the class for what is left when `finish` did not come first."""
        self._end("the recording ended before it was finished")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._end("interrupted")
        elif kind is not None:
            self._end(f"{kind.__name__}: {error}")
        else:
            self.close()

    def _end(self, reason: str) -> None:
        # After an error the database may be unwritable (a full disk), which must not hide the error itself.
        if self._begun and not self._finished:
            with suppress(TraceFileError), self._errors():
                if self._settling:  # only some final rows are written: go back to the provisional ones
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    self._connection.execute("BEGIN")
                elif not self._provisional:
                    self._flush()
                failed = "UPDATE run SET status = 'failed', message = ?"
                self._connection.execute(failed, (storable(reason),))
                self._commit()
                self._finished = True
            self._fold()
            self._forget_old()
        if not self._handed_over:
            self._connection.close()
        if not self._begun:
            self._remove_own()

    def _remove_own(self) -> None:
        if self.path is None:
            return
        remove(self.path)
        if self._old is not None:
            move(self._old, self.path)
            self._old = None

    def _forget_old(self) -> None:
        if self._old is not None:
            remove(self._old)
            self._old = None

    def _flush(self) -> None:
        with self._errors():
            nodes, self._nodes = self._nodes, []
            edges, self._edges = self._edges, []
            if nodes and self._provisional:
                self._connection.execute("DELETE FROM node")
                self._provisional, self._settling = False, True
            self._connection.executemany(_ADD_NODE, nodes)
            self._connection.executemany(_ADD_EDGE, edges)

    def _commit_if_due(self) -> None:
        recent = time.monotonic() - self._committed < _COMMIT_SECONDS
        if self._settling or (recent and self._uncommitted < _COMMIT_BYTES):
            return
        if self._provisional:
            with self._errors():
                self._commit()
        else:
            self.commit()

    def _commit(self) -> None:
        if self._connection.in_transaction:  # not so where Ctrl-C came between the two statements
            self._connection.execute("COMMIT")
        self._connection.execute("BEGIN" if self._finished else _BEGIN)
        self._committed, self._uncommitted = time.monotonic(), 0

    def _fold(self) -> None:
        if self.path is None:
            return
        with suppress(sqlite3.Error):
            self._connection.execute("COMMIT")
        fold_log(self._connection)
        with suppress(sqlite3.Error):
            self._connection.execute("BEGIN")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise TraceFileError(
                f"cannot write {self.path or 'the trace in memory'} ({error}): "
                "look at the free space and the rights of its folder, or write it elsewhere"
            ) from error


@cache
def _empty(log: bool) -> bytes:
    """The bytes of a trace without a run; `log`: in write-ahead-log mode.

    Files are written from it at once: a process killed while SQLite makes tables would leave a file that does not open.
    """
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"PRAGMA page_size = {_PAGE}")
        connection.execute(f"PRAGMA application_id = {layout.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {layout.VERSION}")
        for sql in layout.SCHEMA.values():
            connection.execute(sql)
        image = bytearray(connection.serialize())
    if log:
        image[18:20] = b"\x02\x02"  # the file format's write and read version
    return bytes(image)
