"""The figures of a matrix that is read block by block: extremes, mean, non-finite counts, and the histogram."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tui.model.matrix import real

Array = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]

_OUTLYING = 32.0
_SQUARABLE = 1e-30


@dataclass(slots=True)
class Summary:
    """Grows with each block: counts, and over the finite elements minimum, maximum, sum and 2-norm in float64."""

    count: int = 0
    nan: int = 0
    infinite: int = 0
    minimum: float = math.inf
    maximum: float = -math.inf
    total: float = 0.0
    squares: float = 0.0

    def add(self, block: Array) -> None:
        """Take a block in."""
        numbers = real(block)
        self.count += numbers.size
        with np.errstate(all="ignore"):
            total = float(numbers.sum(dtype=np.float64))
            if not math.isfinite(total):
                self.nan += int(np.isnan(numbers).sum())
                self.infinite += int(np.isinf(numbers).sum())
                numbers = numbers[np.isfinite(numbers)]
                total = float(numbers.sum(dtype=np.float64))
            if not numbers.size:
                return
            flat = numbers.reshape(-1)
            squares = float(np.dot(flat, flat))
            if not _SQUARABLE < squares < math.inf:  # too large or too small to be squared in its own precision
                squares = float(np.square(flat, dtype=np.float64).sum())
        self.total += total
        self.squares += squares
        self.minimum = min(self.minimum, float(numbers.min()))
        self.maximum = max(self.maximum, float(numbers.max()))

    def watching(self, blocks: Iterable[Array]) -> Iterator[Array]:
        """The same blocks, each taken in on its way."""
        for block in blocks:
            self.add(block)
            yield block

    @property
    def finite(self) -> int:
        """How many elements are numbers."""
        return self.count - self.nan - self.infinite

    @property
    def mean(self) -> float:
        """Of the finite elements; NaN without any."""
        return self.total / self.finite if self.finite else math.nan

    @property
    def norm(self) -> float:
        """The 2-norm of the finite elements."""
        return math.sqrt(self.squares)

    @property
    def largest(self) -> float:
        """The largest finite |value|, 0 if no element is finite."""
        return max(abs(self.minimum), abs(self.maximum)) if self.finite else 0.0

    @property
    def outlying(self) -> bool:
        """Whether few elements are so large that a linear scale would show nothing else."""
        return bool(self.finite) and self.largest > _OUTLYING * math.sqrt(self.squares / self.finite)


def histogram(blocks: Iterable[Array], summary: Summary, bins: int) -> Counts:
    """How many finite elements lie in each of `bins` equal steps from minimum to maximum; one bin if all are equal."""
    counts = np.zeros(bins, dtype=np.int64)
    span = summary.maximum - summary.minimum
    if not summary.finite:
        return counts
    for block in blocks:
        numbers = real(block).reshape(-1)
        if summary.finite < summary.count:
            numbers = numbers[np.isfinite(numbers)]
        if span > 0 and math.isfinite(span):
            # Divided before it is multiplied: a span near the smallest number has no finite inverse.
            places = ((numbers - summary.minimum) / span * bins).astype(np.intp)
            counts += np.bincount(np.clip(places, 0, bins - 1), minlength=bins)
        else:
            counts[0] += numbers.size
    return counts
