"""What picks by rank, and maxima with more than one result."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The smallest and the largest."""
    if dim is None:
        dims: Sequence[int] = range(input.dim())
        return input.amin(list(dims), keepdim), input.amax(list(dims), keepdim)
    return input.amin(dim, keepdim), input.amax(dim, keepdim)


_ROUNDED = {"lower": torch.floor, "higher": torch.ceil, "nearest": torch.round}


def quantile(
    input: Tensor, q: Tensor | float, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """The values at the ranks q·(n − 1), between two ranks as `interpolation` says."""
    if input.dim() == 0:
        dim = None
    flat = input.reshape(-1) if dim is None else input.movedim(dim, -1)
    count = flat.shape[-1]
    values = flat.sort(-1).values
    wanted = q if isinstance(q, Tensor) else torch.tensor(q, dtype=input.dtype, device=input.device)
    rank = wanted.reshape(-1) * (count - 1)
    if interpolation in _ROUNDED:
        rank = _ROUNDED[interpolation](rank)
    low = rank.floor()
    below, above = (values.index_select(-1, r.long()) for r in (low, rank.ceil()))
    found = below + (rank - low) * (above - below)  # (..., Q)
    found = found.movedim(-1, 0)
    if keepdim:
        found = (
            found.reshape(-1, *[1] * input.dim())
            if dim is None
            else found.unsqueeze(-1).movedim(-1, 1 + dim % input.dim())
        )
    return found if wanted.dim() else found.squeeze(0)


def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """The lower median of what is a number; with `dim` its place too."""
    flat, axis = (input.reshape(-1), 0) if dim is None else (input, dim)
    unknown = flat.isnan()
    values = torch.where(unknown, torch.full_like(flat, math.inf), flat).sort(axis)
    middle = ((~unknown).sum(axis, True) - 1).clamp(min=0) // 2
    value, place = values.values.gather(axis, middle), values.indices.gather(axis, middle)
    if dim is None:
        return value.squeeze(0)
    return (value, place) if keepdim else (value.squeeze(axis), place.squeeze(axis))


def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The smallest value, which is the mode where no value occurs twice."""
    found = input.min(dim, keepdim)
    return found.values, found.indices


def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """log Σ e^x over all elements x up to each."""
    if input.dim() == 0:
        return input.clone()
    rows = input.movedim(dim, -1)
    count = rows.shape[-1]
    upto = torch.ones(count, count, dtype=torch.bool, device=input.device).tril()
    wide = torch.where(upto, rows.unsqueeze(-2), torch.full_like(rows, -math.inf).unsqueeze(-2))
    return torch.logsumexp(wide, -1).movedim(-1, dim)


def reduced_into(base: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, include_self: bool) -> Tensor:
    """`base` with the `source` elements that `index` (of its shape) sends along `dim` reduced into it."""
    if base.dim() == 0:
        return reduced_into(base.reshape(1), 0, index.reshape(1), source.reshape(1), reduce, include_self).squeeze(0)
    neutral = {"amax": -math.inf, "amin": math.inf, "prod": 1.0}.get(reduce, 0.0)
    lead = [slice(0, size) for size in index.shape]
    lead[dim] = slice(None)
    part = base[tuple(lead)].movedim(dim, -1)  # (..., places)
    sent = index.movedim(dim, -1)
    given = source[tuple(slice(0, size) for size in index.shape)].movedim(dim, -1)
    here = sent.unsqueeze(-1) == torch.arange(base.shape[dim], device=base.device)  # (..., sources, places)
    wide = torch.where(here, given.unsqueeze(-1), torch.full_like(given, neutral).unsqueeze(-1))
    kept = part if include_self else torch.where(here.any(-2), torch.full_like(part, neutral), part)
    table = torch.cat([kept.unsqueeze(-2), wide], -2)
    if reduce == "amax":
        found = table.amax(-2)
    elif reduce == "amin":
        found = table.amin(-2)
    elif reduce == "prod":
        found = table.prod(-2)
    else:
        found = table.sum(-2)
        if reduce == "mean":
            found = found / (here.sum(-2) + (1 if include_self else 0)).clamp(min=1)
    result = base.clone()
    result[tuple(lead)] = found.movedim(-1, dim)
    return result


def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """`scatter_reduce`, for each place a table of all that is sent there."""
    return reduced_into(input, dim % max(input.dim(), 1), index, src, reduce, include_self)


def index_reduce(
    input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """`index_reduce`: whole slices of `source` go to the places that `index` names."""
    if input.dim() == 0:
        return reduced_into(input, 0, index, source.reshape(index.shape), reduce, include_self)
    dim %= input.dim()
    shape = [1] * input.dim()
    shape[dim] = -1
    return reduced_into(input, dim, index.reshape(shape).expand(source.shape), source, reduce, include_self)
