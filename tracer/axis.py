"""Where an inner tensor holds the examples: models move the example axis, and merge it with heads and positions."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Place(NamedTuple):
    """The examples lie on `axis`, `inner` neighbouring elements of it belonging to one example.

    A plain example axis has `inner` 1. Merged with H heads behind it, `inner` is H. Merged with positions before it,
    the pattern of all examples repeats along the axis.
    """

    axis: int
    inner: int


def find_place(
    tensor: torch.Tensor, rows: int, source: tuple[torch.Tensor, Place] | None, reduced: tuple[int, ...] = ()
) -> Place | None:
    """Where `tensor` holds `rows` examples; None if no axis can hold them. `source` is what it was computed from.

    `reduced` are the axes that the op summed, averaged or picked from, should it have done so.

    Views keep the examples' distance in memory, copies that reshape keep their distance in row-major order, and other
    ops keep the axis; where none of this fits, it is the first axis that can be divided by `rows`.
    """
    if source is not None:
        parent, place = source
        found = None
        if reduced and tensor.dim() == parent.dim() - len(reduced):
            before = sum(axis % parent.dim() < place.axis for axis in reduced)
            found = Place(place.axis - before, place.inner)
        elif parent.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr():
            found = _by_distance(tensor, rows, parent.stride(place.axis) * place.inner, tensor.stride())
        elif parent.shape == tensor.shape:
            found = place
        elif parent.numel() == tensor.numel():
            distance = _row_major(parent.shape)[place.axis] * place.inner
            found = _by_distance(tensor, rows, distance, _row_major(tensor.shape))
        if found is None and place.axis < tensor.dim():
            size = tensor.shape[place.axis]
            if size and size == parent.shape[place.axis]:
                found = place
            elif size and size % rows == 0:
                found = Place(place.axis, size // rows)
        if found is not None and tensor.shape[found.axis] % rows == 0:
            return found
    return next(
        (Place(axis, size // rows) for axis, size in enumerate(tensor.shape) if size and size % rows == 0), None
    )


def halves(tensor: torch.Tensor, place: Place, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first and the second half of the examples, each of the shape of `tensor` but for the halved axis."""
    if tensor.shape[place.axis] == rows * place.inner:
        first, second = tensor.chunk(2, place.axis)
        return first, second
    split = _split(tensor, place, rows)
    first, second = split.chunk(2, place.axis + 1)
    return first.flatten(place.axis, place.axis + 2), second.flatten(place.axis, place.axis + 2)


def per_example(tensor: torch.Tensor, place: Place | None, examples: int) -> torch.Tensor:
    """`tensor` as a matrix (examples, rest); without a place all of it counts for the first example."""
    if examples == 1:
        return tensor.flatten()[None]
    if place is None:
        rest = tensor.flatten()[None]
        return torch.cat([rest, torch.zeros(examples - 1, rest.shape[1], dtype=rest.dtype, device=rest.device)])
    return _split(tensor, place, examples).movedim(place.axis + 1, 0).flatten(1)


def _split(tensor: torch.Tensor, place: Place, rows: int) -> torch.Tensor:
    """The axis of the examples taken apart into (repeats, rows, inner)."""
    before, size, after = tensor.shape[: place.axis], tensor.shape[place.axis], tensor.shape[place.axis + 1 :]
    return tensor.reshape(*before, size // (rows * place.inner), rows, place.inner, *after)


def _row_major(shape: torch.Size) -> list[int]:
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * max(shape[axis + 1], 1)
    return strides


def _by_distance(tensor: torch.Tensor, rows: int, distance: int, strides: tuple[int, ...] | list[int]) -> Place | None:
    """The axis along which neighbouring examples are `distance` elements apart: of those that fit, the coarsest."""
    best: Place | None = None
    for axis, (size, stride) in enumerate(zip(tensor.shape, strides, strict=True)):
        if stride and distance % stride == 0:
            inner = distance // stride
            if size and size % (rows * inner) == 0 and (best is None or stride > strides[best.axis]):
                best = Place(axis, inner)
    return best
