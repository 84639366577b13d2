"""Multipliers where something is divided by a scale that varies: each run counts by the square of its own scale.

Δ(a/s) = (λ/s + λ'/s')·Δa + (λ'·a + λ·a')·Δ(1/s) holds for all weights with λ + λ' = 1. The mean, λ = 1/2, multiplies by
(1/s + 1/s')/2, which has no bound as one scale vanishes: at a zero reference a normalisation's scale is √eps, and the
multipliers of twelve of them overflow float32. With λ = s²/(s² + s'²) the factor is (s + s')/(s² + s'²), at most
(1 + √2)/2 / max(s, s'). Equal scales give the mean, exchanged runs the same split, a vanishing s' the secant 1/s.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tracer.rules.formulas import elementwise


def shares(inverse: Tensor, inverse_ref: Tensor) -> tuple[Tensor, Tensor]:
    """(λ, λ') from v = 1/s and v' = 1/s' of any signs; 1/2 each where both scales are infinite, or one is not a number.

    Each is computed directly: 1 − λ would keep nothing of a λ' below the dtype's rounding.
    """
    low = torch.minimum(inverse.abs(), inverse_ref.abs())
    weight, weight_ref = (low / inverse).square(), (low / inverse_ref).square()
    total = weight + weight_ref
    known = torch.isfinite(total)
    return torch.where(known, weight / total, 0.5), torch.where(known, weight_ref / total, 0.5)


def product(
    g: Tensor, a: Tensor, a_ref: Tensor, v: Tensor, v_ref: Tensor, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Multipliers of `a` and `v` in the broadcast product a·v, where v = 1/s is the inverse of a scale."""
    share, share_ref = shares(v, v_ref)
    of_a = of_v = None
    if needs[0]:
        of_a = elementwise.reached(g * (share * v + share_ref * v_ref), g).sum_to_size(a.shape)
    if needs[1]:
        of_v = elementwise.reached(g * (share_ref * a + share * a_ref), g).sum_to_size(v.shape)
    return of_a, of_v


def quotient(
    g: Tensor, a: Tensor, a_ref: Tensor, s: Tensor, s_ref: Tensor, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Multipliers of `a` and `s` in a / s.

    Written with u = s/h and u' = s'/h, h the larger of |s| and |s'|, so that no square overflows:
    (u + u') / ((u² + u'²)·h) for a, −(a·u'/u + a'·u/u') / ((u² + u'²)·h²) for s.
    """
    high = torch.maximum(s.abs(), s_ref.abs())
    u, u_ref = s / high, s_ref / high
    total = u.square().add_(u_ref.square())
    of_a = of_s = None
    if needs[0]:
        of_a = elementwise.reached(g * ((u + u_ref) / (total * high)), g).sum_to_size(a.shape)
    if needs[1]:
        turned = (a * (u_ref / u) + a_ref * (u / u_ref)) / total
        of_s = elementwise.reached(-g * (turned / high / high), g).sum_to_size(s.shape)
    return of_a, of_s
