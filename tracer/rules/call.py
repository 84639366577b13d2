"""A call of an op bound to a rule: its tensors, the op as a function of them, and its multipliers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from tracer.op_call import NUMPY_NAMES, ArgumentPlace, OpCall

Gs = Sequence[Tensor | None]
"""The multipliers that arrive at the outputs of an op; None where nothing arrives."""
Found = Sequence[Tensor | None]
"""The multipliers of the operands; None for those that want none."""
Multipliers = Callable[[Gs, Sequence[Tensor], Sequence[Tensor], Sequence[bool]], Found]
Forward = Callable[..., Any]
"""An op as a function of its operands, everything else fixed."""
MultipliersByOp = Callable[[Forward, Gs, Sequence[Tensor], Sequence[Tensor], Sequence[bool]], Found]
"""Gives multipliers as `Multipliers` does, by running the op, which comes first, on operands of its choice."""
Binder = Callable[[OpCall], "BoundCall | None"]
"""Binds a call to its rule; None where the op is linear in this call."""
_OWN_NAMES = {numpys: torchs for torchs, numpys in NUMPY_NAMES.items()}


@dataclass(slots=True)
class BoundCall:
    """A call with its rule.

    `forward(*operands)` is the op with everything else fixed. `multipliers(gs, xs, x_refs, needs)` takes what arrives
    at the outputs (None: nothing), the operands of both runs and which operands want a multiplier.
    `linear` says when the op is linear, so that autograd is exact as it is: "never"; "one varying": if only one operand
    varies and the others are equal in both runs; "same choice": if the first `choices` operands (masks or indices) are
    equal in both runs.
    `inexact` names what to record if the multipliers need not conserve.
    `composition(*operands)` is the same value made of ops that have rules: its multipliers are taken, and `multipliers`
    is not asked.
    `differentiable` says which outputs carry a gradient, where the op gives several; None: all that are real numbers.
    """

    operands: tuple[Tensor, ...]
    forward: Forward
    multipliers: Multipliers
    linear: Literal["never", "one varying", "same choice"] = "never"
    inexact: Literal["", "approximated", "discrete choice"] = ""
    choices: int = 1
    composition: Forward | None = None
    differentiable: tuple[bool, ...] | None = None


def arrived(gs: Gs) -> Tensor:
    """What arrived at the only differentiable output of an op; its multipliers are not asked for if nothing did."""
    g = gs[0]
    assert g is not None
    return g


def results_of(value: Any) -> tuple[Any, ...]:
    """What an op gave, one by one: a tensor alone, or the items of a tuple or list."""
    return (value,) if isinstance(value, Tensor) else tuple(value)


def substituted(call: OpCall, places: Sequence[ArgumentPlace]) -> Forward:
    """The op as a function of the tensors at `places`, everything else as in `call`."""

    def forward(*tensors: Tensor) -> Any:
        return call.replaced(zip(places, tensors, strict=True)).run()

    return forward


def tensors_of(call: OpCall) -> tuple[list[Tensor], Callable[..., OpCall]]:
    """All tensors among a call's arguments, one list level deep, and the call with others in their places."""
    arguments: dict[ArgumentPlace, Any] = dict([*enumerate(call.args), *call.kwargs.items()])
    places: list[tuple[Any, ...]] = []
    operands: list[Tensor] = []
    for key, item in arguments.items():
        if isinstance(item, Tensor):
            places.append((key,))
            operands.append(item)
        elif isinstance(item, (list, tuple)):
            for i, inner in enumerate(item):
                if isinstance(inner, Tensor):
                    places.append((key, i))
                    operands.append(inner)

    def filled(*tensors: Tensor) -> OpCall:
        changed = dict(arguments)
        for spot, tensor in zip(places, tensors, strict=True):
            if len(spot) == 1:
                changed[spot[0]] = tensor
            else:
                items = list(changed[spot[0]])
                items[spot[1]] = tensor
                changed[spot[0]] = type(changed[spot[0]])(items)
        return call.replaced(changed.items())

    return operands, filled


def repeatable(operands: Sequence[Tensor], run: Callable[..., Any]) -> Callable[..., Any]:
    """`run` with the same random numbers at each call, those that it would draw now."""
    device = next((t.device for t in operands if t.is_cuda), None)
    state = torch.get_rng_state()
    on_device = None if device is None else torch.cuda.get_rng_state(device)

    def again(*tensors: Tensor) -> Any:
        torch.set_rng_state(state)
        if on_device is not None and device is not None:
            torch.cuda.set_rng_state(on_device, device)
        return run(*tensors)

    return again


def composed(call: OpCall, function: Callable[..., Any]) -> BoundCall:
    """`call` with the multipliers of `function`, which computes the same of the same arguments by ops with rules."""
    operands, filled = tensors_of(call)

    def forward(*tensors: Tensor) -> Any:
        return filled(*tensors).run()

    def composition(*tensors: Tensor) -> Any:
        args, kwargs = filled(*tensors)[1:]
        return function(*args, **{_OWN_NAMES.get(name, name): value for name, value in kwargs.items()})

    value, parts = repeatable(operands, forward), repeatable(operands, composition)
    return BoundCall(tuple(operands), value, lambda *_: (), composition=parts)


def bound(
    call: OpCall,
    places: Sequence[ArgumentPlace | None],
    multipliers: Multipliers,
    linear: Literal["never", "one varying", "same choice"] = "never",
    inexact: Literal["", "approximated", "discrete choice"] = "",
) -> BoundCall | None:
    """`call` with the operands at `places`; None if one is absent or not a tensor: the op is linear in the other."""
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


def bound_by_op(
    call: OpCall,
    places: Sequence[ArgumentPlace | None],
    multipliers: MultipliersByOp,
    linear: Literal["never", "one varying", "same choice"] = "never",
    inexact: Literal["", "approximated", "discrete choice"] = "",
) -> BoundCall | None:
    """As `bound`, with `multipliers` that run the op."""
    found = bound(call, places, lambda *_: (), linear, inexact)
    if found is not None:
        found.multipliers = partial(multipliers, found.forward)
    return found
