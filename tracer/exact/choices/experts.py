"""Mixtures of experts of transformers, by one rule at the interface that all of them share.

out[t] = Σ over e of W[t, e]·E_e(h[t]), with W the router's weights put at their experts. Every expert that either run
chose for a token is evaluated in both, and the product rule shares the change out: Δout = Σ W̄·ΔE + Ē·ΔW. ΔW goes back
through the one-hot of the router's index.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

from tracer.exact.choices.context import Choices, Handler
from tracer.exact.choices.places import one_hot_of
from tracer.exact.treatment import Treatment
from tracer.op_call import OpCall
from tracer.rules.call import BoundCall, arrived
from tracer.rules.formulas import bilinear


def mixture_of_experts(
    hidden: Tensor,
    index: Tensor,
    weights: Tensor,
    module: nn.Module,
    chosen: Callable[..., Any],
    loop: Callable[..., Any],
) -> Any:
    """The output of a mixture of experts, as one op to every function mode.

    `hidden` (tokens, width), `index` and `weights` (tokens, experts of a token); `chosen` is the implementation that
    the model runs, `loop` the plain one.
    """
    tensors = (hidden, index, weights)
    if has_torch_function(tensors):
        return handle_torch_function(mixture_of_experts, tensors, *tensors, module, chosen, loop)
    return chosen(module, hidden, index, weights)


def run(
    chosen: Callable[..., Any],
    loop: Callable[..., Any],
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """What `tracer.model.process.experts` calls in place of an implementation."""
    given = (*args, *kwargs.values())
    tensors = [item for item in given if isinstance(item, Tensor)]
    if len(given) != 3 or len(tensors) != 3 or tensors[0].dim() != 2 or not hasattr(module, "num_experts"):
        return chosen(module, *args, **kwargs)
    hidden, *routing = tensors
    index, weights = sorted(routing, key=lambda t: t.is_floating_point())
    return mixture_of_experts(hidden, index, weights, module, chosen, loop)


def routed(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """The rule, as an op of the engine's."""
    hidden, index, weights, module, chosen, loop = call.args
    count = module.num_experts
    with choices.engine:
        places = one_hot_of(choices, index, count)
        if places is None:
            # The last place is for tokens that an expert elsewhere takes: transformers' own sentinel.
            dense = weights.new_zeros(len(hidden), count + 1).scatter_add(1, index, weights)[:, :count]
        else:
            dense = (places * weights.unsqueeze(-1).to(places.dtype)).sum(-2).to(weights.dtype)
    references = choices.pairing.step(how.name, [hidden.detach(), dense.detach(), index])
    if references is None:
        with torch.no_grad():
            return chosen(module, hidden, index, weights).requires_grad_().clone()
    hidden_ref, dense_ref, index_ref = references
    taken = torch.zeros(len(hidden), count + 1, dtype=torch.bool, device=hidden.device)
    taken.scatter_(1, index, True).scatter_(1, index_ref, True)
    rows, experts = taken[:, :count].nonzero(as_tuple=True)
    ones = torch.ones(len(rows), 1, dtype=weights.dtype, device=hidden.device)

    def alone(h: Tensor) -> Tensor:
        found: Tensor = loop(module, h, experts.unsqueeze(1), ones)
        return found

    y, y_ref = choices.both(alone, hidden[rows], hidden_ref[rows])
    w, w_ref = (t[rows, experts].to(y.dtype) for t in (dense, dense_ref))

    def multipliers(gs: Any, xs: Any, x_refs: Any, needs: Any) -> Any:
        wide, wide_ref = xs[0].unsqueeze(-1), x_refs[0].unsqueeze(-1)
        of_w, of_y = bilinear.product(arrived(gs), wide, wide_ref, xs[1], x_refs[1], needs)
        return (None if of_w is None else of_w.squeeze(-1), of_y)

    part = choices.pairing.replaced(BoundCall((w, y), lambda w, y: w.unsqueeze(-1) * y, multipliers), [w_ref, y_ref])
    return torch.zeros_like(hidden).index_add(0, rows, part.to(hidden.dtype))


EXPERTS: dict[str, Handler] = {"mixture_of_experts": routed}
