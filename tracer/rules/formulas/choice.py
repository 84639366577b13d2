"""Multipliers where an op chooses (where, masked_fill, indexing, top-k) and the choice differs between the runs.

With the same choice in both runs such an op is linear. Otherwise Δy = mean over both choices of what the op makes of
Δx, plus the difference of the values between the choices. That last part is a jump and belongs to no input: the caller
measures it and notes it as a discrete choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def both_choices(
    functions: Sequence[Callable[..., Tensor]], g: Tensor, xs: Sequence[Tensor], needs: Sequence[bool]
) -> list[Tensor | None]:
    """Multipliers of `xs`: the mean of the transposed Jacobians of `functions`, the op under each run's choice.

    A choice of another number of elements than the input's own does not fit `g`, and is left out.
    """
    if len(functions) > 1:
        functions = [function for function in functions if function(*xs).shape == g.shape]
    wanted = [x.detach().requires_grad_() for x, need in zip(xs, needs, strict=True) if need]
    totals: list[Tensor | None] = [None] * len(wanted)
    for function in functions:
        with torch.enable_grad():
            probes = iter(wanted)
            y = function(*[next(probes) if need else x for x, need in zip(xs, needs, strict=True)])
            found = torch.autograd.grad(y, wanted, g.to(y.dtype) / len(functions), allow_unused=True)
        for i, grad in enumerate(found):
            if grad is not None:
                before = totals[i]
                totals[i] = grad if before is None else before + grad
    results = iter(totals)
    return [next(results) if need else None for need in needs]


STEPS = 32
"""Orders on the way between two that differ, where a list is too long to follow each swap."""


def ranked(g: Tensor, x: Tensor, x_ref: Tensor, order: Callable[[Tensor], Sequence[Tensor]], dim: int) -> Tensor:
    """Multiplier of `x` in its sorted (or top) values along `dim`; `order` gives (values, where they came from).

    Each value goes along the elements that stand at its rank on the way, at `STEPS` places of it; what that leaves of
    the change of a row goes to all that moved, by minimum norm.
    """
    (values, index), (values_ref, index_ref) = order(x), order(x_ref)
    zeros = torch.zeros_like(x, dtype=g.dtype)
    if torch.equal(index, index_ref):
        return zeros.scatter_add_(dim, index, g)
    m = zeros.scatter_add(dim, index, g / (2 * STEPS)).scatter_add_(dim, index_ref, g / (2 * STEPS))
    for step in range(1, STEPS):
        m.scatter_add_(dim, order(torch.lerp(x_ref, x, step / STEPS))[1], g / STEPS)
    change = x - x_ref
    left = (g * (values - values_ref)).sum(dim, keepdim=True) - (m * change).sum(dim, keepdim=True)
    power = change.square().sum(dim, keepdim=True)
    return m + torch.where(power > 0, left / power, 0.0) * change
