"""Evaluation on a doubled batch, as captum runs it: captum's own rules, call by call, mixed with other rules.

captum puts input and reference into one batch, and two of its rules mix the halves (softmax subtracts the mean over
both, max-pool adds both), so its multipliers are only defined there. Its formulas are taken from the installed captum.
They act where captum's hooks act, on the gradient of a module's input tensor summed over all its consumers, so they
have captum's faults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR
from torch import Tensor, nn

from tracer.exact.paired import PairedEvaluation
from tracer.model.hooks import listening
from tracer.rules.rulebook import recorded_op


class DoubledEvaluation(PairedEvaluation):
    """Evaluates `model` on inputs whose first half of axis 0 is the input and whose second half is the reference.

        engine = DoubledEvaluation(model, Rulebook("captum"))
        if engine.needs_exchange:
            with engine.reference_pass():
                model(*exchanged_args)         # the halves the other way round
        with engine.doubled_pass():
            output = model(*doubled_args)

    Differentiate the sum of both halves' outputs; the first half of the gradient holds the multipliers. Each half is
    the other's reference: the exchanged batch has it in the other's place, whatever axes a model moves it to.
    """

    @property
    def needs_exchange(self) -> bool:
        """Whether a rule takes part that needs the reference's operands; captum's rules find them in the batch."""
        return not self.rulebook.rules <= {"captum", "gradient"}

    @contextmanager
    def doubled_pass(self) -> Iterator[None]:
        """Run input and reference inside, as one batch."""
        self.ruled = {module: path for module, path in self.names.items() if self._captum_rules(module, path)}
        with listening(self.ruled, _Borders()), self.input_pass():
            yield

    def _captum_rules(self, module: nn.Module, path: str) -> bool:
        if type(module) not in SUPPORTED_NON_LINEAR or module._backward_hooks:
            return False
        kind = type(module).__name__
        return self.pairing.rule_at(recorded_op("module", kind), path, kind) == "captum"

    def _step(self, name: str) -> None:
        if self.needs_exchange:
            super()._step(name)


class _Borders:
    """captum's rule at the border of each module call, by the hooks that captum sets and in their order."""

    def __init__(self) -> None:
        self._open: list[tuple[SimpleNamespace, dict[str, Tensor]] | None] = []

    def enter(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The module's input is known: rule the gradient that will arrive at it."""
        if not args or not args[0].requires_grad:
            self._open.append(None)
            return
        # captum's pooling rule reads the module's settings and its `input`, which captum writes onto the user's module.
        stand_in = SimpleNamespace(**{name: getattr(module, name) for name in getattr(module, "__constants__", ())})
        with torch._C.DisableTorchFunction():  # no op of the model
            stand_in.input = args[0].detach().clone()
        seen: dict[str, Tensor] = {}
        args[0].register_hook(_rule_of(type(module), stand_in, seen))
        self._open.append((stand_in, seen))

    def leave(self, path: str, module: nn.Module, output: Any) -> None:
        """The module's output is known: note the gradient that arrives at it."""
        opened = self._open.pop()
        if opened is None or output is None:
            return
        stand_in, seen = opened
        with torch._C.DisableTorchFunction():
            stand_in.output = output.detach().clone()
        output.register_hook(lambda gradient: seen.__setitem__("output", gradient))


def _rule_of(kind: type[nn.Module], module: Any, seen: dict[str, Tensor]) -> Callable[[Tensor], Tensor | None]:
    def rule(gradient: Tensor) -> Tensor | None:
        if "output" not in seen:
            return None
        formula = SUPPORTED_NON_LINEAR[kind]
        found: Tensor = formula(module, module.input, module.output, gradient, seen["output"], eps=1e-10)
        return found

    return rule
