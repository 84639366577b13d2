"""Division by a scale that varies: exact, the same from both ends, and bounded where one scale vanishes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import tracer
from tracer.rules.formulas import norm, scale

SCALES = st.floats(1e-8, 1e8)
NUMBERS = st.floats(-1e3, 1e3)
LIMIT = (1 + math.sqrt(2)) / 2
"""The largest value of (s + s')·max(s, s') / (s² + s'²)."""


def of(*values: float) -> list[Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in values]


def signed(size: float, negative: bool) -> float:
    return -size if negative else size


@given(NUMBERS, NUMBERS, SCALES, SCALES, st.booleans(), st.booleans())
def test_a_quotient_is_shared_out_exactly(a: float, a_ref: float, s: float, s_ref: float, n: bool, n_ref: bool) -> None:
    s, s_ref = signed(s, n), signed(s_ref, n_ref)
    m_a, m_s = scale.quotient(*of(1.0, a, a_ref, s, s_ref), (True, True))
    assert m_a is not None and m_s is not None
    parts = [float(m_a) * (a - a_ref), float(m_s) * (s - s_ref), -a / s, a_ref / s_ref]
    # Each part is a handful of roundings of numbers no larger than these.
    size = max(map(abs, parts)) + abs(float(m_a)) * (abs(a) + abs(a_ref)) + abs(float(m_s)) * (abs(s) + abs(s_ref))
    float64 = torch.finfo(torch.float64)
    assert abs(math.fsum(parts)) <= 32 * (float64.eps * size + float64.tiny)


@given(NUMBERS, NUMBERS, SCALES, SCALES)
def test_both_ends_and_both_ways_of_writing_agree(a: float, a_ref: float, s: float, s_ref: float) -> None:
    there = scale.quotient(*of(1.0, a, a_ref, s, s_ref), (True, True))
    back = scale.quotient(*of(1.0, a_ref, a, s_ref, s), (True, True))
    as_product = scale.product(*of(1.0, a, a_ref, 1 / s, 1 / s_ref), (True, True))
    assert there[0] is not None and back[0] is not None and as_product[0] is not None
    assert float(there[0]) == pytest.approx(float(back[0]), rel=1e-12)
    assert float(there[0]) == pytest.approx(float(as_product[0]), rel=1e-12)
    assert abs(float(there[0])) * max(s, s_ref) <= LIMIT * (1 + 1e-12)


def test_equal_scales_give_the_mean_and_a_vanishing_one_the_secant() -> None:
    m_a, m_v = scale.product(*of(1.0, 3.0, 5.0, 0.5, 0.5), (True, True))
    assert (float(m_a), float(m_v)) == (0.5, 4.0)  # type: ignore[arg-type]
    m_a, _m_v = scale.product(*of(1.0, 3.0, 0.0, 0.5, 1e12), (True, True))
    assert float(m_a) == pytest.approx(0.5, rel=1e-10)  # type: ignore[arg-type]


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("factor", [0.0, 1e-6, 1e-3, 1.0, 1e3, 1e6])
def test_the_multiplier_of_a_normalisation_is_bounded_by_its_larger_scale(centred: bool, factor: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x, x_ref = torch.randn(2, 16, generator=generator, dtype=torch.float64)
    x_ref, eps = factor * x_ref, 1e-12
    rows = [norm.normalise(row, x, x_ref, (-1,), eps, centred) for row in torch.eye(16, dtype=torch.float64)]
    scales = [float((t.var(correction=0) if centred else t.square().mean()) + eps) ** 0.5 for t in (x, x_ref)]
    assert float(torch.linalg.matrix_norm(torch.stack(rows), 2)) * max(scales) <= 2 * LIMIT


def _stack(norm_of: Callable[[], nn.Module], layers: int) -> nn.Module:
    torch.manual_seed(0)
    blocks = [part for _ in range(layers) for part in (norm_of(), nn.Linear(8, 8, bias=False), nn.ReLU())]
    return nn.Sequential(*blocks, nn.Linear(8, 1)).eval()


@pytest.mark.parametrize("norm_of", [lambda: nn.RMSNorm(8, eps=1e-6), lambda: nn.LayerNorm(8)], ids=["rms", "layer"])
@pytest.mark.parametrize("layers", [1, 12])
def test_a_zero_reference_passes_through_a_stack_of_norms(norm_of: Callable[[], nn.Module], layers: int) -> None:
    """captum's default reference: with the mean of both scales, NaN or 1e26 from twelve layers on."""
    model, x = _stack(norm_of, layers), torch.randn(2, 8, generator=torch.Generator().manual_seed(1))
    lift = tracer.DeepLift(model)
    attributions, delta = lift.attribute(x, return_convergence_delta=True)
    assert lift.outputs is not None
    change = (lift.outputs[0] - lift.outputs[1]).abs()
    assert (delta.abs() <= 1e-5 * attributions.abs().sum(1)).all()
    assert (attributions.abs().sum(1) <= 100 * change).all()
