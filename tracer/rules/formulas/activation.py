"""Slopes of activation functions that are products or chains of simpler ones.

A product x·h(x) has the slope mean(x)·slope(h) + mean(h), and a chain the product of its slopes, both exact.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tracer.rules.formulas import elementwise


def _gated(x: Tensor, x_ref: Tensor, gate: Tensor, gate_ref: Tensor, gate_slope: Tensor) -> Tensor:
    """Slope of x·gate(x)."""
    return ((x + x_ref) * gate_slope).add_(gate).add_(gate_ref).mul_(0.5)


def normal_cdf(x: Tensor, x_ref: Tensor, cdf: Tensor, cdf_ref: Tensor) -> Tensor:
    """Slope of the standard normal distribution function Φ, whose values are `cdf` and `cdf_ref`.

    The quotient where Δ is wide, else the Taylor series about the midpoint m, with δ = Δ/2:
    φ(m)·(1 + (m² − 1)·δ²/6 + (m⁴ − 6m² + 3)·δ⁴/120). Widths are set so that both errors are a few units of rounding.
    """
    width = 0.4 if x.dtype == torch.float32 else 0.028
    change = x - x_ref
    square = (x + x_ref).mul_(0.5).square_().clamp_(max=1500)  # e^−750 is 0; far beyond, the series overflows
    density = (square * -0.5).exp_().mul_(1 / math.sqrt(2 * math.pi))
    step = change.square().mul_(0.25)
    series = (square - 6).mul_(square).add_(3).mul_(step).mul_(1 / 20).add_(square).sub_(1).mul_(step)
    series = series.mul_(1 / 6).add_(1).mul_(density)
    return torch.where(change.abs() < width, series, (cdf - cdf_ref).div_(change))


def _cdf(x: Tensor) -> Tensor:
    return (x * math.sqrt(0.5)).erf_().add_(1).mul_(0.5)


def gelu(x: Tensor, x_ref: Tensor, approximate: str = "none") -> Tensor:
    """Slope of x·Φ(x), or of its tanh form."""
    if approximate == "tanh":
        scale, cubic = math.sqrt(2 / math.pi), 0.044715
        inner, inner_ref = scale * (x + cubic * x**3), scale * (x_ref + cubic * x_ref**3)
        inner_slope = scale * (1 + cubic * (x * x + x * x_ref + x_ref * x_ref))
        gate_slope = 2 * elementwise.sigmoid(2 * inner, 2 * inner_ref) * inner_slope
        return _gated(x, x_ref, torch.sigmoid(2 * inner), torch.sigmoid(2 * inner_ref), gate_slope)
    cdf, cdf_ref = _cdf(x), _cdf(x_ref)
    return _gated(x, x_ref, cdf, cdf_ref, normal_cdf(x, x_ref, cdf, cdf_ref))


def erf(x: Tensor, x_ref: Tensor) -> Tensor:
    """Slope of erf x = 2Φ(√2·x) − 1."""
    root = math.sqrt(2)
    wide, wide_ref = root * x, root * x_ref
    return 2 * root * normal_cdf(wide, wide_ref, (1 + torch.erf(x)) / 2, (1 + torch.erf(x_ref)) / 2)


def silu(x: Tensor, x_ref: Tensor) -> Tensor:
    """Slope of x·σ(x)."""
    return _gated(x, x_ref, torch.sigmoid(x), torch.sigmoid(x_ref), elementwise.sigmoid(x, x_ref))


def softplus(x: Tensor, x_ref: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """Slope of log(1 + e^βx) / β, with the straight line that PyTorch takes above the threshold."""
    scaled, scaled_ref = beta * x, beta * x_ref
    change = (scaled - scaled_ref).abs()
    high = torch.maximum(scaled, scaled_ref)
    drop = torch.log1p(torch.sigmoid(high) * torch.expm1(-change))
    curve = torch.where(change == 0, torch.sigmoid(high), -drop / change)
    above, above_ref = scaled > threshold, scaled_ref > threshold
    # Over long distances the quotient is exact, and it has the jump of e^−threshold between curve and line.
    values = F.softplus(x, beta, threshold) - F.softplus(x_ref, beta, threshold)
    quotient = (change > 1) | ((above != above_ref) & (change > 1e-3))
    return torch.where(above & above_ref, 1.0, torch.where(quotient, values / (x - x_ref), curve))


def log_sigmoid(x: Tensor, x_ref: Tensor) -> Tensor:
    """Slope of log σ(x) = −log(1 + e^−x)."""
    return softplus(-x, -x_ref, threshold=math.inf)


def mish(x: Tensor, x_ref: Tensor) -> Tensor:
    """Slope of x·tanh(log(1 + e^x))."""
    inner, inner_ref = F.softplus(x), F.softplus(x_ref)
    gate_slope = elementwise.tanh(inner, inner_ref) * softplus(x, x_ref)
    return _gated(x, x_ref, torch.tanh(inner), torch.tanh(inner_ref), gate_slope)


def hardswish(x: Tensor, x_ref: Tensor) -> Tensor:
    """Slope of x·relu6(x + 3) / 6."""
    gate_slope = elementwise.hardsigmoid(x, x_ref)
    return _gated(x, x_ref, F.hardsigmoid(x), F.hardsigmoid(x_ref), gate_slope)


def elu(x: Tensor, x_ref: Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Tensor:
    """Slope of scale·x for x > 0, scale·alpha·(e^(input_scale·x) − 1) below."""
    positive = elementwise.relu(x, x_ref)
    low, low_ref = input_scale * x.clamp(max=0), input_scale * x_ref.clamp(max=0)
    return scale * (positive + alpha * input_scale * elementwise.exp(low, low_ref) * (1 - positive))


def celu(x: Tensor, x_ref: Tensor, alpha: float = 1.0) -> Tensor:
    """Slope of x for x > 0, alpha·(e^(x/alpha) − 1) below."""
    return elu(x, x_ref, alpha, 1.0, 1 / alpha)


def selu(x: Tensor, x_ref: Tensor) -> Tensor:
    """Slope of the self-normalising ELU with its two fixed constants."""
    return elu(x, x_ref, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946)
