"""How calls of softmax, log-softmax, log-sum-exp and attention are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from tracer.op_call import KEYWORD_ONLY, OpCall
from tracer.rules.bindings.axes import axes, kept
from tracer.rules.call import Binder, BoundCall, Found, Gs, arrived, bound, composed
from tracer.rules.compositions import others
from tracer.rules.formulas import attention, softmax


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

    def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> Found:
        dims = axes(dim, xs[0].dim())
        return (softmax.logsumexp(kept(arrived(gs), dims, keepdim), xs[0], x_refs[0], dims),)

    return bound(call, [call.place(0, "input", "self")], multipliers)


def _attention(call: OpCall) -> BoundCall | None:
    if call.value(4, "dropout_p", 0.0):
        return composed(call, others.scaled_dot_product_attention)
    mask_at = call.place(3, "attn_mask")
    mask = None if mask_at is None else call.value(3, "attn_mask")
    settings = attention.AttentionSettings(
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


SOFTMAX: dict[str, Binder] = {
    "safe_softmax": _over_dim(softmax.softmax),
    "softmax": _over_dim(softmax.softmax),
    "log_softmax": _over_dim(softmax.log_softmax),
    "logsumexp": _logsumexp,
    "scaled_dot_product_attention": _attention,
}
