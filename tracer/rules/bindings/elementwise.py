"""Which slope each elementwise op has, and how its call is read."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from tracer.op_call import KEYWORD_ONLY, OpCall
from tracer.rules.call import Binder, BoundCall, Forward, Found, Gs, arrived, bound, bound_by_op, composed, repeatable
from tracer.rules.compositions import others
from tracer.rules.formulas import activation, bilinear, elementwise, shapley

Slope = Callable[..., Tensor]


def _binder(slope: Slope, *parameters: tuple[int | None, str, Any]) -> Binder:
    """Binder of an op with one tensor; `parameters` are (position, name, default) of the slope's further arguments."""

    def bind(call: OpCall) -> BoundCall | None:
        values = [call.value(*parameter) for parameter in parameters]

        def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> tuple[Tensor | None, ...]:
            return (elementwise.bounded(slope(xs[0], x_refs[0], *values), xs[0], x_refs[0], arrived(gs)),)

        return bound(call, [call.place(0, "input", "self")], multipliers)

    return bind


def _generic(call: OpCall, position: int = 0) -> BoundCall | None:
    """An elementwise op without a slope of its own: the secant of the op itself in the tensor at `position`."""

    def multipliers(op: Forward, gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
        return (elementwise.bounded(elementwise.secant(op, xs[0], x_refs[0]), xs[0], x_refs[0], arrived(gs)),)

    return bound_by_op(call, [call.place(position, "input", "self")], multipliers)


def several(*names: str, jumps: bool = False, flat: bool = False) -> Binder:
    """Binder of an elementwise op of several numbers, the arguments `names`, of which any may be a tensor.

    `jumps`: it has steps; `flat`: it is constant between them.
    """

    def bind(call: OpCall) -> BoundCall | None:
        places = [call.place(i, name, "self") if i == 0 else call.place(i, name) for i, name in enumerate(names)]
        given = [place for place in places if place is not None and isinstance(call.at(place), Tensor)]

        def multipliers(op: Forward, gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
            return shapley.shared(op, arrived(gs), xs, x_refs, needs, jumps, flat)

        return bound_by_op(call, given, multipliers)

    return bind


def _clamped(slope: Binder, function: Callable[..., Tensor], *bounds: str) -> Binder:
    """Binder of clamp and its halves: by `slope`, or where a bound is a tensor as maxima and minima of two."""

    def bind(call: OpCall) -> BoundCall | None:
        tensors = any(isinstance(call.value(i + 1, name), Tensor) for i, name in enumerate(bounds))
        return composed(call, function) if tensors else slope(call)

    return bind


def _randomised(call: OpCall) -> BoundCall | None:
    """An elementwise op that draws random numbers: the secant of what it gave under those of this call."""
    bound_call = bound(call, [call.place(0, "input", "self")], lambda *_: ())
    if bound_call is not None:
        forward = bound_call.forward = repeatable(bound_call.operands, bound_call.forward)

        def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> tuple[Tensor | None, ...]:
            slope = elementwise.jumping_secant(forward, xs[0], x_refs[0])
            return (elementwise.bounded(slope, xs[0], x_refs[0], arrived(gs)),)

        bound_call.multipliers = multipliers
    return bound_call


def _entropy(call: OpCall) -> BoundCall | None:
    """−x·log x, which is −∞ below 0: no share of that is a number."""
    if bool((call.value(0, "input") < 0).any()):
        raise NotImplementedError
    return _generic(call)


def _mantissa(call: OpCall) -> BoundCall | None:
    """frexp: a step at each power of 2, and a line between."""

    def multipliers(op: Forward, gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
        slope = elementwise.jumping_secant(lambda t: op(t)[0], xs[0], x_refs[0])
        return (elementwise.bounded(slope, xs[0], x_refs[0], arrived(gs)),)

    return bound_by_op(call, [call.place(0, "input", "self")], multipliers)


def _polygamma(call: OpCall) -> BoundCall | None:
    """`torch.polygamma(n, x)`, whose method is `x.polygamma(n)`."""
    return _generic(call, 0 if call.args and isinstance(call.args[0], Tensor) else 1)


def _rrelu(call: OpCall) -> BoundCall | None:
    training = call.value(3, "training", False)
    return _randomised(call) if training else _generic(call)


def _hardtanh(x: Tensor, x_ref: Tensor, low: float, high: float) -> Tensor:
    return elementwise.ramp(x, x_ref, low, high)


def _scaled(slope: Slope, factor: float) -> Slope:
    return lambda x, x_ref: slope(x, x_ref) * factor


def _prelu(call: OpCall) -> BoundCall | None:
    weight = call.value(1, "weight")
    if weight.requires_grad and not isinstance(weight, nn.Parameter):
        return composed(call, others.prelu)

    def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> tuple[Tensor | None, ...]:
        negative = others.channels(weight.detach(), xs[0].dim()).to(xs[0].dtype)
        return (arrived(gs) * elementwise.leaky_relu(xs[0], x_refs[0], negative),)

    return bound(call, [call.place(0, "input", "self")], multipliers)


def _pow(call: OpCall) -> BoundCall | None:
    base, exponent = call.value(0, "input"), call.value(1, "exponent")
    if isinstance(base, Tensor) and isinstance(exponent, (int, float)):
        return _binder(elementwise.power, (1, "exponent", None))(call)
    if (
        isinstance(base, Tensor)
        and isinstance(exponent, Tensor)
        and not exponent.requires_grad
        and exponent.numel() == 1
    ):
        return _binder(lambda x, x_ref: elementwise.power(x, x_ref, exponent.item()))(call)
    if isinstance(base, (int, float)) and base > 0:
        return _exponential(call, 1, base)
    return several("input", "exponent")(call)


def _rpow(call: OpCall) -> BoundCall | None:
    base = call.args[1]
    if isinstance(base, (int, float)) and base > 0:
        return _exponential(call, 0, base)
    return several("input", "other")(call)


def _exponential(call: OpCall, position: int, base: float) -> BoundCall | None:
    def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> tuple[Tensor | None, ...]:
        return (arrived(gs) * elementwise.exponential(xs[0], x_refs[0], base),)

    return bound(call, [call.place(position, "exponent")], multipliers)


def _reverse_divide(call: OpCall) -> BoundCall | None:
    """`number / x`, as `Tensor.__rdiv__(x, number)`."""
    factor = call.args[1]
    if isinstance(factor, Tensor) and factor.requires_grad:
        return composed(call, lambda x, over: over / x)

    def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> tuple[Tensor | None, ...]:
        product = arrived(gs) * factor * elementwise.reciprocal(xs[0], x_refs[0])
        return (elementwise.reached(product, arrived(gs)).sum_to_size(xs[0].shape),)

    return bound(call, [0], multipliers)


def _glu(call: OpCall) -> BoundCall | None:
    dim = call.value(1, "dim", -1)

    def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> tuple[Tensor | None, ...]:
        return (bilinear.gated_linear_unit(arrived(gs), xs[0], x_refs[0], dim),)

    return bound(call, [call.place(0, "input")], multipliers)


ELEMENTWISE: dict[str, Binder] = {
    "relu": _binder(elementwise.relu),
    "relu6": _binder(lambda x, x_ref: elementwise.ramp(x, x_ref, 0.0, 6.0)),
    "leaky_relu": _binder(elementwise.leaky_relu, (1, "negative_slope", 0.01)),
    "prelu": _prelu,
    "hardtanh": _binder(_hardtanh, (1, "min_val", -1.0), (2, "max_val", 1.0)),
    "clamp": _clamped(
        _binder(elementwise.ramp, (1, "min", None), (2, "max", None)), others.clamp, "min", "max"
    ),
    "clamp_min": _clamped(
        _binder(lambda x, x_ref, low: elementwise.ramp(x, x_ref, low, None), (1, "min", None)), others.clamp_min, "min"
    ),
    "clamp_max": _clamped(
        _binder(lambda x, x_ref, high: elementwise.ramp(x, x_ref, None, high), (1, "max", None)),
        others.clamp_max, "max",
    ),
    "rrelu": _rrelu,
    "atan2": several("input", "other"),
    "hypot": several("input", "other"),
    "logaddexp": several("input", "other"),
    "logaddexp2": several("input", "other"),
    "xlogy": several("input", "other"),
    "special_xlog1py": several("input", "other"),
    "special_zeta": several("input", "other"),
    "copysign": several("input", "other", jumps=True),
    "heaviside": several("input", "values", jumps=True, flat=True),
    "remainder": several("input", "other", jumps=True),
    "fmod": several("input", "other", jumps=True),
    "floor_divide": several("input", "other", jumps=True, flat=True),
    "ldexp": several("input", "other"),
    **dict.fromkeys(("polygamma", "special_polygamma"), _polygamma),
    "special_entr": _entropy,
    "bernoulli": _randomised,
    "frexp": _mantissa,
    "abs": _binder(elementwise.absolute),
    "softshrink": _binder(elementwise.softshrink, (1, "lambd", 0.5)),
    "hardsigmoid": _binder(elementwise.hardsigmoid),
    "hardswish": _binder(activation.hardswish),
    "gelu": _binder(lambda x, x_ref, kind: activation.gelu(x, x_ref, kind), (KEYWORD_ONLY, "approximate", "none")),
    "silu": _binder(activation.silu),
    "mish": _binder(activation.mish),
    "softplus": _binder(activation.softplus, (1, "beta", 1.0), (2, "threshold", 20.0)),
    "log_sigmoid": _binder(activation.log_sigmoid),
    "elu": _binder(activation.elu, (1, "alpha", 1.0), (2, "scale", 1.0), (3, "input_scale", 1.0)),
    "celu": _binder(activation.celu, (1, "alpha", 1.0)),
    "selu": _binder(activation.selu),
    "erf": _binder(activation.erf),
    "glu": _glu,
    "sigmoid": _binder(elementwise.sigmoid),
    "tanh": _binder(elementwise.tanh),
    "exp": _binder(elementwise.exp),
    "expm1": _binder(elementwise.exp),
    "exp2": _binder(lambda x, x_ref: elementwise.exponential(x, x_ref, 2.0)),
    "log": _binder(elementwise.log),
    "log2": _binder(_scaled(elementwise.log, 1 / math.log(2))),
    "log10": _binder(_scaled(elementwise.log, 1 / math.log(10))),
    "log1p": _binder(elementwise.log1p),
    "sqrt": _binder(elementwise.sqrt),
    "rsqrt": _binder(elementwise.rsqrt),
    "reciprocal": _binder(elementwise.reciprocal),
    "rdiv": _reverse_divide,
    "square": _binder(lambda x, x_ref: x + x_ref),
    "sin": _binder(elementwise.sine),
    "cos": _binder(elementwise.cosine),
    "pow": _pow,
    "float_power": _pow,
    "rpow": _rpow,
    **dict.fromkeys(
        [
            "tan", "sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh", "atanh", "arcsin", "arccos", "arctanh",
            "arcsinh",
            "arccosh", "erfc", "erfinv", "special_erfinv", "special_erfc", "special_ndtr", "lgamma", "digamma", "logit",
            "special_logit", "sinc", "special_sinc", "i0", "tanhshrink", "softsign", "hardshrink", "threshold",
            "special_expm1", "special_log1p", "special_exp2", "special_i0e",
            "special_i1", "special_i1e", "special_log_ndtr", "special_ndtri", "mvlgamma",
        ],
        _generic,
    ),
}  # fmt: skip
