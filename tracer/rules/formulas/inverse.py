"""Multipliers of an inverse matrix: Δ(A⁻¹) = −A⁻¹·ΔA·A'⁻¹ = −A'⁻¹·ΔA·A⁻¹, half of each.

No way from A' to A need lead around singular matrices.
"""

from __future__ import annotations

from torch import Tensor


def inverse(g: Tensor, inverted: Tensor, inverted_ref: Tensor) -> Tensor:
    """Multiplier of A, from both inverses."""
    turned, turned_ref = inverted.transpose(-2, -1), inverted_ref.transpose(-2, -1)
    return -(turned @ g @ turned_ref + turned_ref @ g @ turned) / 2
