"""Softmax and its kin against the formula written with an explicit matrix."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tracer.rules.formulas import softmax


def slow(g: Tensor, x: Tensor, x_ref: Tensor) -> Tensor:
    """The multiplier of one row, with L_j and the matrix diag(L) − L·Lᵀ / ΣL written out."""
    p, p_ref = x.softmax(0), x_ref.softmax(0)
    means = torch.stack([a if a == b else (a - b) / (a.log() - b.log()) for a, b in zip(p, p_ref, strict=True)])
    matrix = torch.diag(means) - torch.outer(means, means) / means.sum()
    return g @ matrix


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1e-3, 1.0, 8.0]))
def test_softmax_against_the_explicit_matrix(seed: int, scale: float) -> None:
    torch.manual_seed(seed)
    g, x, x_ref = torch.randn(3, 7, dtype=torch.float64) * torch.tensor([[1.0], [scale], [scale]])
    assert torch.allclose(softmax.softmax(g, x, x_ref, 0), slow(g, x, x_ref), rtol=1e-9, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_multipliers_sum_to_zero_and_are_blind_to_shifts(seed: int) -> None:
    torch.manual_seed(seed)
    g, x, x_ref = torch.randn(3, 4, 7, dtype=torch.float64) * 5
    m = softmax.softmax(g, x, x_ref, -1)
    assert float(m.sum(-1).abs().max()) < 1e-12
    assert torch.allclose(m, softmax.softmax(g, x + 1e3, x_ref - 17, -1), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coefficients_lie_between_0_and_1(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 30, dtype=dtype) * 30
    for step in (0.0, 1e-8, 1e-3, 1.0, 100.0):
        x_ref = x + step * torch.randn_like(x)
        mean = softmax.logarithmic_mean(torch.log_softmax(x, -1), torch.log_softmax(x_ref, -1))
        p, p_ref = x.softmax(-1), x_ref.softmax(-1)
        assert (mean <= torch.maximum(p, p_ref) * (1 + 1e-5) + 1e-30).all()
        assert (mean >= torch.minimum(p, p_ref) * (1 - 1e-5) - 1e-30).all()
        assert torch.isfinite(mean).all()


@pytest.mark.parametrize("minimum", [-math.inf, torch.finfo(torch.float64).min, torch.finfo(torch.float32).min])
def test_masked_entries_get_nothing_and_mask_styles_agree(minimum: float) -> None:
    torch.manual_seed(0)
    g, x, x_ref = torch.randn(3, 5, 6, dtype=torch.float64)
    mask = torch.zeros(5, 6, dtype=torch.bool)
    mask[:, 4:] = True
    for rule in (softmax.softmax, softmax.log_softmax):
        short = rule(g[:, :4], x[:, :4], x_ref[:, :4], -1)
        weights = g.masked_fill(mask, 0.0)
        masked = rule(weights, x.masked_fill(mask, minimum), x_ref.masked_fill(mask, minimum), -1)
        assert torch.isfinite(masked).all()
        assert torch.allclose(masked[:, :4], short, atol=1e-12)
        assert float(masked[:, 4:].abs().max()) == 0


def test_a_row_masked_throughout_stays_finite() -> None:
    g, x = torch.randn(2, 4), torch.full((2, 4), -math.inf)
    assert torch.isfinite(softmax.softmax(g, x, x, -1)).all()
    assert torch.isfinite(softmax.softmax(g, x, torch.randn(2, 4), -1)).all()


def test_equal_logits_of_one_token_take_their_share() -> None:
    """An equal logit still changes its probability; a secant drops that share (captum issue #519)."""
    x, x_ref = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([1.0, -1.0, 0.0]).double()
    g = torch.tensor([3.0, 0.0, 0.0]).double()
    m = softmax.softmax(g, x, x_ref, 0)
    assert float((m * (x - x_ref)).sum()) == pytest.approx(float(g @ (x.softmax(0) - x_ref.softmax(0))), abs=1e-12)
