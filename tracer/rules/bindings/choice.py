"""How calls that choose are read: masks, indices, writing to chosen places, sorting, and ops with steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tracer.op_call import OpCall
from tracer.rules.call import Binder, BoundCall, Found, Gs, arrived, bound
from tracer.rules.formulas import choice, steps


def _chooses(choice_at: tuple[int, str], *tensors_at: tuple[int, str]) -> Binder:
    """Binder of an op that is linear in the tensors at `tensors_at` once its mask or index at `choice_at` is fixed."""

    def bind(call: OpCall) -> BoundCall | None:
        where = call.place(*choice_at)
        if where is None or not isinstance(call.value(*choice_at), Tensor):
            return None
        places = [where]
        for at in tensors_at:
            found = call.place(*at, "self") if at[1] == "input" else call.place(*at)
            if found is not None and isinstance(call.value(*at), Tensor):
                places.append(found)
        return _choice_call(call, places)

    return bind


def _choice_call(call: OpCall, places: Sequence[Any], choices: int = 1) -> BoundCall | None:
    """A call whose first `choices` operands are masks or indices."""
    bound_call = bound(call, places, lambda *_: (), linear="same choice", inexact="discrete choice")
    if bound_call is not None:
        forward = bound_call.forward

        def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
            chosen = [tuple(run[:choices]) for run in (xs, x_refs)]
            functions = [lambda *t, c=c: forward(*c, *t) for c in chosen]
            return [None] * choices + choice.both_choices(functions, arrived(gs), xs[choices:], needs[choices:])

        bound_call.choices = choices
        bound_call.multipliers = multipliers
    return bound_call


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


def _getitem(call: OpCall) -> BoundCall | None:
    source, index = call.args
    chosen = _tensors(index)
    if not chosen:
        return None

    def items(*tensors: Tensor) -> Any:
        return call.function(tensors[-1], _filled(index, tensors[:-1]))

    return _choice_call(OpCall(items, (*chosen, source), {}), range(len(chosen) + 1), len(chosen))


def _setitem(call: OpCall) -> BoundCall | None:
    target, index, new = call.args
    chosen = _tensors(index)
    if not chosen:
        return None

    def written(*tensors: Tensor) -> Tensor:
        given = tensors[len(chosen) :]
        result = given[0].clone()
        result[_filled(index, tensors[: len(chosen)])] = given[1] if len(given) > 1 else new
        return result

    operands = (*chosen, target, new) if isinstance(new, Tensor) else (*chosen, target)
    return _choice_call(OpCall(written, operands, {}), range(len(operands)), len(chosen))


def _index_put(call: OpCall) -> BoundCall | None:
    source, index, values = (call.value(i, name) for i, name in enumerate(("input", "indices", "values")))
    source = call.kwargs.get("self", source)
    add = call.value(3, "accumulate", False)
    chosen = _tensors(index)
    if not chosen:
        return None

    def put(*tensors: Tensor) -> Any:
        return torch.index_put(tensors[-2], _filled(index, tensors[:-2]), tensors[-1], add)

    return _choice_call(OpCall(put, (*chosen, source, values), {}), range(len(chosen) + 2), len(chosen))


def _sorted(call: OpCall) -> BoundCall | None:
    """topk, sort: values by rank. With one order in both runs linear, else half along each order."""
    is_sort = getattr(call.function, "__name__", "") in ("sort", "msort")
    dim = call.value(1 if is_sort else 2, "dim", -1)
    bound_call = bound(call, [call.place(0, "input", "self")], lambda *_: (), inexact="discrete choice")
    if bound_call is not None:
        forward = bound_call.forward

        def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
            return (choice.ranked(arrived(gs), xs[0], forward(xs[0])[1], forward(x_refs[0])[1], dim),)

        bound_call.multipliers = multipliers
    return bound_call


def _stepped(derivative: float) -> Binder:
    """Binder of an op with steps, its derivative between them given: the secant of its first tensor."""

    def bind(call: OpCall) -> BoundCall | None:
        found = bound(call, [call.place(0, "input", "self")], lambda *_: ())
        if found is not None:
            forward = found.forward

            def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> tuple[Tensor]:
                return (arrived(gs) * steps.step(forward, xs[0], x_refs[0], derivative),)

            found.multipliers = multipliers
        return found

    return bind


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
    "topk": _sorted,
    "sort": _sorted,
    **dict.fromkeys(["floor", "ceil", "round", "trunc", "fix", "sign", "sgn", "floor_divide"], _stepped(0.0)),
    **dict.fromkeys(["frac", "remainder", "fmod"], _stepped(1.0)),
}
