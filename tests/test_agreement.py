"""Agreement of rankings: against its definition, and at its edges."""

from __future__ import annotations

import math

import pytest

from tracer.analysis.agreement import cosine, spearman


def test_cosine_is_the_normalised_inner_product() -> None:
    assert cosine([3, 4], [4, 3]) == pytest.approx(24 / 25)
    assert cosine([1, 2], [-2, -4]) == pytest.approx(-1)
    assert math.isnan(cosine([0, 0], [1, 2]))
    assert math.isnan(cosine([math.inf, 0], [1, 2]))


def test_spearman_sees_order_and_nothing_else() -> None:
    assert spearman([1, 2, 3, 4], [10, 20, 30, 4000]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    # the textbook formula without ties: 1 − 6 Σ d² / (n (n² − 1)), d = (1, −1, 1, −1)
    assert spearman([1, 2, 3, 4], [2, 1, 4, 3]) == pytest.approx(1 - 6 * 4 / (4 * 15))


def test_spearman_gives_ties_their_mean_rank() -> None:
    # ranks (1.5, 1.5, 3) and (1, 2, 3), about their means: (−.5, −.5, 1)·(−1, 0, 1) / √(1.5 · 2)
    assert spearman([5, 5, 9], [1, 2, 3]) == pytest.approx(1.5 / math.sqrt(3))
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))
