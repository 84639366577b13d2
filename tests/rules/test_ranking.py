"""Orders against many small steps on the straight way, and the sum that each change of order must keep."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tracer.rules.formulas.ranking import ranked

EPS = torch.finfo(torch.float64).eps


def drawn(seed: int, rows: int, n: int, k: int, steps: int) -> tuple[Tensor, ...]:
    """Scores of both runs, on a grid of `steps` values so that they tie, and what arrives at values and places."""
    generator = torch.Generator().manual_seed(seed)
    x, x_ref = (torch.randint(0, steps, (rows, n), generator=generator).double() / 4 for _ in range(2))
    g_values = torch.randn(rows, k, generator=generator, dtype=torch.float64)
    return x, x_ref, g_values, torch.randn(rows, k, n, generator=generator, dtype=torch.float64)


def places(index: Tensor, n: int) -> Tensor:
    return F.one_hot(index, n).double()


@given(st.integers(0, 10_000), st.integers(2, 9), st.data(), st.sampled_from([2, 5, 10_000]))
def test_every_change_of_order_is_shared_out(seed: int, n: int, data: st.DataObject, steps: int) -> None:
    k = data.draw(st.integers(1, n))
    x, x_ref, g_values, g_places = drawn(seed, 4, n, k, steps)
    if seed % 3 == 0:
        x_ref.zero_()
    top, top_ref = torch.topk(x, k), torch.topk(x_ref, k)
    m = ranked(g_values, g_places, x, x_ref, top.indices, top_ref.indices)
    arrived = (g_values * (top.values - top_ref.values)).sum(-1)
    arrived += (g_places * (places(top.indices, n) - places(top_ref.indices, n))).sum((-1, -2))
    sent = (m * (x - x_ref)).sum(-1)
    size = (m * (x - x_ref)).abs().sum(-1) + g_places.abs().sum((-1, -2)) + (g_values.abs() * 3e3).sum(-1)
    moved = (x != x_ref).any(-1)
    assert ((sent - arrived).abs() <= 100 * n * n * EPS * size)[moved].all()


def test_values_by_rank_get_the_share_of_the_way_that_they_stood_there() -> None:
    """Two scores that cross half way: each is the larger one for half of it."""
    x, x_ref = torch.tensor([[1.0, 3.0]]), torch.tensor([[3.0, 1.0]])
    m = ranked(torch.tensor([[1.0]]), None, x, x_ref, torch.tensor([[1]]), torch.tensor([[0]]))
    assert m.tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize("seed", range(5))
def test_against_small_steps(seed: int) -> None:
    """The order in each of many small steps: its jumps go to the pair that crossed in that step."""
    n, k, parts = 6, 3, 20_000
    x, x_ref, g_values, g_places = drawn(seed, 1, n, k, 10_000)
    slow = torch.zeros(n, dtype=torch.float64)
    ways = torch.linspace(0, 1, parts + 1, dtype=torch.float64)
    points = x_ref + ways[:, None] * (x - x_ref)
    orders = points.argsort(-1, descending=True)
    middles = (points[1:] + points[:-1]) / 2
    slow.scatter_add_(0, middles.topk(k).indices.reshape(-1), (g_values / parts).expand(parts, k).reshape(-1))
    for step in (orders[1:] != orders[:-1]).any(-1).nonzero().squeeze(-1).tolist():
        before, after = orders[step, :k], orders[step + 1, :k]
        changed = (orders[step] != orders[step + 1]).nonzero().squeeze(-1)
        assert len(changed) == 2  # general position: one crossing a step
        falls, rises = orders[step, changed[0]], orders[step, changed[1]]
        jump = (g_places[0] * (places(after, n) - places(before, n))).sum()
        weight = jump / ((x - x_ref)[0, rises] - (x - x_ref)[0, falls])
        slow[rises] += weight
        slow[falls] -= weight
    m = ranked(g_values, g_places, x, x_ref, x.topk(k).indices, x_ref.topk(k).indices)[0]
    assert (m - slow).abs().max() <= 2 * k * n * n / parts * g_values.abs().max()


def test_a_score_that_never_comes_near_the_top_decides_nothing() -> None:
    x, x_ref = torch.tensor([[5.0, 4.0, 1.0, 0.5]]), torch.tensor([[4.0, 5.0, 0.5, 1.0]])
    m = ranked(None, torch.randn(1, 1, 4), x, x_ref, torch.tensor([[0]]), torch.tensor([[1]]))
    assert m[0, :2].abs().min() > 0 and m[0, 2:].tolist() == [0.0, 0.0]


def test_infinite_scores_stand_at_a_floor() -> None:
    """Routers mask whole groups of experts by −inf."""
    x, x_ref = torch.tensor([[1.0, -torch.inf, 0.5]]), torch.tensor([[1.0, 2.0, -torch.inf]])
    m = ranked(None, torch.ones(1, 1, 3).cumsum(-1), x, x_ref, torch.tensor([[0]]), torch.tensor([[1]]))
    assert torch.isfinite(m).all()
