"""One table from op name to the rule that is exact for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tracer.op_call import OpCall
from tracer.rules.bindings.choice import CHOOSING
from tracer.rules.bindings.composed import COMPOSED
from tracer.rules.bindings.elementwise import ELEMENTWISE
from tracer.rules.bindings.matrix import MATRICES
from tracer.rules.bindings.norm import NORMS
from tracer.rules.bindings.product import PRODUCTS
from tracer.rules.bindings.reduction import REDUCTIONS
from tracer.rules.bindings.softmax import SOFTMAX
from tracer.rules.call import Binder, BoundCall, Gs, arrived, repeatable, results_of, tensors_of
from tracer.rules.formulas import scale
from tracer.rules.formulas.quadrature import average_jacobian

FAMILIES = (ELEMENTWISE, PRODUCTS, SOFTMAX, NORMS, REDUCTIONS, CHOOSING, MATRICES, COMPOSED)
RULES: dict[str, Binder] = {name: binder for family in FAMILIES for name, binder in family.items()}

_OF_COMPLEX = frozenset({"abs"})
"""Ops whose rule holds for complex numbers as it stands."""


def approximate(call: OpCall) -> BoundCall:
    """A call of an op without a rule: the average Jacobian in all tensors among its arguments, one list level deep."""
    operands, filled = tensors_of(call)
    bound_call = BoundCall(tuple(operands), repeatable(operands, lambda *t: filled(*t).run()), lambda *_: ())
    _integrate(bound_call)
    return bound_call


def bind_exact(name: str, call: OpCall) -> BoundCall | None:
    """The call of op `name` with its exact rule, or with the average Jacobian if there is none; None: it is linear."""
    binder = RULES.get(name)
    if binder is None:
        return approximate(call)
    try:
        bound_call = binder(call)
    except NotImplementedError:
        return approximate(call)
    if bound_call is None or bound_call.linear == "same choice" or bound_call.composition is not None:
        return bound_call
    if name not in _OF_COMPLEX and any(operand.is_complex() for operand in bound_call.operands):
        _integrate(bound_call)
    return bound_call


def _integrate(call: BoundCall) -> None:
    """Give `call` the average Jacobian: the slopes are of real numbers."""
    forward = call.forward

    def outputs(*tensors: Tensor) -> tuple[Tensor, ...]:
        return results_of(forward(*tensors))

    def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> list[Tensor | None]:
        try:
            return average_jacobian(outputs, gs, xs, x_refs, needs)
        except RuntimeError:  # torch has no derivative here (eigenvectors of any phase, ranks that change): all leaks
            return [torch.zeros_like(x) if need else None for x, need in zip(xs, needs, strict=True)]

    call.multipliers = multipliers
    call.inexact = "approximated"


def rescale(call: BoundCall, eps: float = 1e-10) -> BoundCall:
    """`call` with the per-element secant Δy/Δx wherever |Δx| ≥ eps, the gradient elsewhere: DeepLIFT's Rescale rule."""

    def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> list[Tensor | None]:
        x, x_ref = xs[0], x_refs[0]
        with torch.enable_grad():
            probe = x.detach().requires_grad_()
            y = call.forward(probe)
            (gradient,) = torch.autograd.grad(y, probe, gs[0])
        change = x - x_ref
        secant = gs[0] * (y.detach() - call.forward(x_ref)) / change
        return [torch.where(change.abs() < eps, gradient, secant)]

    return BoundCall(call.operands, call.forward, multipliers)


def times_inverse_scale(call: BoundCall, at: int) -> BoundCall:
    """A product of two tensors of which the one `at` (0 or 1) is the inverse of a scale."""

    def multipliers(gs: Gs, xs: Any, x_refs: Any, needs: Any) -> tuple[Tensor | None, ...]:
        other = 1 - at
        found = scale.product(arrived(gs), xs[other], x_refs[other], xs[at], x_refs[at], (needs[other], needs[at]))
        return found if at == 1 else found[::-1]

    return replace(call, multipliers=multipliers)
