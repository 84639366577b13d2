"""Writing to chosen places, some of them more than once: the element that survives there is what counts.

torch's own derivative gives every written element a share, also those that another one overwrote.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def written(write: Callable[[Tensor, Tensor], Tensor], base: Tensor, source: Tensor) -> Tensor:
    """`write(base, source)` as a choice between the two, made by writing the number of each element of `source`."""
    with torch.no_grad():
        marks = _marks(write, base, source)
    chosen = source.reshape(-1)[marks.clamp(min=0)].to(base.dtype)
    return torch.where(marks < 0, base, chosen)


def overwrites(write: Callable[[Tensor, Tensor], Tensor], base: Tensor, source: Tensor) -> bool:
    """Whether an element of `source` is written to a place that holds another one in the end."""
    with torch.no_grad():
        marks = _marks(write, base.detach(), source.detach())
    return int(torch.unique(marks).ge(0).sum()) < source.numel()


def _marks(write: Callable[[Tensor, Tensor], Tensor], base: Tensor, source: Tensor) -> Tensor:
    numbers = torch.arange(source.numel(), dtype=torch.float64, device=source.device).reshape(source.shape)
    return write(torch.full_like(base, -1, dtype=torch.float64), numbers).long()


def unpooled(unpool: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Max-unpooling: the elements of `x` at their places, 0 elsewhere."""
    numbers = torch.arange(1, x.numel() + 1, dtype=torch.float64, device=x.device).reshape(x.shape)
    with torch.no_grad():
        marks = unpool(numbers).long() - 1
    chosen = x.reshape(-1)[marks.clamp(min=0)]
    return torch.where(marks < 0, torch.zeros_like(chosen), chosen)
