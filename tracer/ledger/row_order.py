"""The rows of a tensor whose examples stand in no regular pattern: rows picked by an index, packed sequences.

An *order* says for each position along an axis to which row of the batch it belongs.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from tracer.op_call import OpCall

Order: TypeAlias = tuple[int, ...]

_MOST = 2**16  # positions that are looked at one by one
_INTEGERS = (torch.int64, torch.int32)
REORDERING = frozenset({"index_select", "__getitem__", "getitem", "_pack_padded_sequence", "_pad_packed_sequence"})
"""The ops that `after` knows."""


def after(op: str, call: OpCall, axis: int, order: Order) -> tuple[int, Order] | None:
    """The axis and order of what an op made of a tensor with that order along `axis`; None where that is not known."""
    if op == "_pack_padded_sequence":
        return 0, tuple(order[row] for row in _packed(call.value(1, "lengths").tolist()))
    if op == "_pad_packed_sequence":
        batch_first = bool(call.value(2, "batch_first", False))
        return 0 if batch_first else 1, order[: int(call.value(1, "batch_sizes")[0])]
    index = _index(op, call, axis)
    if index is None or index.dim() != 1 or index.dtype not in _INTEGERS or len(index) > _MOST:
        return None
    picked = tuple(order[place] for place in index.tolist())
    # As many positions for every row: with fewer for one, two runs in one batch could not be told apart.
    return (axis, picked) if len(set(Counter(picked).values())) == 1 and set(picked) == set(order) else None


def _index(op: str, call: OpCall, axis: int) -> torch.Tensor | None:
    """The index that picks along `axis`, if the result has what is picked on that axis."""
    if op == "index_select":
        dim = call.value(1, "dim")
        found = call.value(2, "index") if isinstance(dim, int) and dim % call.args[0].dim() == axis else None
    else:
        key = call.value(1, "key")
        keys = key if isinstance(key, tuple) else (key,)
        alone = all(isinstance(other, torch.Tensor) and other.dim() == 1 for other in keys)
        found = keys[0] if axis == 0 and keys and alone else None
    return found if isinstance(found, torch.Tensor) else None


def _packed(lengths: list[int]) -> list[int]:
    """The row of each element of a packed sequence: those of the first step, then those of the second, ..."""
    return [row for step in range(max(lengths, default=0)) for row, length in enumerate(lengths) if length > step]


@lru_cache(64)
def positions(order: Order, first: int, end: int) -> npt.NDArray[np.int64]:
    """Where the rows `first` … `end` − 1 stand, each row's first position before any row's second one.

    So the two halves of a doubled batch match, however equal lengths were sorted.
    """
    seen: Counter[int] = Counter()
    places = []
    for position, row in enumerate(order):
        if first <= row < end:
            places.append((seen[row], row, position))
            seen[row] += 1
    return np.array([position for _occurrence, _row, position in sorted(places)], dtype=np.int64)


def by_row(array: npt.NDArray[Any], axis: int, order: Order, rows: int) -> npt.NDArray[Any]:
    """`array` as a matrix (rows, rest), with zeros where a row has fewer positions than others."""
    if len(order) != array.shape[axis]:  # the first half of a doubled batch
        order = tuple(order[place] for place in positions(order, 0, rows).tolist())
    flat = np.moveaxis(array, axis, 0).reshape(len(order), -1)
    seen: Counter[int] = Counter()
    result = np.zeros((rows, max(Counter(order).values(), default=0), flat.shape[1]), flat.dtype)
    for row, values in zip(order, flat, strict=True):
        result[row, seen[row]] = values
        seen[row] += 1
    return result.reshape(rows, -1)
