"""Multipliers of steps: comparisons, choices between two values, rounding to whole numbers.

A step has no derivative that says anything, but between two runs it has a change, and that belongs to what moved across
it: the secant Δf/Δx of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tracer.rules.formulas.infinity import finite


def step(function: Callable[[Tensor], Tensor], x: Tensor, x_ref: Tensor, derivative: float) -> Tensor:
    """Slope of a function with steps (floor, sign, remainder): its secant, and `derivative` where x = x'."""
    change = x - x_ref
    return torch.where(change == 0, derivative, (function(x) - function(x_ref)) / change)


def comparison(
    g: Tensor, compare: Callable[[Tensor, Tensor], Tensor], u: Tensor, u_ref: Tensor, v: Tensor, v_ref: Tensor
) -> tuple[Tensor, Tensor]:
    """Multipliers of `u` and `v` in c = compare(u, v), taken as 0 or 1: ± g·Δc / Δ(u − v) where c differs.

    There u − v differs too, so nothing is divided by 0. Elements that are not numbers decide nothing.
    """
    flip = compare(u, v).to(g.dtype) - compare(u_ref, v_ref).to(g.dtype)
    far = (finite(u, u_ref) - finite(v, v_ref)) - (finite(u_ref, u) - finite(v_ref, v))
    m = torch.where((flip != 0) & (far != 0), g * flip / far, 0.0)
    return m.sum_to_size(u.shape), -m.sum_to_size(v.shape)


def choice(g: Tensor, xs: Sequence[Tensor], x_refs: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Multipliers of (c, a, b) in where(c, a, b) with c of 0 and 1, as the product rule of c·a + (1 − c)·b has them.

    A branch that is not a number in one run counts there as in the other: it was not taken.
    """
    (c, a, b), (c_ref, a_ref, b_ref) = xs, x_refs
    share, flip = (c + c_ref) / 2, c != c_ref
    of_a = torch.where(share != 0, g * share, 0.0)
    of_b = torch.where(share != 1, g * (1 - share), 0.0)
    if not bool(flip.any()):
        return torch.zeros_like(c), of_a.sum_to_size(a.shape), of_b.sum_to_size(b.shape)
    jump = (finite(a, a_ref) / 2 - finite(b, b_ref) / 2) + (finite(a_ref, a) / 2 - finite(b_ref, b) / 2)
    of_a = torch.where(flip & torch.isnan(a + a_ref), 0.0, of_a)
    of_b = torch.where(flip & torch.isnan(b + b_ref), 0.0, of_b)
    of_c = torch.where(flip, g * jump, 0.0)
    return of_c.sum_to_size(c.shape), of_a.sum_to_size(a.shape), of_b.sum_to_size(b.shape)
