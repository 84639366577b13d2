"""How far rounding may take a result: bounds that follow from the very numbers that are rounded, on any processor.

An operation gives its result t as t·(1 + ε), |ε| ≤ c·u, with u = eps/2 of the dtype. To first order ε moves what is
computed from t by ∂result/∂t·t·ε, which is the same as (∂result/∂ε)·ε (Linnainmaa 1976: rounding is where reverse
differentiation comes from). Kernels, vector widths and thread counts change the ε within ±c·u and nothing else, so a
bound built on this law holds on every processor, and a formula that is wrong by more than rounding breaks it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tracer.records import Edge, Floats
from tracer.tracefile.trace import Trace

SHIFT = int(os.environ.get("ROUNDING_SEED", "0"))
"""What `seeded` adds: continuous integration runs the tests that are marked `rounding` with other numbers too."""

_EXACT = {"where", "maximum", "minimum", "clamp", "abs", "neg", "double", "to", "detach", "clone", "zeros_like"}
_ARITHMETIC = {
    "add",
    "sub",
    "mul",
    "div",
    "true_divide",
    "square",
    "sqrt",
    "rsub",
    "reciprocal",
    "__rsub__",
    "__radd__",
}


def seeded(seed: int) -> int:
    """`seed`, shifted by ROUNDING_SEED."""
    return seed + SHIFT


def unit(dtype: torch.dtype) -> float:
    """u, the largest relative error of one rounding."""
    return torch.finfo(dtype).eps / 2


def walk(steps: float) -> float:
    """How many u a number is off that is rounded `steps` times, one after the other.

    The errors are independent to all appearance, each is spread over ±u with a standard deviation of at most u/√3, and
    they add up like a random walk (Higham and Mary 2019). 4·√steps is seven standard deviations.
    """
    return 4 * math.sqrt(steps)


def of_sum(dtype: torch.dtype, steps: float, *terms: Tensor) -> float:
    """How far rounding may take a sum, each of whose `terms` is rounded `steps` times: `walk` of √Σ term²."""
    squares = sum(float(term.double().square().sum()) for term in terms)
    return walk(steps) * unit(dtype) * math.sqrt(squares)


def of_delta(trace: Trace, terms: int) -> Floats:
    """(examples,) how far rounding may take each example's delta Σ m·Δ − (f(x) − f(x')) from 0 in an exact run.

    With exact rules the delta is what the roundings of the calls leave: those of x and x', which the multiplier m sends
    on, and that of m, which Δ sends on. They are independent from element to element, so their squares add up: `walk`
    times √Σ m²·(x² + x'² + Δ²), over all tensors that the calls take, each in units of its own dtype, and over f(x) and
    f(x') themselves. `terms` is the length of the longest sum in the model, that is how often such a number is rounded.
    Needs a trace with tensors. A tensor whose first axis is not the examples counts for each of them.
    """
    run, (model, *calls) = trace.run, trace.nodes
    squares = (run.output**2 + run.output_reference**2) * max(_unit(edge) for edge in trace.edges(model)) ** 2
    for node in calls:
        if node.end > node.id + 1:  # the calls inside it take the same tensors
            continue
        for edge in trace.edges(node):
            if edge.direction == "in" and edge.multiplier is not None:
                m, x, ref = (
                    trace.tensor(node, name, edge.slot).astype(np.float64)
                    for name in ("multiplier_in", "input", "reference")
                )
                with np.errstate(invalid="ignore"):  # of masks: an infinity is not rounded
                    sent = [np.where(np.isfinite(size), m * size, 0.0) for size in (x, ref, x - ref)]
                each = sum(part**2 for part in sent) * _unit(edge) ** 2
                apart = each.shape[:1] == squares.shape
                squares = squares + (each.reshape(len(squares), -1).sum(1) if apart else each.sum())
    assert np.isfinite(squares).all(), "a bound that nothing can exceed"
    return walk(terms) * np.sqrt(squares)


def _unit(edge: Edge) -> float:
    return unit(getattr(torch, edge.dtype or "float64"))


class _Rounding(TorchFunctionMode):
    """Multiplies what each elementwise operation gives by 1 + ε, ε a leaf of value 0, and keeps ε with its bound."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype
        self.errors: list[Tensor] = []
        self.bounds: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__
        if name.endswith("_") and not name.startswith("__"):  # ε needs what an operation in place overwrites
            name = name.removesuffix("_")
            func = getattr(Tensor, name)
        if name == "sinc":  # rounds π·t before it takes the sine
            angle = self._rounded(math.pi * torch.where(args[0] == 0, 1e-300, args[0]), 2)
            return self._rounded(self._rounded(torch.sin(angle), 8) / angle, 2)
        value = func(*args, **(kwargs or {}))
        if name in _EXACT or not isinstance(value, Tensor) or not value.requires_grad:
            return value
        # Arithmetic rounds once, and a constant that it takes was rounded before; library functions keep to 4 ulps.
        return self._rounded(value, 2 if name in _ARITHMETIC else 8)

    def _rounded(self, value: Tensor, units: float) -> Tensor:
        # Of a branch that `where` does not take, an infinite derivative times 0 arrives.
        value.register_hook(lambda gradient: gradient.nan_to_num(0.0, math.inf, -math.inf))
        error = torch.zeros_like(value, requires_grad=True)
        smallest, size = torch.finfo(self._dtype).smallest_normal, value.detach().abs()
        self.errors.append(error)
        self.bounds.append(
            units * unit(self._dtype) * torch.where((size > 0) & (size < smallest), smallest / size, 1.0)
        )
        return value * (1 + error)


def of_formula(function: Callable[..., Tensor], *points: Tensor, dtype: torch.dtype) -> Tensor:
    """How far rounding may take each element of `function(*points)`, written with torch's elementwise operations.

    Σ |∂result/∂ε|·c·u over all operations, the worst that their errors can do together, evaluated in float64 on the
    points as they are.
    """
    wide = [point.double().requires_grad_() for point in points]
    with _Rounding(dtype) as rounding:
        value = function(*wide)
    found = torch.zeros_like(value, requires_grad=False)
    if rounding.errors:
        slopes = torch.autograd.grad(value.sum(), rounding.errors, allow_unused=True, materialize_grads=True)
        for slope, bound in zip(slopes, rounding.bounds, strict=True):
            found += slope.abs().nan_to_num(0.0, math.inf) * bound
    return found
