"""A call of an op bound to a rule: its tensors, the op as a function of them, and its multipliers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from tracer.op_call import ArgumentPlace, OpCall

Gs = Sequence[Tensor | None]
"""The multipliers that arrive at the outputs of an op; None where nothing arrives."""
Found = Sequence[Tensor | None]
"""The multipliers of the operands; None for those that want none."""
Multipliers = Callable[[Gs, Sequence[Tensor], Sequence[Tensor], Sequence[bool]], Found]
Binder = Callable[[OpCall], "BoundCall | None"]
"""Binds a call to its rule; None where the op is linear in this call."""


@dataclass(slots=True)
class BoundCall:
    """A call with its rule.

    `forward(*operands)` is the op with everything else fixed. `multipliers(gs, xs, x_refs, needs)` takes what arrives
    at the outputs (None: nothing), the operands of both runs and which operands want a multiplier.
    `linear` says when the op is linear, so that autograd is exact as it is: "never"; "one varying": if only one operand
    varies and the others are equal in both runs; "same choice": if the first `choices` operands (masks or indices) are
    equal in both runs.
    `inexact` names what to record if the multipliers need not conserve.
    """

    operands: tuple[Tensor, ...]
    forward: Callable[..., Any]
    multipliers: Multipliers
    linear: Literal["never", "one varying", "same choice"] = "never"
    inexact: Literal["", "approximated", "discrete choice"] = ""
    choices: int = 1


def arrived(gs: Gs) -> Tensor:
    """What arrived at the only differentiable output of an op; its multipliers are not asked for if nothing did."""
    g = gs[0]
    assert g is not None
    return g


def substituted(call: OpCall, places: Sequence[ArgumentPlace]) -> Callable[..., Any]:
    """The op as a function of the tensors at `places`, everything else as in `call`."""

    def forward(*tensors: Tensor) -> Any:
        return call.replaced(zip(places, tensors, strict=True)).run()

    return forward


def bound(
    call: OpCall,
    places: Sequence[ArgumentPlace | None],
    multipliers: Multipliers,
    linear: Literal["never", "one varying", "same choice"] = "never",
    inexact: Literal["", "approximated", "discrete choice"] = "",
) -> BoundCall | None:
    """`call` with the operands at `places`; None if one is absent or no tensor: the op is linear in the other."""
    operands = []
    given = []
    for place in places:
        if place is None:
            return None
        operand = call.at(place)
        if not isinstance(operand, Tensor):
            return None
        operands.append(operand)
        given.append(place)
    return BoundCall(tuple(operands), substituted(call, given), multipliers, linear, inexact)
