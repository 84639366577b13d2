"""Multipliers of a plain function through the paired evaluation, for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tracer.exact.notes import RuleNote
from tracer.exact.paired import PairedEvaluation
from tracer.rules.rulebook import EXACT, Rulebook


class Model(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


@dataclass
class Found:
    """Both outputs, the multipliers for Σ weights·output, and what was noted."""

    output: Tensor
    reference: Tensor
    multipliers: Tensor
    flow: Tensor
    notes: list[RuleNote]


def pair(
    function: Callable[..., Any],
    x: Tensor,
    x_ref: Tensor,
    weights: Tensor | None = None,
    rulebook: Rulebook = EXACT,
    args: tuple[Any, ...] = (),
    ref_args: tuple[Any, ...] | None = None,
) -> Found:
    """Run `function` on both and send `weights` (ones if None) back; `flow` is Σ weights·Δoutput in float64."""
    model = function if isinstance(function, nn.Module) else Model(function)
    engine = PairedEvaluation(model, rulebook)
    with engine.reference_pass():
        reference = model(x_ref.clone().requires_grad_().clone(), *(args if ref_args is None else ref_args)).detach()
    leaf = x.clone().requires_grad_()
    with engine.input_pass():
        output = model(leaf.clone(), *args)
    weights = torch.ones_like(output) if weights is None else weights.to(output.dtype).expand_as(output)
    (multipliers,) = torch.autograd.grad(output, leaf, weights, allow_unused=True)
    multipliers = torch.zeros_like(leaf) if multipliers is None else multipliers
    flow = (weights.double() * (output.detach() - reference).double()).sum()
    return Found(output.detach(), reference, multipliers, flow, engine.notes)
