"""The tensors of a trace: found by their content hash, checked, and read in full or block by block."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.errors import TraceFileError
from tracer.records import TensorRef
from tracer.tracefile.cells import ITEM_TYPES, Cell, content_hash, parse_shape, tensor_bytes
from tracer.tracefile.opening import UNREADABLE, damaged
from tracer.tracefile.reader import Reader

Array = npt.NDArray[Any]

_QUERY = "SELECT hash, id, dtype, shape, length(data), typeof(data) FROM tensor"


class Tensors:
    """The table `tensor` of an open trace; `what` is what a tensor is called in an error."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def rows(self, digest: bytes | None = None) -> list[tuple[Cell, ...]]:
        """(hash, row, dtype, shape, bytes, "blob") of every tensor, or of the one with that hash; unchecked."""
        rows = self._reader.rows(_QUERY) if digest is None else self._reader.rows(f"{_QUERY} WHERE hash = ?", (digest,))
        contents = self._reader.contents
        if contents is None:
            return rows
        return [(*row[:4], len(contents.get(row[1], b"")), row[5]) for row in rows]

    def content(self, row: int, what: str) -> bytes:
        """The elements of the tensor in that row, as they were recorded."""
        if self._reader.contents is not None:
            found = self._reader.contents.get(row)
        else:
            rows = self._reader.rows("SELECT data FROM tensor WHERE id = ? AND typeof(data) = 'blob'", (row,))
            found = rows[0][0] if rows else None
        if found is None:
            raise damaged(self._reader.path, f"{what} is missing")
        return found

    def whole(self, ref: TensorRef, what: str) -> Array:
        """A tensor in full, which must have the content that its hash names; bfloat16 as float32."""
        row, dtype, shape = self._locate(ref, what)
        data = self.content(row, what)
        if content_hash(data, dtype, shape, self._reader.version) != ref.hash:
            raise damaged(self._reader.path, f"{what} is not what was recorded")
        try:
            numbers = _elements(data, dtype)
            return (numbers if numbers.flags.writeable else numbers.copy()).reshape(shape)
        except ValueError as error:  # a shape with a zero and sizes whose product no array can have
            raise damaged(self._reader.path, error) from error

    def blocks(self, ref: TensorRef, what: str, start: int, stop: int, rows: int | None) -> Iterator[Array]:
        """Rows `start` to `stop` of a tensor seen as a matrix of its last axis, `rows` at a time (None: all in one).

        The blocks must not be written to. The file stays in use until the last is read or the iterator is let go.
        """
        row, dtype, shape = self._locate(ref, what)
        width = shape[-1] if shape else 1
        row_bytes = tensor_bytes(dtype, (width,))
        start, stop, _ = slice(start, stop).indices(math.prod(shape[:-1]))
        stop = max(start, stop)
        step = max(stop - start if rows is None or not width else rows, 1)
        try:
            with self._reading(row) as read:
                for first in range(start, max(stop, start + 1), step):
                    count = min(step, stop - first)
                    yield _elements(read(first * row_bytes, count * row_bytes), dtype).reshape(count, width)
        except (*UNREADABLE, ValueError) as error:
            raise damaged(self._reader.path, error) from error

    @contextmanager
    def _reading(self, row: int) -> Iterator[Callable[[int, int], bytes | memoryview]]:
        """A function (start, size) that reads so many bytes of a stored tensor from byte `start` on."""
        if self._reader.contents is not None:
            content = memoryview(self._reader.contents[row])
            yield lambda start, size: content[start : start + size]
            return
        # One handle for all reads: each new one would walk the chain of the tensor's pages from its beginning.
        with self._reader.connection.blobopen("tensor", "data", row, readonly=True) as blob:

            def read(start: int, size: int) -> bytes:
                blob.seek(start)
                return blob.read(size)

            yield read

    def _locate(self, ref: TensorRef, what: str) -> tuple[int, str, tuple[int, ...]]:
        """Row number, dtype and shape of a tensor, checked against the length of its data before any is read."""
        if ref.hash is None:
            reason = "was left out to save room" if ref.elided else "does not exist"
            raise TraceFileError(f"{what} {reason}: its figures are in trace.edges(node)")
        rows = self.rows(ref.hash)
        if not rows:
            raise damaged(self._reader.path, f"{what} is missing")
        _hash, row, dtype, sizes, length, stored_as = rows[0]
        with self._reader.decoding():
            shape = parse_shape(json.loads(sizes))
            expected = tensor_bytes(dtype, shape)
        if stored_as != "blob" or length != expected:
            raise damaged(self._reader.path, f"{what} has {length} bytes, its shape needs {expected}")
        if not self._reader.queries.holds(expected):
            raise damaged(self._reader.path, f"{what} claims {expected} bytes, more than the file has")
        return int(row), dtype, shape


def _elements(data: bytes | memoryview, dtype: str) -> Array:
    numbers = np.frombuffer(data, dtype=ITEM_TYPES[dtype])
    return (numbers.astype(np.uint32) << 16).view(np.float32) if dtype == "bfloat16" else numbers
