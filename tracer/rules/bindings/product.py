"""How calls of products, quotients, normalisations, softmax and attention are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tracer.op_call import KEYWORD_ONLY, OpCall
from tracer.rules.call import Binder, BoundCall, Gs, arrived, bound
from tracer.rules.formulas import attention, bilinear, norm, scale, softmax

Found = Sequence[Tensor | None]
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


def _lerp(call: OpCall) -> BoundCall | None:
    places = [call.place(0, "input", "self"), call.place(1, "end"), call.place(2, "weight")]
    return _bilinear_call(call, places)


def _bilinear_call(call: OpCall, places: Sequence[Any]) -> BoundCall | None:
    """A call of degree two at most in what varies: its own derivative at the mean of both runs is exact."""
    bound_call = bound(call, places, lambda *_: (), linear="one varying")
    if bound_call is not None:
        forward = bound_call.forward

        def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
            g = arrived(gs)
            return bilinear.at_the_mean(forward, g, xs, x_refs, needs)

        bound_call.multipliers = multipliers
    return bound_call


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
        raise NotImplementedError
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


def _over_dim(rule: Callable[[Tensor, Tensor, Tensor, int], Tensor]) -> Binder:
    """Binder of softmax and log-softmax."""

    def bind(call: OpCall) -> BoundCall | None:
        dim = call.value(1, "dim")

        def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
            axis = dim if dim is not None else (0 if xs[0].dim() in (0, 1, 3) else 1)  # F.softmax without dim
            return (rule(arrived(gs), xs[0], x_refs[0], axis),)

        return bound(call, [call.place(0, "input", "self")], multipliers)

    return bind


def _logsumexp(call: OpCall) -> BoundCall | None:
    dim, keepdim = call.value(1, "dim"), call.value(2, "keepdim", False)
    dims = (dim,) if isinstance(dim, int) else tuple(dim)

    def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
        return (softmax.logsumexp(arrived(gs), xs[0], x_refs[0], dims, keepdim),)

    return bound(call, [call.place(0, "input", "self")], multipliers)


def _normalised(centred: bool) -> Binder:
    """Binder of LayerNorm (`centred`) and RMSNorm."""

    def bind(call: OpCall) -> BoundCall | None:
        shape, weight = call.value(1, "normalized_shape"), call.value(2, "weight")
        eps = call.value(4 if centred else 3, "eps", 1e-5 if centred else None)
        small = torch.finfo(call.value(0, "input").dtype).eps if eps is None else eps
        dims = tuple(range(-len(shape), 0)) if not isinstance(shape, int) else (-1,)

        def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
            g = arrived(gs) if weight is None else arrived(gs) * weight.detach()
            return (norm.normalise(g, xs[0], x_refs[0], dims, small, centred),)

        return bound(call, [call.place(0, "input")], multipliers)

    return bind


def _scaled(g: Tensor, weight: Tensor | None) -> Tensor:
    """`g` behind the weight of each channel, the channels on axis 1."""
    return g if weight is None else g * weight.detach().reshape(1, -1, *[1] * (g.dim() - 2))


def _group_norm(call: OpCall) -> BoundCall | None:
    groups, weight = call.value(1, "num_groups"), call.value(2, "weight")
    eps = call.value(4, "eps", 1e-5)

    def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
        x, x_ref = xs[0], x_refs[0]
        g = _scaled(arrived(gs), weight)
        grouped = (x.shape[0], groups, -1)
        m = norm.normalise(g.reshape(grouped), x.reshape(grouped), x_ref.reshape(grouped), (-1,), eps)
        return (m.reshape(x.shape),)

    return bound(call, [call.place(0, "input")], multipliers)


def _instance_norm(call: OpCall) -> BoundCall | None:
    at = 3 if call.function is F.instance_norm else 1
    weight, eps = call.value(at, "weight"), call.value(7, "eps", 1e-5)
    if not call.value(5, "use_input_stats", True):
        return None

    def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
        g = _scaled(arrived(gs), weight)
        return (norm.normalise(g, xs[0], x_refs[0], range(2, xs[0].dim()), eps),)

    return bound(call, [call.place(0, "input")], multipliers)


def _batch_norm(call: OpCall) -> BoundCall | None:
    """In evaluation an affine map; in training a normalisation over examples and places."""
    if not call.value(5, "training", False):
        return None
    at = 3 if call.function is F.batch_norm else 1
    weight, eps = call.value(at, "weight"), call.value(7, "eps", 1e-5)

    def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
        g = _scaled(arrived(gs), weight)
        return (norm.normalise(g, xs[0], x_refs[0], [d for d in range(xs[0].dim()) if d != 1], eps),)

    return bound(call, [call.place(0, "input")], multipliers)


def _attention(call: OpCall) -> BoundCall | None:
    if call.value(4, "dropout_p", 0.0):
        raise NotImplementedError
    mask_at = call.place(3, "attn_mask")
    mask = None if mask_at is None else call.value(3, "attn_mask")
    settings = attention.Attention(
        bool(call.value(5, "is_causal", False)),
        call.value(KEYWORD_ONLY, "scale"),
        bool(call.value(KEYWORD_ONLY, "enable_gqa", False)),
    )
    places = [call.place(0, "query"), call.place(1, "key"), call.place(2, "value")]

    def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
        masks = (xs[3], x_refs[3]) if mask is not None else (None, None)
        wants = (*needs, False)[:4]
        found = attention.attention(arrived(gs), xs[:3], x_refs[:3], masks, settings, wants)
        return found if mask is not None else found[:3]

    return bound(call, places if mask is None else [*places, mask_at], multipliers)


def _prod(call: OpCall) -> BoundCall | None:
    dim, keepdim = call.value(1, "dim"), call.value(2, "keepdim", False)

    def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
        g, x, x_ref = arrived(gs), xs[0], x_refs[0]
        if dim is None:
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
    "inner": lambda call: _bilinear_call(call, [0, call.place(1, "other")]),
    "outer": lambda call: _bilinear_call(call, [0, call.place(1, "vec2")]),
    "ger": lambda call: _bilinear_call(call, [0, call.place(1, "vec2")]),
    "kron": lambda call: _bilinear_call(call, [0, call.place(1, "other")]),
    "linalg_vecdot": lambda call: _bilinear_call(call, [0, 1]),
    "cross": lambda call: _bilinear_call(call, [0, call.place(1, "other")]),
    "linalg_cross": lambda call: _bilinear_call(call, [0, call.place(1, "other")]),
    "einsum": _einsum,
    **dict.fromkeys(
        [
            "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
            "convolution",
        ],
        _kernel,
    ),
    "lerp": _lerp,
    **dict.fromkeys(["addmm", "baddbmm", "addbmm", "addmv", "addr", "addcmul"], _added_product),
    "div": _quotient,
    "softmax": _over_dim(softmax.softmax),
    "log_softmax": _over_dim(softmax.log_softmax),
    "logsumexp": _logsumexp,
    "layer_norm": _normalised(True),
    "rms_norm": _normalised(False),
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "batch_norm": _batch_norm,
    "scaled_dot_product_attention": _attention,
    "prod": _prod,
}  # fmt: skip
