"""Multipliers of any differentiable op: the average Jacobian on the straight path from the reference to the input.

∫₀¹ J(x' + t·Δx) dt·Δx = Δy, so the exact integral conserves; Gauss–Legendre nodes make it nearly exact for smooth ops.
The caller measures what is left, and marks the op as approximated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

COUNTS = (16, 32, 64, 128)


@cache
def nodes(count: int) -> tuple[tuple[float, float], ...]:
    """Gauss–Legendre points on [0, 1] with their weights, exact for polynomials of degree 2·count − 1."""
    points, weights = np.polynomial.legendre.leggauss(count)
    return tuple((float(p) / 2 + 0.5, float(w) / 2) for p, w in zip(points, weights, strict=True))


def average_jacobian(
    function: Callable[..., Sequence[Tensor]],
    gs: Sequence[Tensor | None],
    xs: Sequence[Tensor],
    x_refs: Sequence[Tensor],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Multipliers of `xs` in `function`, whose outputs received `gs` (None: nothing arrived).

    All operands move together. Nodes are doubled until the multipliers conserve to the dtype's rounding, 128 at most.
    """
    flow, size = _flow(gs, function(*xs), function(*x_refs))
    found: list[Tensor | None] = []
    for count in COUNTS:
        found = _average(function, gs, xs, x_refs, needs, count)
        eps = max(torch.finfo(m.dtype).eps for m in found if m is not None) if any(m is not None for m in found) else 0
        if abs(_flow(found, xs, x_refs)[0] - flow) <= 8 * eps * size:
            break
    return found


def _flow(ms: Sequence[Tensor | None], values: Sequence[Tensor], references: Sequence[Tensor]) -> tuple[float, float]:
    """Σ m·Δ and Σ |m|·(|value| + |reference|), the size against which rounding counts."""
    flow = size = 0.0
    for m, value, reference in zip(ms, values, references, strict=True):
        if m is not None:
            m, value, reference = _real(m), _real(value), _real(reference)
            flow += float((m * (value - reference)).sum())
            size += float((m.abs() * (value.abs() + reference.abs())).sum())
    return flow, size


def _real(tensor: Tensor) -> Tensor:
    """In float64, a complex number as the pair of its parts, as autograd counts it."""
    return (torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor).double()


def _average(
    function: Callable[..., Sequence[Tensor]],
    gs: Sequence[Tensor | None],
    xs: Sequence[Tensor],
    x_refs: Sequence[Tensor],
    needs: Sequence[bool],
    count: int,
) -> list[Tensor | None]:
    totals: list[Tensor | None] = [None] * len(xs)
    wanted = [i for i, need in enumerate(needs) if need]
    for t, weight in nodes(count):
        with torch.enable_grad():
            at = [
                torch.lerp(x_ref, x, t).detach().requires_grad_(need) if x.is_floating_point() or x.is_complex() else x
                for x, x_ref, need in zip(xs, x_refs, needs, strict=True)
            ]
            ys = function(*at)
            pairs = [(y, g) for y, g in zip(ys, gs, strict=True) if g is not None and y.requires_grad]
            if not pairs:
                continue
            found = torch.autograd.grad(
                [y for y, _ in pairs], [at[i] for i in wanted], [g.to(y.dtype) for y, g in pairs], allow_unused=True
            )
        for i, grad in zip(wanted, found, strict=True):
            if grad is not None:
                total = totals[i]
                totals[i] = weight * grad if total is None else total.add_(grad, alpha=weight)
    return totals
