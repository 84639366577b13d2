"""How calls that choose are read: masks, indices, writing to chosen places, sorting, and ops with steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tracer.op_call import OpCall
from tracer.rules.call import Binder, BoundCall, Forward, Found, Gs, arrived, bound_by_op, composed
from tracer.rules.compositions import orders, writes
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

    def multipliers(op: Forward, gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
        chosen = [tuple(run[:choices]) for run in (xs, x_refs)]
        functions = [lambda *t, c=c: op(*c, *t) for c in chosen]
        return [None] * choices + choice.both_choices(functions, arrived(gs), xs[choices:], needs[choices:])

    bound_call = bound_by_op(call, places, multipliers, linear="same choice", inexact="discrete choice")
    if bound_call is not None:
        bound_call.choices = choices
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


def _writes(place: Binder, base_at: int, *source_at: tuple[int, str]) -> Binder:
    """Binder of an op that writes a source into a base: by `place`, or by what survives where it overwrites itself."""

    def bind(call: OpCall) -> BoundCall | None:
        base_place = call.place(base_at, "input", "self")
        source_place = next((found for at in source_at if (found := call.place(*at)) is not None), None)
        if base_place is None or source_place is None or call.value(3, "accumulate", False) is True:
            return place(call)
        source = call.at(source_place)
        if "reduce" in call.kwargs:
            return composed(call, _reducing)
        if not isinstance(source, Tensor) or source.dim() == 0:
            return place(call)

        def write(into: Tensor, what: Tensor) -> Tensor:
            result: Tensor = call.replaced([(base_place, into), (source_place, what)]).run()
            return result

        if not writes.overwrites(write, call.at(base_place), source):
            return place(call)

        def chosen(*args: Any, **kwargs: Any) -> Tensor:
            given = OpCall(call.function, args, kwargs)

            def again(into: Tensor, what: Tensor) -> Tensor:
                result: Tensor = given.replaced([(base_place, into), (source_place, what)]).run()
                return result

            return writes.written(again, given.at(base_place), given.at(source_place))

        return composed(call, chosen)

    return bind


def _reducing(input: Tensor, dim: int, index: Tensor, src: Any = None, *, reduce: str, value: Any = None) -> Tensor:
    """scatter with the reduction "add" or "multiply"."""
    source = value if src is None else src
    given = source if isinstance(source, Tensor) else torch.as_tensor(source, dtype=input.dtype, device=input.device)
    wide = given.expand(index.shape) if given.dim() == 0 else given
    kind = {"add": "sum", "multiply": "prod"}[reduce]
    return orders.reduced_into(input, dim % max(input.dim(), 1), index, wide, kind, True)


def _unpool(call: OpCall) -> BoundCall:
    def found(x: Tensor, *rest: Any, **named: Any) -> Tensor:
        return writes.unpooled(lambda t: call.function(t, *rest, **named), x)

    return composed(call, found)


def _strided(call: OpCall) -> BoundCall:
    """as_strided_scatter, whose own derivative is wrong where the tensor is not stored in rows."""

    def found(input: Tensor, src: Tensor, *rest: Any, **named: Any) -> Tensor:
        return writes.written(lambda b, s: call.function(b, s, *rest, **named), input, src)

    return composed(call, found)


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
    plain = OpCall(written, operands, {})
    return _surviving(plain, chosen, new) or _choice_call(plain, range(len(operands)), len(chosen))


def _surviving(call: OpCall, chosen: Sequence[Tensor], new: Any) -> BoundCall | None:
    """The call, of (*chosen, base, new), by what survives; None where no element overwrites another."""
    if not isinstance(new, Tensor) or new.dim() == 0 or any(t.dtype == torch.bool for t in chosen):
        return None

    def parts(*tensors: Tensor) -> Tensor:
        index, (base, source) = tensors[: len(chosen)], tensors[len(chosen) :]
        return writes.written(lambda b, s: call.function(*index, b, s), base, source)

    def write(base: Tensor, source: Tensor) -> Tensor:
        result: Tensor = call.function(*chosen, base, source)
        return result

    return composed(call, parts) if writes.overwrites(write, call.args[-2], new) else None


def _index_put(call: OpCall) -> BoundCall | None:
    source, index, values = (call.value(i, name) for i, name in enumerate(("input", "indices", "values")))
    source = call.kwargs.get("self", source)
    add = call.value(3, "accumulate", False)
    chosen = _tensors(index)
    if not chosen:
        return None

    def put(*tensors: Tensor) -> Any:
        return torch.index_put(tensors[-2], _filled(index, tensors[:-2]), tensors[-1], add)

    plain = OpCall(put, (*chosen, source, values), {})
    if not add and (surviving := _surviving(plain, chosen, values)) is not None:
        return surviving
    return _choice_call(plain, range(len(chosen) + 2), len(chosen))


def _sorted(call: OpCall) -> BoundCall | None:
    """topk, sort: values by rank. With one order in both runs linear, else along a few orders between the two."""
    kind = getattr(call.function, "__name__", "")
    dim = 0 if kind == "msort" else call.value(1 if kind == "sort" else 2, "dim", -1)

    def multipliers(op: Forward, gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
        order = (lambda t: t.sort(0)) if kind == "msort" else op
        return (choice.ranked(arrived(gs), xs[0], x_refs[0], order, dim),)

    return bound_by_op(call, [call.place(0, "input", "self")], multipliers, inexact="discrete choice")


def _stepped(derivative: float) -> Binder:
    """Binder of an op with steps, its derivative between them given: the secant of its first tensor."""

    def multipliers(op: Forward, gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
        return (arrived(gs) * steps.step(op, xs[0], x_refs[0], derivative),)

    return lambda call: bound_by_op(call, [call.place(0, "input", "self")], multipliers)


CHOOSING: dict[str, Binder] = {
    "where": _chooses((0, "condition"), (1, "input"), (2, "other")),
    "masked_fill": _chooses((1, "mask"), (0, "input"), (2, "value")),
    "masked_select": _chooses((1, "mask"), (0, "input")),
    "gather": _chooses((2, "index"), (0, "input")),
    "take": _chooses((1, "index"), (0, "input")),
    "take_along_dim": _chooses((1, "indices"), (0, "input")),
    "put": _writes(_chooses((1, "index"), (0, "input"), (2, "source")), 0, (2, "source")),
    **dict.fromkeys(("max_unpool2d", "max_unpool3d"), _unpool),
    "as_strided_scatter": _strided,
    "index_select": _chooses((2, "index"), (0, "input")),
    "index_fill": _chooses((2, "index"), (0, "input"), (3, "value")),
    "scatter": _writes(_chooses((2, "index"), (0, "input"), (3, "src")), 0, (3, "src"), (3, "value")),
    "scatter_add": _chooses((2, "index"), (0, "input"), (3, "src")),
    "index_add": _chooses((2, "index"), (0, "input"), (3, "source")),
    "index_copy": _writes(_chooses((2, "index"), (0, "input"), (3, "source")), 0, (3, "source")),
    "masked_scatter": _chooses((1, "mask"), (0, "input"), (2, "source")),
    "getitem": _getitem,
    "setitem": _setitem,
    "index_put": _index_put,
    "topk": _sorted,
    "sort": _sorted,
    "msort": _sorted,
    **dict.fromkeys(["floor", "ceil", "round", "trunc", "fix", "sign", "sgn", "angle"], _stepped(0.0)),
    "frac": _stepped(1.0),
}
