"""Finds the examples in a tensor inside the model: models move the batch axis and merge it with heads or positions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from tracer import ops
from tracer.ledger import row_order
from tracer.ledger.row_order import Order
from tracer.model.tensors import memory_of
from tracer.op_call import OpCall

Array: TypeAlias = npt.NDArray[Any]


_ORDERS = frozenset({"topk", "sort", "argsort", "argmax", "argmin", "max", "min", "kthvalue", "median"})


class ExamplePlace(NamedTuple):
    """The examples lie on `axis`, where `inner` neighbouring elements belong to one example.

    A plain batch axis has `inner` 1. Merged with H heads behind it, `inner` is H. Merged with positions before it,
    the pattern of all examples repeats along the axis. An `order` says for each element along the axis to which
    example it belongs, where that is not such a pattern.
    """

    axis: int
    inner: int
    order: Order = ()


class Origin(NamedTuple):
    """What a tensor was computed from: `tensor`, with its `place`, as argument `name` of the `call` of op `op`.

    A module has its type for `op`, and no `call`. The tensor computed is the result named `result`.
    """

    tensor: torch.Tensor
    place: ExamplePlace
    name: str = "0"
    op: str = ""
    call: OpCall | None = None
    result: str = ""


_RECURRENT = frozenset({"LSTM", "GRU", "RNN", "lstm", "gru", "rnn_tanh", "rnn_relu"})


def find_place(tensor: torch.Tensor, rows: int, origin: Origin | None) -> ExamplePlace | None:
    """Where `tensor` holds `rows` examples; None if no axis can hold them.

    A view keeps the distance between two examples in memory, a copy that reshapes keeps it in row-major order, an op
    that adds or drops axes moves the place, other ops keep it. Where none of this fits, the first axis whose size
    `rows` divides is guessed; a wrong guess shows as a self leak of the model's own row.
    """
    for place in () if origin is None else _guesses(tensor, rows, origin):
        if place is not None and _fits(tensor, rows, place):
            return place
    return next(
        (ExamplePlace(axis, size // rows) for axis, size in enumerate(tensor.shape) if size and size % rows == 0), None
    )


def _fits(tensor: torch.Tensor, rows: int, place: ExamplePlace) -> bool:
    if not 0 <= place.axis < tensor.dim():
        return False
    size = tensor.shape[place.axis]
    if place.order:
        return size == len(place.order)
    return size > 0 and size % (rows * place.inner) == 0


def _guesses(tensor: torch.Tensor, rows: int, origin: Origin) -> Iterator[ExamplePlace | None]:
    """Places where the examples may be, the most certain first."""
    parent, place = origin.tensor, origin.place
    if rows > 1 and origin.op in row_order.REORDERING and origin.call is not None and origin.name == "0":
        yield _reordered(rows, origin, origin.call)
    elif origin.op in _RECURRENT and origin.result.startswith(("output.1", "output.2")) and tensor.dim() == 3:
        yield ExamplePlace(1, 1)  # the states at the end: (layers, examples, width)
    if place.order:
        shift = max(tensor.dim() - parent.dim(), 0)
        yield from (place._replace(axis=axis) for axis in dict.fromkeys((place.axis, place.axis + shift)))
        return
    if memory_of(parent) == memory_of(tensor):
        distance = parent.stride(place.axis) * place.inner * parent.element_size() // tensor.element_size()
        yield _by_distance(tensor, rows, distance, tensor.stride())
    elif (axis := _moved(tensor, origin)) is not None:
        yield ExamplePlace(axis, place.inner)
    elif parent.shape == tensor.shape:
        yield place
    elif parent.numel() == tensor.numel():
        yield _by_distance(tensor, rows, _row_major(parent.shape)[place.axis] * place.inner, _row_major(tensor.shape))
    shift = max(tensor.dim() - parent.dim(), 0)  # broadcasting adds axes in front
    for axis in (place.axis + shift, place.axis):
        if axis < tensor.dim() and tensor.shape[axis] == parent.shape[place.axis]:
            yield ExamplePlace(axis, place.inner)
    if place.axis < tensor.dim() and tensor.shape[place.axis] % rows == 0:
        yield ExamplePlace(place.axis, tensor.shape[place.axis] // rows)


def _reordered(rows: int, origin: Origin, call: OpCall) -> ExamplePlace | None:
    """The place after an op that picks rows by an index, or packs them; None where that is not known."""
    place = origin.place
    if not place.order and (place.inner != 1 or origin.tensor.shape[place.axis] != rows):
        return None
    found = row_order.after(origin.op, call, place.axis, place.order or tuple(range(rows)))
    if found is None:
        return None
    axis, order = found
    return ExamplePlace(axis, 1) if order == tuple(range(rows)) else ExamplePlace(axis, 1, order)


def _moved(tensor: torch.Tensor, origin: Origin) -> int | None:
    """The axis of the examples after an op that adds, drops or names axes; None for other ops."""
    axis, dim, call = origin.place.axis, origin.tensor.dim(), origin.call
    if call is None:
        return None
    if origin.op in _ORDERS and tensor.dim() == dim + 1:  # the one-hot of the indices, its places on a last axis
        return axis
    if origin.op == "stack":
        at = call.value(1, "dim", 0)
        return axis + int(at % (dim + 1) <= axis)
    if origin.op in ("repeat", "tile"):
        return axis + tensor.dim() - dim
    if origin.op == "einsum" and isinstance(equation := call.value(0, "equation"), str) and "." not in equation:
        inputs, _, output = equation.replace(" ", "").partition("->")
        parts = inputs.split(",")
        number = int(origin.name.rsplit(".", 1)[-1]) - (0 if "." in origin.name else 1)
        label = parts[number][axis] if 0 <= number < len(parts) and axis < len(parts[number]) else ""
        return output.index(label) if label and label in output else None
    reduced = _reduced_axes(origin.op, call)
    if reduced and tensor.dim() == dim - len(reduced):
        return axis - sum(at % dim < axis for at in reduced)
    return None


def _reduced_axes(name: str, call: OpCall) -> tuple[int, ...]:
    """The axes that an op drops, as its argument `dim` names them; empty if it names or drops none."""
    op = ops.find(name)
    if op is None or not op.dim_at:
        return ()
    dim = call.value(op.dim_at, "dim")
    if isinstance(dim, int) and not isinstance(dim, bool):
        return (dim,)
    return tuple(dim) if isinstance(dim, (tuple, list)) and all(isinstance(axis, int) for axis in dim) else ()


def half(array: Array, number: Literal[0, 1], place: ExamplePlace, rows: int) -> Array:
    """The first or the second half of the examples; the axis that holds them is half as long."""
    axis, size = place.axis, array.shape[place.axis]
    if place.order:
        middle = rows // 2
        return array.take(row_order.positions(place.order, number * middle, (number + 1) * middle), axis)
    if size == rows * place.inner:
        middle = size // 2
        part = slice(middle, None) if number else slice(middle)
        return array[(*(slice(None),) * axis, part)] if axis else array[part]
    part = slice(rows // 2, None) if number else slice(rows // 2)
    shape = (*array.shape[:axis], size // 2, *array.shape[axis + 1 :])
    return _split(array, place, rows)[(*(slice(None),) * (axis + 1), part)].reshape(shape)


def per_example(array: Array, place: ExamplePlace | None, examples: int) -> Array:
    """`array` as a matrix (examples, rest); without a place everything counts for the first example."""
    if examples == 1:
        return array.reshape(1, -1)
    if place is None:
        rest = array.reshape(1, -1)
        return np.concatenate([rest, np.zeros((examples - 1, rest.shape[1]), rest.dtype)])
    if place.order:
        return row_order.by_row(array, place.axis, place.order, examples)
    return np.moveaxis(_split(array, place, examples), place.axis + 1, 0).reshape(examples, -1)


def _split(array: Array, place: ExamplePlace, rows: int) -> Array:
    """The axis that holds the examples, split into three: (repeats, rows, inner)."""
    before, size, after = array.shape[: place.axis], array.shape[place.axis], array.shape[place.axis + 1 :]
    return array.reshape(*before, size // (rows * place.inner), rows, place.inner, *after)


def _row_major(shape: torch.Size) -> list[int]:
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * max(shape[axis + 1], 1)
    return strides


def _by_distance(
    tensor: torch.Tensor, rows: int, distance: int, strides: tuple[int, ...] | list[int]
) -> ExamplePlace | None:
    """The axis along which neighbouring examples are `distance` elements apart; if several are, the coarsest."""
    best: ExamplePlace | None = None
    for axis, (size, stride) in enumerate(zip(tensor.shape, strides, strict=True)):
        if stride and distance % stride == 0:
            inner = distance // stride
            if size and size % (rows * inner) == 0 and (best is None or stride > strides[best.axis]):
                best = ExamplePlace(axis, inner)
    return best
