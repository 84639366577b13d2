"""One node in the autograd graph that computes an op's true value and sends back its exact multipliers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tracer.rules.call import BoundCall, results_of

_WIDER = {torch.float16: torch.float32, torch.bfloat16: torch.float32, torch.complex32: torch.complex64}


@dataclass(slots=True)
class Replacement:
    """A bound call with the operands of both runs.

    `rule` is the rulebook's rule, or why the call is not exact (`BoundCall.inexact`). `report` is told the leak of a
    rule that need not conserve. `operands` are those of the input with the graph behind them.
    """

    call: BoundCall
    xs: list[Tensor]
    x_refs: list[Tensor]
    rule: str = "exact"
    report: Callable[[float], None] | None = None
    operands: Sequence[Tensor] = ()
    result_type: type = field(default=tuple)

    def value(self) -> Any:
        """The op's true value (a tensor, or a tuple of the op's own kind), connected to its operands by one node."""
        found = _Replaced.apply(self, *self.operands)  # type: ignore[no-untyped-call]
        return found if isinstance(found, Tensor) else self.result_type(found)

    def multipliers(self, gs: Sequence[Tensor | None], needs: Sequence[bool]) -> list[Tensor | None]:
        """The multipliers of the operands in their own dtypes, computed in float32 at least."""
        if all(g is None for g in gs):
            return [None] * len(needs)
        if not any(x.numel() for x, need in zip(self.xs, needs, strict=True) if need):  # rules reshape, and take maxima
            return [torch.zeros_like(x) if need else None for x, need in zip(self.xs, needs, strict=True)]
        xs, x_refs = [_wide(x) for x in self.xs], [_wide(x) for x in self.x_refs]
        gs = [None if g is None else _wide(g) for g in gs]
        with torch._C.DisableTorchFunction():
            found = self.call.multipliers(gs, xs, x_refs, needs)
            if self.report is not None:
                self.report(self._leak(gs, xs, x_refs, found))
        results: list[Tensor | None] = []
        for m, x, need in zip(found, self.xs, needs, strict=True):
            results.append(m.to(x.dtype) if need and m is not None else None)
        return results

    def _leak(
        self,
        gs: Sequence[Tensor | None],
        xs: Sequence[Tensor],
        x_refs: Sequence[Tensor],
        found: Sequence[Tensor | None],
    ) -> float:
        """Σ m·Δx − Σ g·Δy over the elements where both are finite."""
        before = sum(_flow(m, x, x_ref) for m, x, x_ref in zip(found, xs, x_refs, strict=True))
        ys, y_refs = (results_of(self.call.forward(*operands)) for operands in (xs, x_refs))
        return before - sum(_flow(g, y, y_ref) for g, y, y_ref in zip(gs, ys, y_refs, strict=True))


def _wide(tensor: Tensor) -> Tensor:
    kind = _WIDER.get(tensor.dtype)
    return tensor if kind is None else tensor.to(kind)


def _flow(m: Tensor | None, value: Tensor, reference: Tensor) -> float:
    if m is None or not (value.is_floating_point() or value.is_complex()):
        return 0.0
    if value.is_complex():
        m, value, reference = (torch.view_as_real(t.resolve_conj()) for t in (m, value, reference))
    return float((m.double() * (value - reference).double()).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).sum())


class _Replaced(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, replacement: Replacement, *operands: Tensor) -> Any:
        ctx.replacement = replacement
        ctx.set_materialize_grads(False)
        value = replacement.call.forward(*operands)
        if isinstance(value, Tensor):
            # A view (einsum returns one) that leaves a custom function cannot be written to in place.
            return value.clone() if value._is_view() else value
        replacement.result_type = type(value)
        flat = tuple(value)
        carries = replacement.call.differentiable or (True,) * len(flat)
        ctx.mark_non_differentiable(
            *(
                t
                for t, carry in zip(flat, carries, strict=True)
                if not (carry and (t.is_floating_point() or t.is_complex()))
            )
        )
        return flat

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gs: Tensor | None) -> Any:
        return (None, *ctx.replacement.multipliers(gs, ctx.needs_input_grad[1:]))
