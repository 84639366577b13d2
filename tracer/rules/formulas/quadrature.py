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
"""Numbers of nodes, tried in this order."""
HALVINGS = 160
"""How often pieces of the path may be halved; each time costs twice the fewest nodes."""
ELEMENTS = 1 << 14
"""Halvings times elements of the operands stay below this, so large operands are halved less often."""


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
        eps = max((torch.finfo(m.dtype).eps for m in found if m is not None), default=0.0)
        if abs(_flow(found, xs, x_refs)[0] - flow) <= 8 * eps * size:
            return found
    refined = _refined(function, gs, xs, x_refs, needs, 100 * eps * size)
    left, left_refined = (abs(_flow(ms, xs, x_refs)[0] - flow) for ms in (found, refined))
    return refined if left_refined < left else found


def _refined(
    function: Callable[..., Sequence[Tensor]],
    gs: Sequence[Tensor | None],
    xs: Sequence[Tensor],
    x_refs: Sequence[Tensor],
    needs: Sequence[bool],
    allowed: float,
) -> list[Tensor | None]:
    """The same by pieces of the path, of which the one that conserves worst is halved: corners need short pieces.

    It ends where all together conserve up to `allowed`, or at a jump or a pole.
    """

    def piece(start: float, end: float) -> tuple[float, float, float, list[Tensor | None]]:
        low, high = (_between(xs, x_refs, t) for t in (start, end))
        flow, _ = _flow(gs, function(*high), function(*low))
        found = _average(function, gs, high, low, needs, COUNTS[0])
        return abs(_flow(found, high, low)[0] - flow), start, end, found

    pieces = [piece(0.0, 1.0)]
    for _ in range(min(HALVINGS, ELEMENTS // max(1, sum(x.numel() for x in xs)))):
        if sum(error for error, *_rest in pieces) <= allowed:
            break
        worst = max(range(len(pieces)), key=lambda i: pieces[i][0])
        error, start, end, _found = pieces[worst]
        if not error < float("inf") or end - start < 1e-12:
            break
        middle = (start + end) / 2
        pieces[worst : worst + 1] = [piece(start, middle), piece(middle, end)]
    totals: list[Tensor | None] = [None] * len(xs)
    for _error, start, end, found in pieces:
        for i, m in enumerate(found):
            if m is not None:
                total = totals[i]
                totals[i] = m * (end - start) if total is None else total.add_(m, alpha=end - start)
    return totals


def _between(xs: Sequence[Tensor], x_refs: Sequence[Tensor], t: float) -> list[Tensor]:
    """The operands at `t` of the path, from 0 at the reference to 1 at the input; indices and masks are the input's."""
    return [
        torch.lerp(x_ref, x, t) if x.is_floating_point() or x.is_complex() else x
        for x, x_ref in zip(xs, x_refs, strict=True)
    ]


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
            at = [x.detach().requires_grad_(need) for x, need in zip(_between(xs, x_refs, t), needs, strict=True)]
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
