"""Slopes of elementwise functions against the slow definition: the mean derivative between both points."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.rounding import of_formula, seeded, unit
from tests.rules.pairs import pair
from tracer.rules.formulas import activation, elementwise
from tracer.rules.formulas.quadrature import nodes

SMOOTH: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], float, float]] = {
    "exp": (elementwise.exp, torch.exp, -30, 30),
    "log": (elementwise.log, torch.log, 1e-6, 1e3),
    "log1p": (elementwise.log1p, torch.log1p, -0.99, 1e3),
    "sigmoid": (elementwise.sigmoid, torch.sigmoid, -60, 60),
    "tanh": (elementwise.tanh, torch.tanh, -30, 30),
    "sqrt": (elementwise.sqrt, torch.sqrt, 1e-8, 1e4),
    "rsqrt": (elementwise.rsqrt, torch.rsqrt, 1e-3, 1e3),
    "reciprocal": (elementwise.reciprocal, torch.reciprocal, 1e-2, 1e3),
    "sin": (elementwise.sine, torch.sin, -50, 50),
    "cos": (elementwise.cosine, torch.cos, -50, 50),
    "gelu": (activation.gelu, F.gelu, -12, 12),
    "gelu_tanh": (
        lambda x, r: activation.gelu(x, r, "tanh"), lambda x: F.gelu(x, approximate="tanh"), -12, 12,
    ),
    "erf": (activation.erf, torch.erf, -6, 6),
    "silu": (activation.silu, F.silu, -80, 80),
    "softplus": (activation.softplus, F.softplus, -80, 80),
    "log_sigmoid": (activation.log_sigmoid, F.logsigmoid, -80, 80),
    "mish": (activation.mish, F.mish, -80, 80),
    "elu": (activation.elu, F.elu, -40, 40),
    "selu": (activation.selu, F.selu, -40, 40),
    "celu": (lambda x, r: activation.celu(x, r, 0.7), lambda x: F.celu(x, 0.7), -40, 40),
    "power 3": (lambda x, r: elementwise.power(x, r, 3.0), lambda x: x**3, -50, 50),
    "power -2": (lambda x, r: elementwise.power(x, r, -2.0), lambda x: x**-2, 0.1, 50),
    "power 2.5": (lambda x, r: elementwise.power(x, r, 2.5), lambda x: x**2.5, 1e-3, 50),
    "3^x": (lambda x, r: elementwise.exponential(x, r, 3.0), lambda x: 3.0**x, -20, 20),
    "relu": (elementwise.relu, torch.relu, -50, 50),
    "leaky_relu": (lambda x, r: elementwise.leaky_relu(x, r, -0.2), lambda x: F.leaky_relu(x, -0.2), -50, 50),
    "abs": (elementwise.absolute, torch.abs, -50, 50),
    "softshrink": (elementwise.softshrink, F.softshrink, -3, 3),
    "hardswish": (activation.hardswish, F.hardswish, -9, 9),
    "secant": (lambda x, r: elementwise.secant(torch.atan, x, r), torch.atan, -50, 50),
}  # fmt: skip
# Inside PyTorch these add numbers that are larger than what they give, and those are rounded.
WRITTEN: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x * math.sqrt(0.5))),
    "gelu_tanh": lambda x: x * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))),
    "hardswish": lambda x: x * (x + 3).clamp(0, 6) / 6,
    "softshrink": lambda x: x - x.clamp(-0.5, 0.5),
}
CORNERS = {"relu", "leaky_relu", "abs", "softshrink", "hardswish", "elu", "selu", "celu"}


@cache
def ways(low: float, high: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Pairs of points whose distances run from the whole range down to nothing."""
    generator = torch.Generator().manual_seed(seeded(0))
    start = low + (high - low) * torch.rand(40, 400, generator=generator, dtype=torch.float64)
    step = torch.logspace(0, -18, 40, dtype=torch.float64)[:, None] * (torch.rand(40, 400, generator=generator) - 0.5)
    x, x_ref = start, (start + step * (high - low)).clamp(low, high)
    x_ref[-1] = x[-1]
    return x.to(dtype), x_ref.to(dtype)


def derivative(function: Callable[..., Tensor], x: Tensor) -> Tensor:
    probe = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(function(probe).sum(), probe)
    return found


def worst(error: Tensor, bound: Tensor) -> float:
    """The largest error in units of what is allowed; NaN fails any comparison."""
    return float((error / bound.clamp(min=1e-300)).detach().max())


@cache  # a tensor is the same key as long as it is the same object
def of_slope(name: str, x: Tensor, x_ref: Tensor) -> Tensor:
    """How far a slope, in the dtype of both points, may be from the true one.

    That is its rounding and what a series leaves out: close to the diagonal Φ's slope is a series that ends before
    φ''''''(m)·δ⁶/7!, |φ''''''| ≤ 15·φ(0) ≤ 6. `secant` works in float64 and rounds its quotient once.
    """
    slope, single = SMOOTH[name][0], x.dtype == torch.float32
    if name in {"secant", "power 2.5"}:
        return slope(x, x_ref).double().abs() * 2 * unit(x.dtype)
    rounded = of_formula(slope, x, x_ref, dtype=x.dtype)
    if name in {"gelu", "erf"}:
        stretch, weight = (math.sqrt(2), math.sqrt(8)) if name == "erf" else (1.0, (x + x_ref).double().abs() / 2)
        half = stretch * (x - x_ref).double().abs() / 2
        rounded += torch.where(2 * half < (0.4 if single else 0.028), weight * 6 * half**6 / 5040, 0.0)
    return rounded


def of_change(name: str, x: Tensor, x_ref: Tensor) -> Tensor:
    """How far f(x) − f(x_ref), taken in float64, may be from the true change; the quotient of `secant` takes it too."""
    function = WRITTEN.get(name, SMOOTH[name][1])
    once = of_formula(function, x, dtype=torch.float64) + of_formula(function, x_ref, dtype=torch.float64)
    return 2 * once if name in {"secant", "power 2.5"} else once


@pytest.mark.rounding
@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_slope_times_the_way_is_the_change(name: str, dtype: torch.dtype) -> None:
    slope, function, low, high = SMOOTH[name]
    x, x_ref = ways(low, high, dtype)
    found = slope(x, x_ref).double() * (x.double() - x_ref.double())
    truth = function(x.double()) - function(x_ref.double())
    bound = of_slope(name, x, x_ref) * (x.double() - x_ref.double()).abs() + of_change(name, x, x_ref)
    assert worst((found - truth).abs(), bound) <= 1


@pytest.mark.rounding
@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_on_short_ways_the_slope_is_the_derivative_half_way(name: str, dtype: torch.dtype) -> None:
    if name in CORNERS:
        pytest.skip("has corners")
    slope, function, low, high = SMOOTH[name]
    x, x_ref = ways(low, high, dtype)
    close = (x - x_ref).abs() <= 1e-6 * x.abs().clamp(max=1)
    found = slope(x, x_ref).double()[close]
    truth = derivative(function, (x.double() + x_ref.double())[close] / 2)
    bound = 2e-9 * (truth.abs() + 1e-3 * truth.abs().mean())
    if dtype == torch.float32:
        bound += of_slope(name, x[close], x_ref[close])
    assert worst((found - truth).abs(), bound) <= 1


@pytest.mark.parametrize("name", SMOOTH)
def test_the_slope_is_the_mean_derivative(name: str) -> None:
    slope, function, low, high = SMOOTH[name]
    x, x_ref = (t[:6] for t in ways(0.1 if low > 0 else max(low, -5), min(high, 5), torch.float64))
    truth = torch.zeros_like(x)
    pieces = 40
    for piece in range(pieces):
        for t, weight in nodes(8):
            truth += weight / pieces * derivative(function, x_ref + (piece + t) / pieces * (x - x_ref))
    corners = name in CORNERS
    rough = corners or name in {"log", "power -2", "sqrt", "reciprocal", "rsqrt", "log1p"}
    assert torch.allclose(slope(x, x_ref), truth, rtol=2e-2 if rough else 1e-7, atol=2e-2 if corners else 1e-9)


@pytest.mark.rounding
@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_no_slope_exceeds_the_derivatives_on_the_way(name: str, dtype: torch.dtype) -> None:
    slope, function, low, high = SMOOTH[name]
    x, x_ref = ways(low, high, dtype)
    found = slope(x, x_ref).double()
    on_the_way = [
        derivative(function, x_ref.double() + t * (x.double() - x_ref.double()))
        for t in torch.linspace(0, 1, 201).tolist()
    ]
    high_slope = torch.stack(on_the_way).amax(0)
    low_slope = torch.stack(on_the_way).amin(0)
    slack = 1e-2 * (high_slope - low_slope) + 1e-7 * (high_slope.abs() + low_slope.abs()) + 1e-10
    if dtype == torch.float32:
        slack += of_slope(name, x, x_ref)
    # A corner or a steep place may lie between the sampled points.
    assert worst(found - high_slope, slack) <= 1
    assert worst(low_slope - found, slack) <= 1


def test_closed_forms() -> None:
    x, x_ref = torch.tensor(1.3, dtype=torch.float64), torch.tensor(-0.4, dtype=torch.float64)
    change = x - x_ref
    assert float(elementwise.exp(x, x_ref) * change) == pytest.approx(math.exp(1.3) - math.exp(-0.4), abs=1e-12)
    assert float(elementwise.tanh(x, x_ref) * change) == pytest.approx(math.tanh(1.3) - math.tanh(-0.4), abs=1e-12)
    assert float(elementwise.ramp(x, x_ref, 0.0, None)) == pytest.approx(1.3 / 1.7, abs=1e-12)
    assert float(elementwise.power(x, x_ref, 2.0)) == pytest.approx(0.9, abs=1e-12)


def test_differences_that_half_precision_would_lose() -> None:
    """captum's guard of 1e-10 is 0 in half precision; the rules work in single precision and have none."""
    x = torch.tensor([1e-4, 2.0]).half().float()
    assert torch.isfinite(elementwise.tanh(x, x)).all()
    assert torch.isfinite(elementwise.tanh(x, x + 1e-7)).all()
    assert float(elementwise.exp(torch.tensor(1e-12), torch.tensor(2e-12))) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("function", [torch.exp, torch.sigmoid, torch.relu, F.gelu, F.silu, torch.tanh, torch.erf])
def test_masked_and_huge_elements_stay_finite(function: Callable[..., Tensor], dtype: torch.dtype) -> None:
    huge = 30.0 if function is torch.exp else 1e10
    x = torch.tensor([[-math.inf, -math.inf, 1.0, huge, -huge, 0.5]], dtype=dtype)
    x_ref = torch.tensor([[-math.inf, 1.0, -math.inf, huge, -huge, 0.25]], dtype=dtype)
    found = pair(lambda t: function(t), x, x_ref)
    m = found.multipliers
    assert torch.isfinite(m).all()
    assert m[0, :3].tolist() == [0.0, 0.0, 0.0]
    finite = slice(3, 6)
    change = function(x)[0, finite] - function(x_ref)[0, finite]
    assert torch.allclose(m[0, finite] * (x - x_ref)[0, finite], change, rtol=1e-5, atol=1e-6)
