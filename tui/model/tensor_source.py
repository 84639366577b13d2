"""A recorded tensor as matrices, slice by slice, read from the file when they are shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tracer.analysis.difference import BLOCK_BYTES, difference
from tracer.records import Direction, Edge, TensorRef
from tracer.tracefile.trace import TensorName, Trace

Array = npt.NDArray[Any]
Quantity = Literal["value", "reference", "difference", "multiplier", "product"]

QUANTITIES: tuple[Quantity, ...] = ("value", "reference", "difference", "multiplier", "product")
KEPT_ELEMENTS = 1 << 20
"""A slice of at most this many elements is kept once it has been read; a larger one is read again for each window."""

_NAMES: dict[tuple[Direction, Quantity], TensorName] = {
    ("in", "value"): "input",
    ("in", "reference"): "reference",
    ("in", "multiplier"): "multiplier_in",
    ("out", "value"): "output",
    ("out", "reference"): "output_reference",
    ("out", "multiplier"): "multiplier_out",
}
_PARTS: dict[Quantity, tuple[Quantity, ...]] = {
    "value": ("value",),
    "reference": ("reference",),
    "difference": ("value", "reference"),
    "multiplier": ("multiplier",),
    "product": ("value", "reference", "multiplier"),
}


def place_of(name: TensorName) -> tuple[Direction, Quantity]:
    """The direction and the quantity that a tensor's name stands for; ValueError for an unknown name."""
    for place, known in _NAMES.items():
        if known == name:
            return place
    raise ValueError(f"{name!r} is none of {', '.join(_NAMES.values())}")


def title_of(direction: Direction, quantity: Quantity) -> str:
    """What a reader calls the quantity: "input", "output", "reference", "Δ", "multiplier", "m·Δ"."""
    if quantity == "value":
        return "input" if direction == "in" else "output"
    return {"reference": "reference", "difference": "Δ", "multiplier": "multiplier", "product": "m·Δ"}[quantity]


class TensorSource:
    """One quantity of an edge: `problem` says in words why there is nothing to see, "" where there is.

    A tensor of more than two axes is a stack of `slices` matrices of its last two, (rows, columns) each; one of fewer
    is a single matrix, a vector its only row. `leading` are the sizes of the other axes.
    """

    def __init__(self, trace: Trace, node: int, edge: Edge, quantity: Quantity) -> None:
        self.trace = trace
        self.node = node
        self.edge = edge
        self.quantity = quantity
        self.title = title_of(edge.direction, quantity)
        refs = [_ref(edge, part) for part in _PARTS[quantity]]
        self.problem = _problem(trace, edge, quantity, refs)
        first = refs[0]
        self.shape = edge.shape if first is None or self.problem else first.shape
        self.dtype = edge.dtype if first is None else first.dtype
        self.leading = self.shape[:-2]
        self.rows = self.shape[-2] if len(self.shape) > 1 else 1
        self.columns = self.shape[-1] if self.shape else 1
        self.slices = _product(self.leading)
        self._kept: tuple[int, Array] | None = None

    def index_of(self, number: int) -> tuple[int, ...]:
        """The indices on the leading axes of slice `number`; the last axis counts fastest."""
        indices = []
        for size in reversed(self.leading):
            number, index = divmod(number, max(size, 1))
            indices.append(index)
        return tuple(reversed(indices))

    def number_of(self, index: Sequence[int]) -> int:
        """The slice with these indices on the leading axes; ValueError where an index is out of its axis."""
        number = 0
        for axis, (place, size) in enumerate(zip(index, self.leading, strict=True)):
            if not 0 <= place < size:
                raise ValueError(f"axis {axis} has the indices 0 to {size - 1}, not {place}")
            number = number * size + place
        return number

    def blocks(self, number: int, start: int, stop: int) -> Iterator[Array]:
        """Rows `start` to `stop` of slice `number`, some at a time; TraceFileError where the file is damaged.

        Δ and m·Δ are computed block by block in the tensors' own dtype, as the recorder does.
        """
        if self._kept is not None and self._kept[0] == number:
            yield self._kept[1][start:stop]
        elif self.rows * self.columns <= KEPT_ELEMENTS:
            blocks = list(self._read(number, 0, self.rows))
            self._kept = (number, np.concatenate(blocks) if len(blocks) > 1 else blocks[0])
            yield self._kept[1][start:stop]
        else:
            yield from self._read(number, start, stop)

    def row(self, number: int, row: int) -> Array:
        """One row of a slice."""
        (block,) = self.blocks(number, row, row + 1)
        found: Array = block[0]
        return found

    def _read(self, number: int, start: int, stop: int) -> Iterator[Array]:
        first = number * self.rows
        rows = max(BLOCK_BYTES // (8 * max(self.columns, 1)), 1)
        parts = [
            self.trace.tensor_blocks(
                self.node, _NAMES[self.edge.direction, part], first + start, first + stop, self.edge.slot, rows
            )
            for part in _PARTS[self.quantity]
        ]
        for blocks in zip(*parts, strict=True):
            yield _combined(blocks)


def _combined(parts: Sequence[Array]) -> Array:
    """The tensor itself, value − reference, or multiplier · (value − reference)."""
    if len(parts) == 1:
        return parts[0]
    delta = difference(parts[0], parts[1])
    with np.errstate(all="ignore"):
        return delta if len(parts) == 2 else np.multiply(parts[2], delta)


def _ref(edge: Edge, part: Quantity) -> TensorRef | None:
    if part == "value":
        return edge.value
    return edge.reference if part == "reference" else edge.multiplier


def _problem(trace: Trace, edge: Edge, quantity: Quantity, refs: Sequence[TensorRef | None]) -> str:
    if all(ref is None for ref in (edge.value, edge.reference, edge.multiplier)):
        if trace.run.capture != "tensors":
            return "This trace has figures only: record it with --capture tensors to see tensors."
        return "No tensor was recorded here."
    for part, ref in zip(_PARTS[quantity], refs, strict=True):
        name = title_of(edge.direction, part)
        if ref is None:
            return {
                "reference": "The reference run's tensor is not known.",
                "multiplier": "No multiplier came back along this edge.",
            }.get(part, f"The {name} was not recorded.")
        if ref.elided or ref.hash is None:
            return f"The {name} was left out to save room; its figures are in the detail of the call."
    found = [ref for ref in refs if ref is not None]
    if any(ref.shape != found[0].shape for ref in found):
        shapes = ", ".join(shape_text(ref.shape) for ref in found)
        return f"The tensors have different shapes ({shapes}), so there is no {title_of(edge.direction, quantity)}."
    if _product(found[0].shape) == 0:
        return f"The tensor has no elements ({shape_text(found[0].shape)})."
    return ""


def shape_text(shape: Sequence[int]) -> str:
    """ "1×12×31×31", "scalar"."""
    return "×".join(map(str, shape)) or "scalar"


def _product(sizes: Sequence[int]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product
