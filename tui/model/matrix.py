"""A matrix of any size as a grid of cells: which part of it is shown, and the largest |value| of each cell.

A cell shows its element of the largest |value|, with that element's sign, so one bad element is never averaged away;
a cell with a NaN is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.records import Floats

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.intp]

LARGEST_REPEAT = 8
_SMALLEST_SCALE = 1 / LARGEST_REPEAT


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of an axis: `shown` elements from `start`, in `groups` groups, each drawn over `repeat` cells."""

    size: int
    start: int
    shown: int
    groups: int
    repeat: int

    @property
    def edges(self) -> Ints:
        """Where the groups begin, and after the last where it ends: groups + 1 element indices."""
        return self.start + np.arange(self.groups + 1) * self.shown // max(self.groups, 1)

    @property
    def cells(self) -> int:
        """Cells on the screen."""
        return self.groups * self.repeat

    @property
    def single(self) -> bool:
        """Whether each group is one element."""
        return self.groups == self.shown

    def group_of(self, element: int) -> int:
        """The group that an element of the stretch is in."""
        return int(np.searchsorted(self.edges, element, side="right")) - 1


@dataclass(frozen=True, slots=True)
class View:
    """Which part of a matrix a grid of `height` × `width` cells shows: `scale` elements a cell from (top, left).

    An axis that fits at this scale is shown in full. Where each element has a cell of its own on both axes, it has up
    to 8 × 8 cells, one side at most twice the other; `even` keeps sides of more than one cell even.
    """

    rows: int
    columns: int
    height: int
    width: int
    scale: float
    top: int = 0
    left: int = 0
    even: bool = True

    @property
    def down(self) -> Span:
        """The rows that are shown."""
        return self._spans()[0]

    @property
    def across(self) -> Span:
        """The columns that are shown."""
        return self._spans()[1]

    @property
    def whole(self) -> bool:
        """Whether all of the matrix is shown."""
        return self.down.shown == self.rows and self.across.shown == self.columns

    def _spans(self) -> tuple[Span, Span]:
        down, across = _shown(self.rows, self.height, self.scale), _shown(self.columns, self.width, self.scale)
        repeats = [
            self._repeat(self.height, down) if down <= self.height else 1,
            self._repeat(self.width, across) if across <= self.width else 1,
        ]
        if down <= self.height and across <= self.width:
            repeats = [min(repeats[0], 2 * repeats[1]), min(repeats[1], 2 * repeats[0])]
        return (
            Span(self.rows, self.top, down, min(down, self.height), repeats[0]),
            Span(self.columns, self.left, across, min(across, self.width), repeats[1]),
        )

    def _repeat(self, cells: int, shown: int) -> int:
        repeat = max(min(cells // max(shown, 1), LARGEST_REPEAT), 1)
        return repeat - repeat % 2 if self.even and repeat > 1 else repeat

    def zoomed(self, inward: bool, row: int, column: int) -> View:
        """Half or twice the scale, around an element; the same view where there is no closer or wider one."""
        widest = fit_scale(self.rows, self.columns, self.height, self.width)
        scale = min(max(self.scale / 2 if inward else self.scale * 2, min(_SMALLEST_SCALE, widest)), widest)
        view = replace(self, scale=scale)
        down, across = view.down, view.across
        return view.at(row - down.shown // 2, column - across.shown // 2)

    def at(self, top: int, left: int) -> View:
        """The view moved to this corner, as far as the matrix goes."""
        down, across = self.down, self.across
        return replace(
            self,
            top=min(max(top, 0), self.rows - down.shown),
            left=min(max(left, 0), self.columns - across.shown),
        )

    def following(self, row: int, column: int) -> View:
        """The view moved by as little as brings this element in."""
        down, across = self.down, self.across
        return self.at(_into(row, down), _into(column, across))

    def resized(self, height: int, width: int) -> View:
        """The same place in a grid of another size; a view of the whole stays one."""
        if self.whole:
            return fit(self.rows, self.columns, height, width, self.even)
        widest = fit_scale(self.rows, self.columns, height, width)
        return replace(self, height=height, width=width, scale=min(self.scale, widest)).at(self.top, self.left)


def fit_scale(rows: int, columns: int, height: int, width: int) -> float:
    """Elements a cell that bring the whole matrix into the grid."""
    return max(rows / max(height, 1), columns / max(width, 1), 1e-6)


def fit(rows: int, columns: int, height: int, width: int, even: bool = True) -> View:
    """The view of the whole matrix."""
    height, width = max(height, 1), max(width, 1)
    return View(rows, columns, height, width, fit_scale(rows, columns, height, width), even=even)


def _shown(size: int, cells: int, scale: float) -> int:
    # 1e-9 more, so that rounding never cuts off the last row or column of the whole matrix.
    return min(size, max(math.floor(cells * scale * (1 + 1e-9)), 1))


def _into(element: int, span: Span) -> int:
    return element if element < span.start else max(span.start, element - span.shown + 1)


def reduce(blocks: Iterable[Array], down: Span, across: Span) -> Floats:
    """The grid of a view, (down.groups, across.groups): in each cell its element of the largest |value|, with its sign.

    `blocks` are the rows of `down` in order, all columns, in pieces of any size. A NaN wins over everything in its
    cell, an infinity over all numbers.
    """
    edges, first = down.edges, across.start
    offsets = across.edges[:-1] - first
    high = np.full((down.groups, across.groups), -np.inf)
    low = np.full((down.groups, across.groups), np.inf)
    row = down.start
    with np.errstate(all="ignore"):
        for block in blocks:
            block = real(block[:, first : first + across.shown])
            group = down.group_of(row)
            at = row
            while at < row + len(block):
                end = min(int(edges[group + 1]), row + len(block))
                part = block[at - row : end - row]
                for kept, extreme in ((high, np.maximum), (low, np.minimum)):
                    # First down, then across: numpy takes the maximum of whole rows at once.
                    kept[group] = extreme(kept[group], extreme.reduceat(extreme.reduce(part, axis=0), offsets))
                group, at = group + 1, end
            row += len(block)
    return np.where(high >= -low, high, low)


def extreme_of(block: Array) -> tuple[int, int]:
    """Where in a matrix its NaN or else its largest |value| is."""
    numbers = real(block)
    with np.errstate(all="ignore"):
        size = np.where(np.isnan(numbers), np.inf, np.abs(numbers))
    nan = np.isnan(numbers)
    place = int(np.argmax(nan)) if nan.any() else int(np.argmax(size))
    row, column = divmod(place, block.shape[1])
    return row, column


def real(block: Array) -> Array:
    """The block in float32 or float64; of complex numbers their modulus."""
    kind = block.dtype
    if kind in (np.float32, np.float64):
        return block
    if np.issubdtype(kind, np.complexfloating):
        return np.abs(block)
    return block.astype(np.float32 if kind == np.float16 else np.float64)
