"""Which axes a call reduces, and what arrives at its result with them in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def axes(dim: Any, rank: int) -> tuple[int, ...]:
    """The reduced axes as sorted non-negative numbers; None or () means all, and a single number has none."""
    if not rank or dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(rank))
    return tuple(sorted(d % rank for d in ((dim,) if isinstance(dim, int) else dim)))


def kept(g: Tensor, dims: Sequence[int], keepdim: bool) -> Tensor:
    """`g` with the reduced axes in place, at size 1."""
    if not keepdim:
        for d in dims:
            g = g.unsqueeze(d)
    return g
