"""How calls of normalisations are read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tracer.op_call import OpCall
from tracer.rules.call import Binder, BoundCall, Found, Gs, arrived, bound, composed
from tracer.rules.compositions import others
from tracer.rules.formulas import norm


def _normalised(centred: bool) -> Binder:
    """Binder of LayerNorm (`centred`) and RMSNorm."""

    def bind(call: OpCall) -> BoundCall | None:
        shape, weight = call.value(1, "normalized_shape"), call.value(2, "weight")
        bias = call.value(3, "bias") if centred else None
        if any(isinstance(t, Tensor) and t.requires_grad and not isinstance(t, nn.Parameter) for t in (weight, bias)):
            return composed(call, others.layer_norm if centred else others.rms_norm)
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


NORMS: dict[str, Binder] = {
    "layer_norm": _normalised(True),
    "rms_norm": _normalised(False),
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "batch_norm": _batch_norm,
}
