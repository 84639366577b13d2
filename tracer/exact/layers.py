"""How much of f(x) − f(x') passes through the output of each module's calls."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tracer.model.tensors import tensors_in


class LayerContributions:
    """Listens to the modules' calls in both runs: keeps the reference's outputs, then sums m·Δ in the backward pass.

    `contributions` maps a module's path to Σ m·Δ of its output for each call, float64 (E,).
    """

    def __init__(self, examples: int) -> None:
        self.contributions: dict[str, list[Tensor]] = {}
        self.mixed: dict[str, tuple[int, ...]] = {}
        """Layers in whose output several examples cannot be told apart, with its shape."""
        self._examples = examples
        self._references: dict[str, list[Tensor]] = {}
        self._second = False

    def second_run(self, examples: int) -> None:
        """The input's run begins; `examples` is how many the model makes of the rows that it is given."""
        self._second, self._examples = True, examples

    def enter(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Nothing is noted before a call."""

    def leave(self, path: str, module: nn.Module, output: Any) -> None:
        """Keep the reference's output, or wait for the multiplier of the input's."""
        with torch._C.DisableTorchFunction():  # no op of the model
            self._leave(path, output)

    def _leave(self, path: str, output: Any) -> None:
        found = [t for _name, t in tensors_in(output) if t.requires_grad]
        if not self._second:
            self._references.setdefault(path, []).extend(t.detach().clone() for t in found)
            return
        calls = self.contributions.setdefault(path, [])
        total = torch.zeros(self._examples, dtype=torch.float64, device=found[0].device if found else None)
        calls.append(total)
        for tensor in found:
            if self._examples > 1 and tensor.shape[:1] != (self._examples,):
                self.mixed[path] = tuple(tensor.shape)
                return
            reference = self._references[path].pop(0)
            change = (tensor.detach() - reference).double()

            def add(m: Tensor, change: Tensor = change, total: Tensor = total) -> None:
                total += (m.double() * change).reshape(self._examples, -1).sum(1)

            tensor.register_hook(add)  # type: ignore[no-untyped-call]
