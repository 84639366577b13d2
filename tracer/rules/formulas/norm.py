"""Multipliers of normalisations and of the reductions inside them (variance, deviation, 2-norm), in closed form.

With c the centred input and s = √(mean(c²) + eps): Δ(c/s) = (λ/s + λ'/s')·Δc + (λ'·c + λ·c')·Δ(1/s), λ and λ' as in
`tracer.rules.formulas.scale`, and Δ(1/s) = k·mean over the group of (c + c')·Δc with k = −1 / (s·s'·(s + s')).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tracer.rules.formulas import scale


def normalise(g: Tensor, x: Tensor, x_ref: Tensor, dims: Sequence[int], eps: float, centred: bool = True) -> Tensor:
    """Multiplier of `x` in (x − mean) / √(var + eps) over `dims`, with the biased variance.

    Not `centred`: in x / √(mean(x²) + eps). LayerNorm, RMSNorm, group, instance and training-mode batch norm are this
    one rule; their weight belongs into `g`.
    """
    dims = tuple(dims)
    mean, inverse = _moments(x, dims, eps, centred)
    mean_ref, inverse_ref = _moments(x_ref, dims, eps, centred)
    share, share_ref = scale.shares(inverse, inverse_ref)
    total, mixed = x + x_ref, torch.addcmul(share_ref * x, share, x_ref)  # c + c', λ'·c + λ·c'
    if mean is not None and mean_ref is not None:
        total.sub_(mean + mean_ref)
        mixed.sub_(share_ref * mean + share * mean_ref)
    # k = −1/(s·s'·(s + s')) written with r = 1/s: −r²·r'² / (r + r').
    k = (inverse * inverse_ref).square_().div_(inverse + inverse_ref).neg_()
    along = mixed.mul_(g).mean(dims, keepdim=True).mul_(k)
    m = torch.addcmul(g * (share * inverse + share_ref * inverse_ref), along, total)
    return m.sub_(m.mean(dims, keepdim=True)) if centred else m


def _moments(x: Tensor, dims: tuple[int, ...], eps: float, centred: bool) -> tuple[Tensor | None, Tensor]:
    """(mean, None where it is not taken off; 1/s)."""
    if centred and dims == tuple(range(-len(dims), 0)):  # one fused kernel
        _, middle, inverse = torch.native_layer_norm(x, x.shape[-len(dims) :], None, None, eps)
        return middle, inverse
    mean = x.mean(dims, keepdim=True) if centred else None
    c = x if mean is None else x - mean
    return mean, c.square().mean(dims, keepdim=True).add_(eps).rsqrt_()


def variance(g: Tensor, x: Tensor, x_ref: Tensor, dims: Sequence[int], correction: float) -> Tensor:
    """Multiplier of `x` in the variance over `dims`; `g` has size 1 there."""
    dims = tuple(dims)
    count = 1
    for dim in dims:
        count *= x.shape[dim]
    c, c_ref = x - x.mean(dims, keepdim=True), x_ref - x_ref.mean(dims, keepdim=True)
    return g * (c + c_ref) / max(count - correction, 0)


def deviation(g: Tensor, x: Tensor, x_ref: Tensor, dims: Sequence[int], correction: float) -> Tensor:
    """Multiplier of `x` in the standard deviation over `dims`; 0 where it is 0 in both runs."""
    dims = tuple(dims)
    total = x.std(dims, correction=correction, keepdim=True) + x_ref.std(dims, correction=correction, keepdim=True)
    return variance(torch.where(total == 0, 0.0, g / total), x, x_ref, dims, correction)


def euclidean(g: Tensor, x: Tensor, x_ref: Tensor, dims: Sequence[int]) -> Tensor:
    """Multiplier of `x` in the 2-norm over `dims`: (x + x') / (‖x‖ + ‖x'‖); 0 where both norms are 0."""
    dims = tuple(dims)
    total = torch.linalg.vector_norm(x, 2, dims, True) + torch.linalg.vector_norm(x_ref, 2, dims, True)
    return torch.where(total == 0, 0.0, g / total) * (x + x_ref)
