"""How calls of reductions and pooling are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tracer.op_call import KEYWORD_ONLY, OpCall
from tracer.rules.bindings.axes import axes, kept
from tracer.rules.bindings.composed import norm as other_norm
from tracer.rules.call import Binder, BoundCall, Forward, Found, Gs, arrived, bound, bound_by_op, substituted
from tracer.rules.formulas import norm, pooling


def _correction(call: OpCall) -> tuple[Any, float, bool]:
    """(dim, correction, keepdim) of var and std through all their signatures."""
    dim = call.value(1, "dim")
    if isinstance(dim, bool):  # torch.var(x, unbiased)
        return None, float(dim), False
    unbiased = call.value(2, "unbiased", True)
    correction = call.value(KEYWORD_ONLY, "correction")
    keepdim = call.value(3, "keepdim", False)
    return dim, float(unbiased) if correction is None else float(correction), keepdim


def _spread(rule: Callable[..., Tensor]) -> Binder:
    """Binder of var and std."""

    def bind(call: OpCall) -> BoundCall | None:
        dim, correction, keepdim = _correction(call)

        def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
            dims = axes(dim, xs[0].dim())
            return (rule(kept(arrived(gs), dims, keepdim), xs[0], x_refs[0], dims, correction),)

        return bound(call, [call.place(0, "input", "self")], multipliers)

    return bind


def _norm(call: OpCall) -> BoundCall | None:
    """The 2-norm, under any of its names; other norms are composed."""
    order = call.value(1, "ord", call.kwargs.get("p"))
    dim, keepdim = call.value(2, "dim"), call.value(3, "keepdim", False)
    spectral = getattr(call.function, "__name__", "") == "linalg_norm" and not (isinstance(dim, int) or order is None)
    if order not in ("fro", None) and (order not in (2, 2.0) or spectral):
        return other_norm(call)

    def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
        dims = axes(dim, xs[0].dim())
        return (norm.euclidean(kept(arrived(gs), dims, keepdim), xs[0], x_refs[0], dims),)

    return bound(call, [call.place(0, "input", "self", "x")], multipliers)


def _extreme(smallest: bool) -> Binder:
    """Binder of max, min, amax, amin: over everything, over axes, or of two tensors."""

    def bind(call: OpCall) -> BoundCall | None:
        other_at = call.place(1, "other")
        if other_at is not None and isinstance(call.value(1, "other"), Tensor):
            return _two(smallest)(call)
        dim = call.value(1, "dim")

        def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
            x, x_ref, g = xs[0], x_refs[0], arrived(gs)
            if x.dim() == 0:
                return (g,)
            dims = axes(dim, x.dim())
            rest = [d for d in range(x.dim()) if d not in dims]
            order = [*rest, *dims]
            lead = [x.shape[d] for d in rest]
            flat, flat_ref = x.permute(order).reshape(*lead, -1), x_ref.permute(order).reshape(*lead, -1)
            pick = torch.argmin if smallest else torch.argmax
            index, index_ref = pick(flat, -1, keepdim=True), pick(flat_ref, -1, keepdim=True)
            m = pooling.winner(g.reshape(*lead, 1), flat, flat_ref, index, index_ref, -1, smallest)
            back = [order.index(d) for d in range(x.dim())]
            return (m.reshape([x.shape[d] for d in order]).permute(back),)

        return bound(call, [call.place(0, "input", "self")], multipliers)

    return bind


def _running(smallest: bool) -> Binder:
    """Binder of cummax and cummin: each place is a window of its own, from the start to itself."""

    def bind(call: OpCall) -> BoundCall | None:
        dim = call.value(1, "dim")

        def multipliers(op: Forward, gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
            x, x_ref = xs[0], x_refs[0]
            if x.dim() == 0:
                return (arrived(gs),)
            index, index_ref = op(x)[1], op(x_ref)[1]
            return (pooling.winner(arrived(gs), x, x_ref, index, index_ref, dim, smallest),)

        return bound_by_op(call, [call.place(0, "input", "self")], multipliers)

    return bind


def _fractional(spatial: int) -> Binder:
    """Binder of fractional max-pooling, whose windows follow from random numbers among its arguments."""

    def bind(call: OpCall) -> BoundCall | None:
        def multipliers(op: Forward, gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
            kind = call.value(0, "input").dtype  # that of the random numbers too
            index, index_ref = (op(x.to(kind))[1] for x in (xs[0], x_refs[0]))
            return (pooling.window(arrived(gs), xs[0], x_refs[0], index, index_ref, spatial),)

        return bound_by_op(call, [call.place(0, "input", "self")], multipliers)

    return bind


def _two(smallest: bool) -> Binder:
    """Binder of maximum and minimum."""

    def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
        return pooling.larger(arrived(gs), xs[0], x_refs[0], xs[1], x_refs[1], smallest)

    def bind(call: OpCall) -> BoundCall | None:
        places = [call.place(0, "input", "self"), call.place(1, "other")]
        return bound(call, places, multipliers)

    return bind


def _pool(name: str, spatial: int) -> Binder:
    """Binder of max-pooling and adaptive max-pooling over `spatial` axes."""
    indexed = getattr(F, name + "_with_indices")
    last = 2 if name.startswith("adaptive") else 6  # of its parameters before `return_indices`

    def bind(call: OpCall) -> BoundCall | None:
        where = call.place(0, "input", "self")
        if where is None:
            return None
        named = {key: item for key, item in call.kwargs.items() if key != "return_indices"}
        with_indices = substituted(OpCall(indexed, call.args[:last], named), [where])

        def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
            index, index_ref = with_indices(xs[0])[1], with_indices(x_refs[0])[1]
            return (pooling.window(arrived(gs), xs[0], x_refs[0], index, index_ref, spatial),)

        return bound(call, [where], multipliers)

    return bind


REDUCTIONS: dict[str, Binder] = {
    "var": _spread(norm.variance),
    "std": _spread(norm.deviation),
    "norm": _norm,
    "linalg_norm": _norm,
    "linalg_vector_norm": _norm,
    "max": _extreme(False),
    "amax": _extreme(False),
    "min": _extreme(True),
    "amin": _extreme(True),
    "cummax": _running(False),
    "cummin": _running(True),
    "fractional_max_pool2d": _fractional(2),
    "fractional_max_pool3d": _fractional(3),
    "maximum": _two(False),
    "fmax": _two(False),
    "minimum": _two(True),
    "fmin": _two(True),
    **{f"max_pool{n}d": _pool(f"max_pool{n}d", n) for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": _pool(f"max_pool{n}d", n) for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d": _pool(f"adaptive_max_pool{n}d", n) for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d_with_indices": _pool(f"adaptive_max_pool{n}d", n) for n in (1, 2, 3)},
}
