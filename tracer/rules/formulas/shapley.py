"""Multipliers of any elementwise function of several numbers: each operand's secant, over both values of the others.

f(a, b) − f(a', b') = ½·[f(a, b) − f(a', b) + f(a, b') − f(a', b')] + the same for b: the operands change one after the
other, and every order counts alike. That is the Shapley value of the game whose players are the operands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from math import factorial

import torch
from torch import Tensor

from tracer.rules.formulas import elementwise


def shared(
    function: Callable[..., Tensor],
    g: Tensor,
    xs: Sequence[Tensor],
    x_refs: Sequence[Tensor],
    needs: Sequence[bool],
    jumps: bool = False,
    flat: bool = False,
) -> list[Tensor | None]:
    """Multipliers of the broadcast operands `xs` of an elementwise `function`.

    `jumps`: it has steps, so over a short way too its slope is the secant and not the derivative.
    `flat`: it is constant between the steps, so its derivative is 0.
    """
    count = len(xs)
    jumping = partial(elementwise.jumping_secant, flat=flat)
    slope = jumping if jumps else elementwise.secant
    results: list[Tensor | None] = [None] * count
    wide = [t.expand(g.shape) for t in xs]
    wide_ref = [t.expand(g.shape) for t in x_refs]
    moving = [i for i in range(count) if needs[i] or not torch.equal(xs[i], x_refs[i])]
    for i in moving:
        if not needs[i]:
            continue
        others = [j for j in moving if j != i]
        total = torch.zeros_like(g)
        for there in product((False, True), repeat=len(others)):
            at = list(wide_ref)
            for j, moved in zip(others, there, strict=True):
                at[j] = wide[j] if moved else wide_ref[j]
            weight = factorial(sum(there)) * factorial(len(others) - sum(there)) / factorial(len(moving))

            def alone(t: Tensor, i: int = i, at: list[Tensor] = at) -> Tensor:
                return function(*(t if j == i else other.to(t.dtype) for j, other in enumerate(at)))

            total = total + weight * slope(alone, wide[i], wide_ref[i])
        results[i] = elementwise.bounded(total, wide[i], wide_ref[i], g).sum_to_size(xs[i].shape)
    return results
