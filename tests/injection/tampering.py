"""Exact rules tampered with for a while: one call of a run is ruled otherwise, or sends back something else.

A call is named by its number among all that ask the engine for a rule, which is the same in every run of one model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from unittest.mock import patch

import torch
from torch import Tensor, nn

from tracer.exact.pairing import Pairing
from tracer.exact.replacement import Replacement

Multipliers = list[Tensor | None]
Rewrite = Callable[[Multipliers], Multipliers]
NUMBERED = "exact "


@dataclass(slots=True)
class _Tampered(Replacement):
    """A call whose multipliers are rewritten before they are sent back."""

    rewrite: Rewrite = field(default=list)

    def multipliers(self, gs: object, needs: object) -> Multipliers:
        return self.rewrite(Replacement.multipliers(self, gs, needs))  # type: ignore[arg-type]


@contextmanager
def numbered() -> Iterator[None]:
    """Recorded calls that an exact rule rules show as their rule "exact 17", their number."""

    def made(number: int, replacement: Replacement) -> Replacement:
        if replacement.rule == "exact":
            replacement.rule = f"{NUMBERED}{number}"
        return replacement

    with _intercepted(made=made):
        yield


@contextmanager
def linearised(wanted: int) -> Iterator[None]:
    """The call of this number is ruled by the gradient."""
    with _intercepted(rule=lambda number, given: "gradient" if number == wanted else given):
        yield


@contextmanager
def alone(wanted: int) -> Iterator[None]:
    """The rulebook's overrides hold for the call of this number only, the others are exact."""
    with _intercepted(rule=lambda number, given: given if number == wanted else "exact"):
        yield


@contextmanager
def rewritten(wanted: int, rewrite: Rewrite) -> Iterator[None]:
    """The multipliers of the call of this number are rewritten."""

    def made(number: int, replacement: Replacement) -> Replacement:
        return _tampered(replacement, rewrite) if number == wanted else replacement

    with _intercepted(made=made):
        yield


@contextmanager
def path_lost(wanted: int, operand: int) -> Iterator[None]:
    """What the call of this number sends back to an operand overwrites what all other calls send back to it.

    As captum's hook does, which stands on the tensor and so comes after the gradients of all calls that take it.
    """

    def made(number: int, replacement: Replacement) -> Replacement:
        if number != wanted:
            return replacement
        operands = replacement.call.operands
        varying = [tensor for tensor in operands if tensor.requires_grad]
        tensor = varying[operand % len(varying)]
        sent: list[Tensor] = []

        def keep(multipliers: Multipliers) -> Multipliers:
            pairs = zip(multipliers, operands, strict=True)
            sent.extend(m for m, taken in pairs if taken is tensor and m is not None)
            return multipliers

        with torch._C.DisableTorchFunction():
            tensor.register_hook(lambda _arriving: sum(sent[1:], sent[0]) if sent else None)  # type: ignore[no-untyped-call]
        return _tampered(replacement, keep)

    with _intercepted(made=made):
        yield


@contextmanager
def path_lost_to(linear: nn.Module) -> Iterator[None]:
    """The same for what an `nn.Linear` sends back: made of the gradient at its output, as captum's rules are."""

    def hooked(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        arrived: list[Tensor] = []
        weight = module.get_parameter("weight")
        with torch._C.DisableTorchFunction():
            output.register_hook(arrived.append)  # type: ignore[no-untyped-call]
            args[0].register_hook(lambda _: arrived[0] @ weight if arrived else None)  # type: ignore[no-untyped-call]

    handle = linear.register_forward_hook(hooked)
    try:
        yield
    finally:
        handle.remove()


def scaled(factor: float) -> Rewrite:
    """All multipliers `factor` times as large."""
    return lambda multipliers: [None if m is None else factor * m for m in multipliers]


def dropped(multipliers: Multipliers) -> Multipliers:
    """Nothing at all."""
    return [None] * len(multipliers)


def noisy(amount: float, seed: int) -> Rewrite:
    """Each multiplier off by a normal error of `amount` times its own size."""

    def rewrite(multipliers: Multipliers) -> Multipliers:
        generator = torch.Generator().manual_seed(seed)
        return [
            None if m is None else m * (1 + amount * torch.randn(m.shape, generator=generator).to(m.dtype))
            for m in multipliers
        ]

    return rewrite


def _tampered(replacement: Replacement, rewrite: Rewrite) -> _Tampered:
    return _Tampered(**{item.name: getattr(replacement, item.name) for item in fields(replacement)}, rewrite=rewrite)


@contextmanager
def _intercepted(
    rule: Callable[[int, str], str] = lambda number, given: given,
    made: Callable[[int, Replacement], Replacement] = lambda number, replacement: replacement,
) -> Iterator[None]:
    """`rule` is told the number and the rule of each call and names another, `made` gives what replaces the call."""
    asked = {True: 0, False: 0}  # in the reference's run and in the input's
    plain_rule, plain_value = Pairing.rule_of, Replacement.value
    tapes: dict[Pairing, object] = {}
    inner = False  # what a rule runs by itself, as a mixture's experts, has no row and no number

    def counting(pairs: Pairing, op: str) -> str:
        nonlocal inner
        inner = tapes.setdefault(pairs, pairs.tape) is not pairs.tape
        if inner:
            return plain_rule(pairs, op)
        number = asked[pairs.tape.writing]
        asked[pairs.tape.writing] += 1
        return rule(number, plain_rule(pairs, op))

    def value(replacement: Replacement) -> object:
        return plain_value(replacement if inner else made(asked[False] - 1, replacement))

    with patch.object(Pairing, "rule_of", counting), patch.object(Replacement, "value", value):
        yield
