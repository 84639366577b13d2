"""Multipliers of products of two varying tensors: each factor's goes through the mean of the other.

Δ(a·b) = Δa·mean(b) + mean(a)·Δb holds for every bilinear op, so the split is exact and symmetric: the Shapley value of
the game with the two players a and b.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tracer.rules.formulas import elementwise


def mean(a: Tensor, a_ref: Tensor) -> Tensor:
    """The mean of both runs."""
    return a if a is a_ref else torch.lerp(a, a_ref, 0.5)


def product(
    g: Tensor, a: Tensor, a_ref: Tensor, b: Tensor, b_ref: Tensor, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Multipliers of `a` and `b` in the broadcast product a·b."""
    of_a = (g * _mean_for(g, b, b_ref)).sum_to_size(a.shape) if needs[0] else None
    of_b = (g * _mean_for(g, a, a_ref)).sum_to_size(b.shape) if needs[1] else None
    return of_a, of_b


def _mean_for(g: Tensor, a: Tensor, a_ref: Tensor) -> Tensor:
    """The mean of both runs; of integers and booleans in the dtype of `g`."""
    if a is a_ref or a.is_floating_point() or a.is_complex():
        return mean(a, a_ref)
    return mean(a.to(g.dtype), a_ref.to(g.dtype))


def matmul(
    g: Tensor, a: Tensor, a_ref: Tensor, b: Tensor, b_ref: Tensor, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Multipliers of `a` and `b` in a @ b with `torch.matmul`'s broadcasting; vectors allowed on either side."""
    shape_a, shape_b = a.shape, b.shape
    left, right = mean(a, a_ref), mean(b, b_ref)
    if left.dim() == 1:
        left, g = left.unsqueeze(0), g.unsqueeze(-1 if right.dim() == 1 else -2)
    if right.dim() == 1:
        right, g = right.unsqueeze(1), g.unsqueeze(-1)
    of_a = of_b = None
    if needs[0]:
        of_a = torch.matmul(g, right.transpose(-1, -2)).sum_to_size(left.shape[:-2] + left.shape[-2:]).reshape(shape_a)
    if needs[1]:
        of_b = torch.matmul(left.transpose(-1, -2), g).sum_to_size(right.shape).reshape(shape_b)
    return of_a, of_b


def at_the_mean(
    function: Callable[..., Tensor], g: Tensor, xs: Sequence[Tensor], x_refs: Sequence[Tensor], needs: Sequence[bool]
) -> list[Tensor | None]:
    """Multipliers of all `xs` in a `function` of degree two at most: its derivative at the mean (convolution, addmm).

    The derivative of a polynomial of degree two is linear along the path, so its mean is its value halfway.
    """
    with torch.enable_grad():
        probes = [
            mean(x, x_ref).detach().requires_grad_(need) for x, x_ref, need in zip(xs, x_refs, needs, strict=True)
        ]
        found = iter(torch.autograd.grad(function(*probes), [p for p in probes if p.requires_grad], g))
    return [next(found) if need else None for need in needs]


def gated_linear_unit(g: Tensor, x: Tensor, x_ref: Tensor, dim: int) -> Tensor:
    """Multiplier of `x` in GLU, a·σ(b) with a and b the halves of `x` along `dim`."""
    (a, b), (a_ref, b_ref) = x.chunk(2, dim), x_ref.chunk(2, dim)
    of_a = g * mean(torch.sigmoid(b), torch.sigmoid(b_ref))
    of_b = g * mean(a, a_ref) * elementwise.sigmoid(b, b_ref)
    return torch.cat([of_a, of_b], dim)


def multiply_along(g: Tensor, x: Tensor, x_ref: Tensor, dim: int) -> Tensor:
    """Multiplier of `x` in the product over `dim`, as a tree of products of two; `g` has size 1 along `dim`."""
    size = x.shape[dim]
    if size == 0:
        return torch.zeros_like(x)
    if size == 1:
        return g.expand_as(x)
    half = size // 2
    low, high = x.narrow(dim, 0, half), x.narrow(dim, half, size - half)
    low_ref, high_ref = x_ref.narrow(dim, 0, half), x_ref.narrow(dim, half, size - half)
    of_low = g * mean(high.prod(dim, keepdim=True), high_ref.prod(dim, keepdim=True))
    of_high = g * mean(low.prod(dim, keepdim=True), low_ref.prod(dim, keepdim=True))
    return torch.cat([multiply_along(of_low, low, low_ref, dim), multiply_along(of_high, high, high_ref, dim)], dim)
