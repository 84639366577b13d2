"""Slopes Δf/Δx of elementwise functions, written so that no difference of close numbers is ever divided.

Each slope takes `x` and `x_ref` of one shape and gives a tensor of that shape; where x = x_ref it is the derivative.
slope·(x − x_ref) = f(x) − f(x_ref), and the slope lies between the smallest and the largest derivative between them.
`secant` does the same for any other function, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]


def decay(u: Tensor) -> Tensor:
    """(1 − e^−u) / u for u ≥ 0, which is 1 at 0 and 0 at infinity."""
    return torch.where(u == 0, 1.0, -torch.expm1(-u) / u)


def reached(product: Tensor, g: Tensor) -> Tensor:
    """`product` of a slope and what arrives, `g`: 0 where nothing arrives, even if the slope there is NaN.

    In `torch.where(x > 0, x.log(), x)` the logarithm of the other elements is NaN, and not used.
    """
    if bool(torch.isfinite(product.sum())):
        return product
    return torch.where(g == 0, 0.0, product)


def bounded(slope: Tensor, x: Tensor, x_ref: Tensor, g: Tensor) -> Tensor:
    """slope·g, 0 where an operand is infinite: masks send −inf through exp, and an infinite Δ cannot be shared out."""
    product = slope * g
    if bool(torch.isfinite(product.sum())):
        return product
    return reached(torch.where(torch.isfinite(x - x_ref), slope, 0.0) * g, g)


def exp(x: Tensor, x_ref: Tensor) -> Tensor:
    """Slope of e^x: e^max·(1 − e^−|Δ|) / |Δ|."""
    return torch.exp(torch.maximum(x, x_ref)) * decay((x - x_ref).abs())


def log(x: Tensor, x_ref: Tensor) -> Tensor:
    """Slope of the natural logarithm."""
    low = torch.minimum(x, x_ref)
    ratio = (x - x_ref).abs() / low
    return torch.where(ratio == 0, 1.0, torch.log1p(ratio) / ratio) / low


def log1p(x: Tensor, x_ref: Tensor) -> Tensor:
    """Slope of log(1 + x)."""
    low = 1 + torch.minimum(x, x_ref)
    ratio = (x - x_ref).abs() / low
    return torch.where(ratio == 0, 1.0, torch.log1p(ratio) / ratio) / low


def sigmoid(x: Tensor, x_ref: Tensor) -> Tensor:
    """Slope of 1 / (1 + e^−x): σ(max)·σ(−min)·(1 − e^−|Δ|) / |Δ|."""
    high, low = torch.maximum(x, x_ref), torch.minimum(x, x_ref)
    return torch.sigmoid(high) * torch.sigmoid(-low) * decay(high - low)


def tanh(x: Tensor, x_ref: Tensor) -> Tensor:
    """Slope of tanh x = 2σ(2x) − 1."""
    return 4 * sigmoid(2 * x, 2 * x_ref)


def sqrt(x: Tensor, x_ref: Tensor) -> Tensor:
    """Slope of √x: 1 / (√x + √x'); 0 where both are 0, since the derivative there is infinite."""
    total = x.sqrt() + x_ref.sqrt()
    return torch.where(total == 0, 0.0, 1 / total)


def rsqrt(x: Tensor, x_ref: Tensor) -> Tensor:
    """Slope of 1/√x: −1 / (√x·√x'·(√x + √x'))."""
    root, root_ref = x.sqrt(), x_ref.sqrt()
    return -1 / (root * root_ref * (root + root_ref))


def reciprocal(x: Tensor, x_ref: Tensor) -> Tensor:
    """Slope of 1/x: −1 / (x·x')."""
    return -1 / (x * x_ref)


def power(x: Tensor, x_ref: Tensor, exponent: float) -> Tensor:
    """Slope of x^exponent for a constant exponent; small whole exponents as the sum Σ x^k·x'^(n−1−k)."""
    if exponent == 0.5:
        return sqrt(x, x_ref)
    if exponent == -0.5:
        return rsqrt(x, x_ref)
    if exponent == -1:
        return reciprocal(x, x_ref)
    if exponent == -2:
        return -(x + x_ref) / (x * x_ref).square()
    if exponent == int(exponent) and 0 <= exponent <= 8:
        total = torch.zeros_like(x)
        for k in range(int(exponent)):
            total = total * x + x_ref**k
        return total
    return secant(lambda t: t**exponent, x, x_ref)


def exponential(x: Tensor, x_ref: Tensor, base: float) -> Tensor:
    """Slope of base^x for a constant base > 0."""
    rate = math.log(base)
    return rate * exp(rate * x, rate * x_ref)


def ramp(x: Tensor, x_ref: Tensor, low: float | Tensor | None, high: float | Tensor | None) -> Tensor:
    """Share of the distance from `x_ref` to `x` that lies between `low` and `high`: the slope of clamp, in [0, 1].

    Every piecewise linear function is a sum of ramps, so none needs an eps.
    """
    change = x - x_ref
    inside = x.clamp(low, high) - x_ref.clamp(low, high)  # type: ignore[arg-type]
    here = torch.ones_like(x, dtype=torch.bool)
    if low is not None:
        here = x > low
    if high is not None:
        here = here & (x < high)
    return torch.where(change == 0, here.to(x.dtype), inside / change)


def relu(x: Tensor, x_ref: Tensor) -> Tensor:
    """Slope of max(x, 0)."""
    return ramp(x, x_ref, 0.0, None)


def leaky_relu(x: Tensor, x_ref: Tensor, negative_slope: float | Tensor = 0.01) -> Tensor:
    """Slope of x for x > 0, negative_slope·x below."""
    positive = relu(x, x_ref)
    return positive + negative_slope * (1 - positive)


def absolute(x: Tensor, x_ref: Tensor) -> Tensor:
    """Slope of |x|: share of the distance above 0 minus share below; of complex numbers (z + z') / (|z| + |z'|).

    For z, Re(conj(m)·Δz) = |z| − |z'|; 0 where both are 0.
    """
    if x.is_complex():
        total = x.abs() + x_ref.abs()
        return torch.where(total == 0, 0.0, (x + x_ref) / total)
    return 2 * relu(x, x_ref) - 1


def softshrink(x: Tensor, x_ref: Tensor, lambd: float = 0.5) -> Tensor:
    """Slope of the shrinkage towards 0 by `lambd`."""
    return 1 - ramp(x, x_ref, -lambd, lambd)


def hardsigmoid(x: Tensor, x_ref: Tensor) -> Tensor:
    """Slope of relu6(x + 3) / 6."""
    return ramp(x, x_ref, -3.0, 3.0) / 6


def sine(x: Tensor, x_ref: Tensor) -> Tensor:
    """Slope of sin x: sin(Δ/2) / (Δ/2)·cos of the midpoint."""
    return torch.sinc((x - x_ref) / (2 * math.pi)) * torch.cos((x + x_ref) / 2)


def cosine(x: Tensor, x_ref: Tensor) -> Tensor:
    """Slope of cos x."""
    return -torch.sinc((x - x_ref) / (2 * math.pi)) * torch.sin((x + x_ref) / 2)


def secant(function: Function, x: Tensor, x_ref: Tensor) -> Tensor:
    """Slope of any elementwise `function`, in the dtype of `x`; computed in float64.

    The quotient Δf/Δx, or the derivative at the midpoint where Δx is small relative to x or the quotient would only
    hold rounding errors. At τ = 1e-5 both errors are about 1e-11 of the slope in float64.
    """
    tau = 1e-5
    wide, wide_ref = x.double(), x_ref.double()
    middle = (wide + wide_ref) / 2
    change = wide - wide_ref
    with torch.enable_grad():
        probe = middle.detach().requires_grad_()
        value = function(probe)
        (derivative,) = torch.autograd.grad(value.sum(), probe)
    difference = function(wide) - function(wide_ref)
    noise = torch.maximum((derivative * change).abs(), difference.abs()) <= tau * value.detach().abs()
    small = (change.abs() <= tau) & ((change.abs() <= tau * middle.abs()) | noise)
    return torch.where(small | (change == 0), derivative, difference / change).to(x.dtype)


def jumping_secant(function: Function, x: Tensor, x_ref: Tensor, flat: bool = False) -> Tensor:
    """Slope of an elementwise `function` with steps: Δf/Δx over any way, the derivative (0 if `flat`) where Δx = 0."""
    change = x.double() - x_ref.double()
    # The function itself runs in the dtype of `x`: for wider numbers a step may lie elsewhere.
    difference = function(x).double() - function(x_ref).double()
    if flat:
        return torch.where(change == 0, 0.0, difference / change).to(x.dtype)
    with torch.enable_grad():
        probe = x.detach().requires_grad_()
        (derivative,) = torch.autograd.grad(function(probe).sum(), probe)
    return torch.where(change == 0, derivative.double(), difference / change).to(x.dtype)
