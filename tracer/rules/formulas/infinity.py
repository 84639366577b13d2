"""What stands for an infinite number in a rule: masks and routers set scores to −inf, and no share of ∞ is a number."""

from __future__ import annotations

import torch
from torch import Tensor

FLOOR = 1e20
"""Beyond any score, while its square and its inverse are still normal numbers of float32."""


def finite(x: Tensor, other: Tensor | None = None) -> Tensor:
    """`x` with ±FLOOR for infinities, and for NaN what `other`, the other run's value, has there (0 without one)."""
    if bool(torch.isfinite(x).all()):
        return x
    stand_in = 0.0 if other is None else torch.where(torch.isnan(other), 0.0, other)
    return torch.where(torch.isnan(x), stand_in, x).nan_to_num(posinf=FLOOR, neginf=-FLOOR)


def one_sided(x: Tensor, x_ref: Tensor) -> tuple[Tensor, Tensor]:
    """Both runs' values, with ±FLOOR for the elements that are infinite in one run only.

    What is infinite in both is masked in both and stays as it is.
    """
    only = torch.isinf(x) != torch.isinf(x_ref)
    if not bool(only.any()):
        return x, x_ref
    return torch.where(only, finite(x), x), torch.where(only, finite(x_ref), x_ref)
