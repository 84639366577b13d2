"""How calls of products and quotients are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from tracer.op_call import OpCall
from tracer.rules.bindings.elementwise import several
from tracer.rules.call import Binder, BoundCall, Forward, Found, Gs, arrived, bound, bound_by_op
from tracer.rules.formulas import bilinear, scale

rounded_quotient = several("input", "other", jumps=True)
Pairwise = Callable[..., tuple[Tensor | None, Tensor | None]]


def _pair(rule: Pairwise, first: str = "input", second: str = "other") -> Binder:
    """Binder of an op on two tensors, linear in each."""

    def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
        return rule(arrived(gs), xs[0], x_refs[0], xs[1], x_refs[1], needs)

    def bind(call: OpCall) -> BoundCall | None:
        places = [call.place(0, first, "self"), call.place(1, second)]
        return bound(call, places, multipliers, linear="one varying")

    return bind


def _swapped(rule: Pairwise) -> Pairwise:
    def swapped(g: Tensor, a: Tensor, a_ref: Tensor, b: Tensor, b_ref: Tensor, needs: Any) -> Any:
        of_b, of_a = rule(g, b, b_ref, a, a_ref, (needs[1], needs[0]))
        return of_a, of_b

    return swapped


def _kernel(call: OpCall) -> BoundCall | None:
    """Linear layers and convolutions, whose weight may vary, and the bias with it."""
    places = [call.place(0, "input"), call.place(1, "weight")]
    bias = call.value(2, "bias")
    if isinstance(bias, Tensor):
        places.append(call.place(2, "bias"))
    return _bilinear_call(call, places)


def _added_product(call: OpCall) -> BoundCall | None:
    """addmm, baddbmm, addcmul and kin: a sum of tensor 0 and a product of tensors 1 and 2."""
    left = call.place(1, "mat1", "batch1", "tensor1", "vec1", "mat")
    right = call.place(2, "mat2", "batch2", "tensor2", "vec2", "vec")
    return _bilinear_call(call, [call.place(0, "input", "self"), left, right])


def _bilinear(*names: str) -> Binder:
    """Binder of an op of degree two at most in its arguments `names`."""
    return lambda call: _bilinear_call(call, [call.place(i, name, "self") for i, name in enumerate(names)])


def _bilinear_call(call: OpCall, places: Sequence[Any]) -> BoundCall | None:
    """A call of degree two at most in what varies: its own derivative at the mean of both runs is exact."""

    def multipliers(op: Forward, gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
        return bilinear.at_the_mean(op, arrived(gs), xs, x_refs, needs)

    return bound_by_op(call, places, multipliers, linear="one varying")


def _einsum(call: OpCall) -> BoundCall | None:
    equation, *given = call.args
    if not isinstance(equation, str):
        raise NotImplementedError
    tensors = given[0] if len(given) == 1 and isinstance(given[0], (list, tuple)) else given
    if sum(t.requires_grad for t in tensors) > 2:
        raise NotImplementedError
    return _bilinear_call(OpCall(call.function, (equation, *tensors), call.kwargs), range(1, 1 + len(tensors)))


def _quotient(call: OpCall) -> BoundCall | None:
    if call.kwargs.get("rounding_mode") is not None:
        return rounded_quotient(call)
    numerator, denominator = call.value(0, "input"), call.value(1, "other")
    if not isinstance(denominator, Tensor):
        return None
    if not isinstance(numerator, Tensor):
        raise NotImplementedError

    def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
        return scale.quotient(arrived(gs), xs[0], x_refs[0], xs[1], x_refs[1], needs)

    places = [call.place(0, "input", "self"), call.place(1, "other")]
    if denominator.requires_grad:
        return bound(call, places, multipliers)
    return bound(call, places, multipliers, linear="one varying")


def _prod(call: OpCall) -> BoundCall | None:
    dim, keepdim = call.value(1, "dim"), call.value(2, "keepdim", False)

    def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
        g, x, x_ref = arrived(gs), xs[0], x_refs[0]
        if dim is None or x.dim() == 0:
            return (bilinear.multiply_along(g.reshape(1), x.reshape(-1), x_ref.reshape(-1), 0).reshape(x.shape),)
        return (bilinear.multiply_along(g if keepdim else g.unsqueeze(dim), x, x_ref, dim),)

    return bound(call, [call.place(0, "input", "self")], multipliers)


PRODUCTS: dict[str, Binder] = {
    "mul": _pair(bilinear.product),
    "matmul": _pair(bilinear.matmul),
    "rmatmul": _pair(_swapped(bilinear.matmul)),
    "mm": _pair(bilinear.matmul, second="mat2"),
    "bmm": _pair(bilinear.matmul, second="mat2"),
    "mv": _pair(bilinear.matmul, second="vec"),
    "dot": _pair(bilinear.matmul, second="tensor"),
    "vdot": _pair(bilinear.matmul),
    "inner": _bilinear("input", "other"),
    "outer": _bilinear("input", "vec2"),
    "ger": _bilinear("input", "vec2"),
    "kron": _bilinear("input", "other"),
    "linalg_vecdot": _bilinear("x", "y"),
    "cross": _bilinear("input", "other"),
    "linalg_cross": _bilinear("input", "other"),
    "einsum": _einsum,
    **dict.fromkeys(
        [
            "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
            "convolution",
        ],
        _kernel,
    ),
    "lerp": _bilinear("input", "end", "weight"),
    "tensordot": _bilinear("input", "other"),
    **dict.fromkeys(["addmm", "baddbmm", "addbmm", "addmv", "addr", "addcmul"], _added_product),
    "div": _quotient,
    "prod": _prod,
}  # fmt: skip
