"""How calls that choose are read: masks, indices, and writing to chosen places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tracer.rules.call import Binder, Call, Gs, arrived, bound, place, value
from tracer.rules.formulas import choice

Found = Sequence[Tensor | None]


def _chooses(choice_at: tuple[int, str], *tensors_at: tuple[int, str]) -> Binder:
    """Binder of an op that is linear in the tensors at `tensors_at` once its mask or index at `choice_at` is fixed."""

    def bind(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        where = place(args, kwargs, *choice_at)
        if where is None or not isinstance(value(args, kwargs, *choice_at), Tensor):
            return None
        places = [where]
        for at in tensors_at:
            found = place(args, kwargs, *at, "self") if at[1] == "input" else place(args, kwargs, *at)
            if found is not None and isinstance(value(args, kwargs, *at), Tensor):
                places.append(found)
        return _choice_call(function, args, kwargs, places)

    return bind


def _choice_call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], places: Sequence[Any], choices: int = 1
) -> Call | None:
    """A call whose first `choices` operands are masks or indices."""
    call = bound(function, args, kwargs, places, lambda *_: (), linear="same choice", inexact="discrete choice")
    if call is not None:
        forward = call.forward

        def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
            chosen = [tuple(run[:choices]) for run in (xs, x_refs)]
            functions = [lambda *t, c=c: forward(*c, *t) for c in chosen]
            return [None] * choices + choice.both_choices(functions, arrived(gs), xs[choices:], needs[choices:])

        call.choices = choices
        call.multipliers = multipliers
    return call


def _tensors(index: Any) -> list[Tensor]:
    """The tensors in an index, in order; lists in it are constants of the code."""
    items = index if isinstance(index, (tuple, list)) else (index,)
    return [item for item in items if isinstance(item, Tensor)]


def _filled(index: Any, tensors: Sequence[Tensor]) -> Any:
    """`index` with its tensors replaced by `tensors`."""
    rest = iter(tensors)
    if isinstance(index, Tensor):
        return next(rest)
    return tuple(next(rest) if isinstance(item, Tensor) else item for item in index)


def _getitem(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    source, index = args
    chosen = _tensors(index)
    if not chosen:
        return None

    def items(*tensors: Tensor) -> Any:
        return function(tensors[-1], _filled(index, tensors[:-1]))

    return _choice_call(items, (*chosen, source), {}, range(len(chosen) + 1), len(chosen))


def _setitem(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    target, index, new = args
    chosen = _tensors(index)
    if not chosen:
        return None

    def written(*tensors: Tensor) -> Tensor:
        given = tensors[len(chosen) :]
        result = given[0].clone()
        result[_filled(index, tensors[: len(chosen)])] = given[1] if len(given) > 1 else new
        return result

    operands = (*chosen, target, new) if isinstance(new, Tensor) else (*chosen, target)
    return _choice_call(written, operands, {}, range(len(operands)), len(chosen))


def _index_put(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    source, index, values = (value(args, kwargs, i, name) for i, name in enumerate(("input", "indices", "values")))
    source = kwargs.get("self", source)
    add = value(args, kwargs, 3, "accumulate", False)
    chosen = _tensors(index)
    if not chosen:
        return None

    def put(*tensors: Tensor) -> Any:
        return torch.index_put(tensors[-2], _filled(index, tensors[:-2]), tensors[-1], add)

    return _choice_call(put, (*chosen, source, values), {}, range(len(chosen) + 2), len(chosen))


CHOOSING: dict[str, Binder] = {
    "where": _chooses((0, "condition"), (1, "input"), (2, "other")),
    "masked_fill": _chooses((1, "mask"), (0, "input"), (2, "value")),
    "masked_select": _chooses((1, "mask"), (0, "input")),
    "gather": _chooses((2, "index"), (0, "input")),
    "take": _chooses((1, "index"), (0, "input")),
    "take_along_dim": _chooses((1, "indices"), (0, "input")),
    "put": _chooses((1, "index"), (0, "input"), (2, "source")),
    "index_select": _chooses((2, "index"), (0, "input")),
    "index_fill": _chooses((2, "index"), (0, "input"), (3, "value")),
    "scatter": _chooses((2, "index"), (0, "input"), (3, "src")),
    "scatter_add": _chooses((2, "index"), (0, "input"), (3, "src")),
    "index_add": _chooses((2, "index"), (0, "input"), (3, "source")),
    "index_copy": _chooses((2, "index"), (0, "input"), (3, "source")),
    "masked_scatter": _chooses((1, "mask"), (0, "input"), (2, "source")),
    "getitem": _getitem,
    "setitem": _setitem,
    "index_put": _index_put,
}
