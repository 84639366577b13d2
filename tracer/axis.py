"""Which axis of an inner tensor holds the examples: models move, merge and split it on the way."""

from __future__ import annotations

import torch


def example_axis(tensor: torch.Tensor, rows: int, source: tuple[torch.Tensor, int] | None) -> int | None:
    """The axis of `tensor` that holds `rows` examples (possibly merged with heads or positions); None if there is none.

    `source` is a tensor that `tensor` was computed from, with its own axis. Where several axes fit, a view of `source` keeps
    the axis with the same stride, anything else keeps the axis' number, and the first that fits comes last.
    """
    fits = [axis for axis, size in enumerate(tensor.shape) if size and size % rows == 0]
    if len(fits) <= 1:
        return fits[0] if fits else None
    if source is None:
        return fits[0]
    parent, axis = source
    if parent.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr():
        stride, size = parent.stride(axis), parent.shape[axis]
        for candidate in fits:
            if tensor.stride(candidate) == stride and tensor.shape[candidate] == size:
                return candidate
    return axis if axis in fits else fits[0]


def per_example(tensor: torch.Tensor, axis: int | None, examples: int) -> torch.Tensor:
    """`tensor` as a matrix (examples, rest). Without an axis, or with one that does not divide, all counts for example 0."""
    if examples == 1:
        return tensor.reshape(1, -1)
    if axis is None or tensor.shape[axis] % examples:
        rest = tensor.reshape(1, -1)
        return torch.cat([rest, torch.zeros(examples - 1, rest.shape[1], dtype=rest.dtype, device=rest.device)])
    return tensor.movedim(axis, 0).reshape(examples, -1)
