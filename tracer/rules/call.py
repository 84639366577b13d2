"""One call of an op, bound to a rule: its tensors, the op as a function of them, and its multipliers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

Place = int | str
Gs = Sequence[Tensor | None]
Multipliers = Callable[[Gs, Sequence[Tensor], Sequence[Tensor], Sequence[bool]], Sequence[Tensor | None]]
Binder = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], "Call | None"]


@dataclass(slots=True)
class Call:
    """A bound call.

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


def place(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, *names: str) -> Place | None:
    """Where an argument stands: its position, its keyword, or None if it was not given."""
    if position < len(args):
        return position
    for name in names:
        if name in kwargs:
            return name
    return None


def value(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, name: str, default: Any = None) -> Any:
    """An argument given by position or by name, else `default`."""
    return args[position] if position < len(args) else kwargs.get(name, default)


def substituted(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], places: Sequence[Place]
) -> Callable[..., Any]:
    """`function` as a function of the tensors at `places`, everything else as in this call."""

    def forward(*tensors: Tensor) -> Any:
        changed, named = list(args), dict(kwargs)
        for where, tensor in zip(places, tensors, strict=True):
            if isinstance(where, int):
                changed[where] = tensor
            else:
                named[where] = tensor
        return function(*changed, **named)

    return forward


def bound(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    places: Sequence[Place | None],
    multipliers: Multipliers,
    linear: Literal["never", "one varying", "same choice"] = "never",
    inexact: Literal["", "approximated", "discrete choice"] = "",
) -> Call | None:
    """A `Call` whose operands stand at `places`; None if one is absent or no tensor: the op is linear in the other."""
    operands = []
    given = []
    for where in places:
        if where is None:
            return None
        operand = args[where] if isinstance(where, int) else kwargs[where]
        if not isinstance(operand, Tensor):
            return None
        operands.append(operand)
        given.append(where)
    return Call(tuple(operands), substituted(function, args, kwargs, given), multipliers, linear, inexact)
