"""Keeps arrays for later: some in memory, the rest in a temporary file, so that a long run needs no more memory."""

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
    """Where an array is in the file: `offset` in bytes."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


HeldArray: TypeAlias = Numbers | Spilled
"""An array that was put aside: itself, or where it is in the file."""


class Spill:
    """Keeps arrays until each is taken back, once. The file, in `folder`, is deleted with this object.

    `allowance` bytes may stay in memory; small arrays always do, and all do where the file cannot be written, as on a
    full disk.
    """

    def __init__(self, folder: Path | None = None, allowance: int = _ALLOWANCE) -> None:
        self._folder = folder
        self._left = allowance
        self._file: FileIO | None = None
        self._end = 0

    def put(self, array: Numbers) -> HeldArray:
        """What `take` gives the array back for."""
        if array.nbytes < _SMALL:
            return array
        if array.nbytes <= self._left:
            self._left -= array.nbytes
            return array
        place = Spilled(self._end, array.shape, array.dtype)
        try:
            if self._file is None:
                # Without a buffer a full disk is noticed here, not at a later write.
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
        """The array. If it was the last one in the file, its place there is used again."""
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
                raise OSError("the temporary file is shorter than what was written to it")
            data = data[read:]
        if held.offset + array.nbytes == self._end:
            self._end = held.offset
        return array
