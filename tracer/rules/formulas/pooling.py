"""Multipliers of maxima: the whole change goes to one winner, so overlapping windows only add up.

If the maximum rose, the input's winner takes the change, else the reference's winner. Either moved at least as far as
the maximum and the same way, so the coefficient Δmax / Δwinner lies in [0, 1]; with one winner in both runs it is 1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _share(change: Tensor, moved: Tensor) -> Tensor:
    """Δmax / Δwinner, 1 where the winner did not move (then the maximum did not either)."""
    return torch.where(moved == 0, 1.0, change / moved)


def winner(g: Tensor, x: Tensor, x_ref: Tensor, index: Tensor, index_ref: Tensor, dim: int, smallest: bool) -> Tensor:
    """Multiplier of `x` in its maximum (or minimum) along `dim`; `index` points at the winners of each run.

    `g`, `index` and `index_ref` have any size n along `dim`: n windows, which may overlap, over the same line of `x`.
    """
    top, top_ref = x.gather(dim, index), x_ref.gather(dim, index_ref)
    rose = top <= top_ref if smallest else top >= top_ref
    chosen = torch.where(rose, index, index_ref)
    moved = x.gather(dim, chosen) - x_ref.gather(dim, chosen)
    return torch.zeros_like(x).scatter_add_(dim, chosen, g * _share(top - top_ref, moved))


def window(g: Tensor, x: Tensor, x_ref: Tensor, index: Tensor, index_ref: Tensor, spatial: int) -> Tensor:
    """Multiplier of `x` in max-pooling over `spatial` axes; indices are flat in the plane, as PyTorch gives them."""
    lead = x.shape[: x.dim() - spatial]
    flat, flat_ref = x.reshape(*lead, -1), x_ref.reshape(*lead, -1)
    m = winner(g.reshape(*lead, -1), flat, flat_ref, index.reshape(*lead, -1), index_ref.reshape(*lead, -1), -1, False)
    return m.reshape(x.shape)


def larger(
    g: Tensor, a: Tensor, a_ref: Tensor, b: Tensor, b_ref: Tensor, smallest: bool = False
) -> tuple[Tensor, Tensor]:
    """Multipliers of `a` and `b` in the broadcast maximum (or minimum) of two tensors; half each where they tie."""
    pick = torch.minimum if smallest else torch.maximum
    top, top_ref = pick(a, b), pick(a_ref, b_ref)
    rose = top <= top_ref if smallest else top >= top_ref
    won = torch.where(rose, a == top, a_ref == top_ref).to(g.dtype)
    lost = torch.where(rose, b == top, b_ref == top_ref).to(g.dtype)
    ours = won / (won + lost)
    change = top - top_ref
    of_a = g * ours * _share(change, a - a_ref)
    of_b = g * (1 - ours) * _share(change, b - b_ref)
    return of_a.sum_to_size(a.shape), of_b.sum_to_size(b.shape)
