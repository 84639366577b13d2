"""Arrays put aside for later: a few in memory, the rest in a nameless file, so that a long run needs no more memory."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TypeAlias

import numpy as np

from tracer.ledger.arrays import Numbers

_ALLOWANCE = 128 * 2**20  # bytes that may stay in memory
_SMALL = 2**16  # bytes below which an array always stays there


@dataclass(frozen=True, slots=True)
class Spilled:
    """Where an array lies in the file."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


HeldArray: TypeAlias = Numbers | Spilled
"""What stands for an array that was put aside."""


class Spill:
    """Keeps arrays until they are taken back, once each. Its file, in `folder`, goes when the object does.

    Where the file cannot be written, because its disk is full, arrays stay in memory.
    """

    def __init__(self, folder: Path | None = None, allowance: int = _ALLOWANCE) -> None:
        self._folder = folder
        self._left = allowance
        self._file: FileIO | None = None
        self._end = 0

    def put(self, array: Numbers) -> HeldArray:
        """What to give to `take` for the array."""
        if array.nbytes < _SMALL:
            return array
        if array.nbytes <= self._left:
            self._left -= array.nbytes
            return array
        place = Spilled(self._end, array.shape, array.dtype)
        try:
            if self._file is None:
                # Without a buffer, a disk that is full says so now, and not at a later step.
                self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 (it outlives the call)
            self._file.seek(self._end)
            data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            while data.nbytes:
                data = data[self._file.write(data) :]
        except OSError:
            self._left -= array.nbytes
            return array
        self._end += array.nbytes
        return place

    def take(self, held: HeldArray) -> Numbers:
        """The array, whose place is free again if it was the last."""
        if not isinstance(held, Spilled):
            if held.nbytes >= _SMALL:
                self._left += held.nbytes
            return held
        assert self._file is not None
        array = np.empty(held.shape, held.dtype)
        self._file.seek(held.offset)
        data = array.reshape(-1).view(np.uint8).data
        while data.nbytes:
            read = self._file.readinto(data)
            if not read:
                raise OSError("what was put aside is no longer there")
            data = data[read:]
        if held.offset + array.nbytes == self._end:
            self._end = held.offset
        return array
