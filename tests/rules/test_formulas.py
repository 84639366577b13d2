"""Products, norms, maxima and attention against their formulas written out slowly."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.rules.pairs import pair
from tracer.rules.formulas import attention, bilinear, norm, pooling, quadrature
from tracer.rules.formulas.softmax import softmax


def drawn(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).double(), torch.randn(shape, generator=generator).double()


def test_a_product_is_split_at_the_midpoint() -> None:
    (a, a_ref), (b, b_ref) = drawn(3, 4), drawn(3, 4, seed=1)
    of_a, of_b = bilinear.product(torch.ones(3, 4).double(), a, a_ref, b, b_ref, (True, True))
    assert torch.allclose(of_a * (a - a_ref), (a - a_ref) * (b + b_ref) / 2, atol=1e-12)
    assert torch.allclose(of_b * (b - b_ref), (b - b_ref) * (a + a_ref) / 2, atol=1e-12)


def test_a_product_of_two_is_the_shapley_value() -> None:
    """The mean marginal contribution over both orders of switching a and b from reference to input."""
    (a, a_ref), (b, b_ref) = drawn(5), drawn(5, seed=1)
    of_a, _ = bilinear.product(torch.ones(5).double(), a, a_ref, b, b_ref, (True, True))
    shapley = ((a * b_ref - a_ref * b_ref) + (a * b - a_ref * b)) / 2
    assert torch.allclose(of_a * (a - a_ref), shapley, atol=1e-12)


@pytest.mark.parametrize(
    "shapes",
    [((3, 4), (4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((2, 1, 3, 4), (6, 4, 5)), ((4,), (2, 4, 5))],
)
def test_matmul_against_loops(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    (a, a_ref), (b, b_ref) = drawn(*shapes[0]), drawn(*shapes[1], seed=1)
    g = torch.randn_like(a @ b)
    found = bilinear.matmul(g, a, a_ref, b, b_ref, (True, True))
    for which, tensor in enumerate((a, b)):
        slow = torch.zeros_like(tensor)
        for place in itertools.product(*map(range, tensor.shape)):
            unit = torch.zeros_like(tensor)
            unit[place] = 1
            change = unit @ ((b + b_ref) / 2) if which == 0 else ((a + a_ref) / 2) @ unit
            slow[place] = (g * change).sum()
        assert torch.allclose(found[which], slow, atol=1e-12)


@pytest.mark.parametrize("centred", [True, False])
def test_normalisation_against_the_explicit_jacobian(centred: bool) -> None:
    x, x_ref = drawn(6)
    g = torch.randn(6).double()
    eps, n = 1e-5, 6
    centre = torch.eye(n).double() - (1 / n if centred else 0)
    c, c_ref = centre @ x, centre @ x_ref
    s, s_ref = (c.square().mean() + eps).sqrt(), (c_ref.square().mean() + eps).sqrt()
    share, share_ref = s**2 / (s**2 + s_ref**2), s_ref**2 / (s**2 + s_ref**2)
    k = -1 / (s * s_ref * (s + s_ref))
    mixed = share_ref * c + share * c_ref
    jacobian = (share / s + share_ref / s_ref) * torch.eye(n).double() + k * torch.outer(mixed, (c + c_ref) / n)
    assert torch.allclose(norm.normalise(g, x, x_ref, (-1,), eps, centred), g @ jacobian @ centre, atol=1e-12)


def test_rms_norm_of_a_vector_pulled_apart_from_zero_is_finite() -> None:
    zero = torch.zeros(1, 4)
    for rule in (norm.euclidean, lambda g, x, r, d: norm.deviation(g, x, r, d, 0.0)):
        assert torch.isfinite(rule(torch.ones(1, 1), zero, zero, (-1,))).all()


@pytest.mark.parametrize("ways", list(itertools.product((1.0, 2.0, 3.0), repeat=4)))
def test_the_coefficient_of_a_maximum_lies_between_0_and_1(ways: tuple[float, ...]) -> None:
    x, x_ref = torch.tensor(ways[:2]).double(), torch.tensor(ways[2:]).double()
    one = torch.ones(1).double()
    m = pooling.winner(one, x, x_ref, x.argmax(0, True), x_ref.argmax(0, True), 0, False)
    assert ((m >= 0) & (m <= 1)).all()
    assert float((m * (x - x_ref)).sum()) == pytest.approx(float(x.max() - x_ref.max()), abs=1e-12)


def test_overlapping_windows_add_up() -> None:
    """captum's unpooling assigns where windows overlap and drops shares (tangermeme issues 48 and 49)."""
    x, x_ref = torch.tensor([[[1.0, 5.0, 2.0, 0.0]]]).double(), torch.zeros(1, 1, 4).double()
    found = pair(lambda t: F.max_pool1d(t, 3, 1), x, x_ref)
    assert found.multipliers.tolist() == [[[0.0, 2.0, 0.0, 0.0]]]


def softly(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    logits = q @ k.transpose(-1, -2) * scale
    return torch.softmax(logits if mask is None else logits + mask, -1) @ v


@pytest.mark.parametrize(
    "settings", [{}, {"is_causal": True}, {"scale": 0.7}, {"mask": True}, {"float_mask": True}, {"gqa": True}]
)
def test_attention_equals_its_pieces(settings: dict[str, object]) -> None:
    """One op or five: matmul, scale, mask, softmax, matmul give the same multipliers."""
    x, x_ref = drawn(2, 4, 5, 6)
    bias = torch.randn(5, 5).double()
    keep = torch.ones(5, 5).tril().bool()
    scale = 0.7 if "scale" in settings else 1 / math.sqrt(6)
    hidden = torch.zeros(5, 5).double().masked_fill(~keep, -math.inf)
    mask = {"is_causal": hidden, "mask": hidden, "float_mask": bias}.get(next(iter(settings), ""))

    def parts(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        k, v = t.flip(-1) * 1.3, t.roll(1, -1)
        return (t, k[:, :2], v[:, :2]) if "gqa" in settings else (t, k, v)

    def whole(t: Tensor) -> Tensor:
        given = {key: settings[key] for key in ("is_causal", "scale") if key in settings}
        if "mask" in settings or "float_mask" in settings:
            given["attn_mask"] = keep if "mask" in settings else bias
        return F.scaled_dot_product_attention(*parts(t), enable_gqa="gqa" in settings, **given)  # type: ignore[arg-type]

    def pieces(t: Tensor) -> Tensor:
        q, k, v = parts(t)
        if "gqa" in settings:
            k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        return softly(q, k, v, mask, scale)

    weights = torch.randn(2, 4, 5, 6).double()
    one, five = pair(whole, x, x_ref, weights), pair(pieces, x, x_ref, weights)
    assert torch.allclose(one.output, five.output, atol=1e-12)
    assert torch.allclose(one.multipliers, five.multipliers, atol=1e-12)
    assert float((one.multipliers * (x - x_ref)).sum()) == pytest.approx(float(one.flow), abs=1e-11)


def test_a_bias_that_varies_gets_its_multiplier() -> None:
    x, x_ref = drawn(1, 2, 5, 6)
    function = lambda t: F.scaled_dot_product_attention(t, t, t, attn_mask=(t @ t.transpose(-1, -2)).tanh())  # noqa: E731
    found = pair(function, x, x_ref)
    assert float((found.multipliers * (x - x_ref)).sum()) == pytest.approx(float(found.flow), abs=1e-11)


def test_queries_without_any_key_stay_finite() -> None:
    x, x_ref = drawn(1, 1, 3, 4)
    keep = torch.tensor([[True, True, False], [False, False, False], [True, False, False]])
    boolean = pair(lambda t: F.scaled_dot_product_attention(t, t, t, attn_mask=keep), x, x_ref)
    lowest = torch.zeros(3, 3).double().masked_fill(~keep, -math.inf)
    floating = pair(lambda t: F.scaled_dot_product_attention(t, t, t, attn_mask=lowest), x, x_ref)
    assert torch.isfinite(boolean.multipliers).all()
    assert torch.allclose(boolean.multipliers, floating.multipliers, atol=1e-12)
    assert float((boolean.multipliers * (x - x_ref)).sum()) == pytest.approx(float(boolean.flow), abs=1e-12)


def test_attention_of_settings_alone() -> None:
    (q, q_ref), (k, k_ref), (v, v_ref) = (drawn(1, 1, 3, 4, seed=i) for i in range(3))
    g = torch.randn(1, 1, 3, 4).double()
    found = attention.attention(
        g, (q, k, v), (q_ref, k_ref, v_ref), (None, None), attention.AttentionSettings(), (True,) * 4
    )
    logits, logits_ref = q @ k.mT / 2, q_ref @ k_ref.mT / 2
    of_logits = softmax(g @ ((v + v_ref) / 2).mT, logits, logits_ref, -1)
    assert torch.allclose(found[0], of_logits @ ((k + k_ref) / 2) / 2, atol=1e-12)
    assert torch.allclose(found[1], of_logits.mT @ ((q + q_ref) / 2) / 2, atol=1e-12)
    assert torch.allclose(found[2], ((logits.softmax(-1) + logits_ref.softmax(-1)) / 2).mT @ g, atol=1e-12)


def test_quadrature_is_exact_for_polynomials_and_takes_more_nodes_where_it_must() -> None:
    x, x_ref = drawn(4)
    g = torch.randn(4).double()
    (cubic,) = quadrature.average_jacobian(lambda t: (t**3,), [g], [x], [x_ref], [True])
    assert torch.allclose(cubic, g * (x * x + x * x_ref + x_ref * x_ref), atol=1e-12)
    wide, wide_ref = x * 0 + 20, x * 0 - 21
    (steep,) = quadrature.average_jacobian(lambda t: (torch.tanh(t),), [g], [wide], [wide_ref], [True])
    assert float((steep * (wide - wide_ref)).sum()) == pytest.approx(float((g * 2).sum()), rel=1e-6)
