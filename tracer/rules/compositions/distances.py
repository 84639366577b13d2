"""Norms of any order and the distances made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def vector_norm(x: Tensor, p: float, dims: Sequence[int], keepdim: bool = False) -> Tensor:
    """The p-norm of the elements along `dims`."""
    dims = list(dims)
    size = x.abs()
    if p == math.inf:
        return size.amax(dims, keepdim)
    if p == -math.inf:
        return size.amin(dims, keepdim)
    if p == 0:
        return (x != 0).to(size.dtype).sum(dims, keepdim)
    if p == 1:
        return size.sum(dims, keepdim)
    if p == 2:
        found: Tensor = torch.linalg.vector_norm(x, 2, dims, keepdim)
        return found
    return size.pow(p).sum(dims, keepdim).pow(1 / p)


def matrix_norm(x: Tensor, order: float, dims: Sequence[int], keepdim: bool = False) -> Tensor:
    """The largest (smallest for a negative `order`) sum of sizes of a column (order ±1) or of a row (±∞)."""
    rows, columns = (d % x.dim() for d in dims)
    along, over = (rows, columns) if abs(order) == 1 else (columns, rows)
    sums = x.abs().sum(along, True)
    found = sums.amax(over, True) if order > 0 else sums.amin(over, True)
    return found if keepdim else found.squeeze((rows, columns))


def norm(x: Tensor, p: float | str | None = 2, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Tensor:
    """`torch.norm`: the p-norm along `dim`, over all of it without one."""
    dims = range(x.dim()) if dim is None or (not isinstance(dim, int) and not len(dim)) else dim
    return vector_norm(x, float(2 if p is None else p), [dims] if isinstance(dims, int) else list(dims), keepdim)


def linalg_norm(
    x: Tensor, order: float | None = None, dim: int | Sequence[int] | None = None, keepdim: bool = False
) -> Tensor:
    """`torch.linalg.norm` of vectors, or of matrices where it is of order ±1 or ±∞."""
    dims = [dim] if isinstance(dim, int) else list(range(x.dim()) if dim is None else dim)
    if order is not None and len(dims) == 2:
        return matrix_norm(x, order, dims, keepdim)
    return vector_norm(x, 2.0 if order is None else order, dims, keepdim)


def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of the difference."""
    apart = input - other
    return vector_norm(apart, p, range(apart.dim()))


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of the difference along the last axis."""
    return vector_norm(x1 - x2 + eps, p, [-1], keepdim)


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: int | str | None = None) -> Tensor:
    """The p-norms of the differences of all rows with all."""
    return vector_norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p, [-1])


def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """The p-norms of the differences of each two rows."""
    first, second = torch.triu_indices(len(input), len(input), 1, device=input.device)
    return vector_norm(input[first] - input[second], p, [-1])


def cosine(x: Tensor, other: Tensor) -> Tensor:
    """The cosine along the last axis as `cosine_embedding_loss` has it, 1e-12 added to both squared lengths."""
    size, size_other = x.square().sum(-1) + 1e-12, other.square().sum(-1) + 1e-12
    return (x * other).sum(-1) / (size * size_other).sqrt()


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The product of both unit vectors, no length below `eps`."""
    x1, x2 = torch.broadcast_tensors(x1, x2)  # type: ignore[no-untyped-call]
    unit, unit_other = (t / vector_norm(t, 2, [dim], True).clamp(min=eps) for t in (x1, x2))
    return (unit * unit_other).sum(dim)


def renorm(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """Each slice along `dim` scaled down to the p-norm `maxnorm` where it is longer."""
    length = vector_norm(input, p, [d for d in range(input.dim()) if d != dim % input.dim()], True)
    long = length > maxnorm
    safe = torch.where(long, length, torch.ones_like(length))
    return torch.where(long, input * (maxnorm / (safe + 1e-7)), input)
