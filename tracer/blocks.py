"""Tensors of a trace in memory, in few large blocks.

The kernel hands out fresh memory in pages of 4 kB, which takes longer than all else that is done to store a tensor.
Blocks of many megabytes come in pages of 2 MB where there are such: numpy asks for them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_FIRST, _LARGEST = 2**16, 2**26  # bytes of a block


class Blocks:
    """Contents of tensors in the order of putting, numbered from 1 as SQLite numbers rows."""

    def __init__(self) -> None:
        self._contents: list[memoryview] = []
        self._block: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
        self._used = 0
        self._bytes = 0

    def put(self, content: memoryview) -> None:
        """Keep a copy of a flat content of bytes."""
        size = content.nbytes
        if self._used + size > self._block.size:
            self._block = np.empty(max(size, min(max(self._bytes, _FIRST), _LARGEST)), np.uint8)
            self._used = 0
        place = self._block[self._used : self._used + size]
        place[:] = np.frombuffer(content, np.uint8)
        self._used += size
        self._bytes += size
        self._contents.append(place.data.toreadonly())

    def __getitem__(self, number: int) -> memoryview:
        """The content of that number; IndexError where there is none."""
        if number < 1:
            raise IndexError(number)
        return self._contents[number - 1]
