"""The faithfulness benchmark's metrics keep their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.benchmarks.faithfulness import (
    ERASER_SHARES,
    TENTHS,
    area,
    area_at,
    cosine,
    interval,
    masked,
    ranked,
    spearman,
)


def test_words_are_ranked_from_high_to_low_and_special_tokens_left_out() -> None:
    assert ranked(np.array([9.0, -3.0, 2.0, 0.0, 2.0, 9.0]), [True, False, False, False, False, True]) == [2, 4, 3, 1]


def test_each_row_masks_one_more_word_in_order() -> None:
    rows = masked(torch.tensor([101, 7, 8, 9, 102]), [3, 1, 2], 103)
    assert rows.tolist() == [
        [101, 7, 8, 9, 102],
        [101, 7, 8, 103, 102],
        [101, 103, 8, 103, 102],
        [101, 103, 103, 103, 102],
    ]


def test_area_counts_the_untouched_text() -> None:
    """Samek et al.: 1/(n + 1) of the sum over k = 0 to n, the drop at k = 0 being 0."""
    assert area(np.array([1.0, 2.0, 6.0])) == pytest.approx((0 + 1 + 2 + 6) / 4)


def test_area_at_shares_is_the_mean_drop_there() -> None:
    drops = np.arange(1.0, 11.0)  # masking k of ten words costs k
    assert area_at(drops, TENTHS) == pytest.approx((1 + 2 + 3 + 4 + 5) / 5)
    assert area_at(drops, ERASER_SHARES) == pytest.approx((1 + 1 + 1 + 2 + 5) / 5)


def test_shares_are_rounded_up_to_a_word_at_least() -> None:
    drops = np.array([1.0, 10.0, 100.0])
    assert area_at(drops, (0.1,)) == 1.0
    assert area_at(drops, (0.5,)) == 10.0
    assert area_at(drops, (1.0,)) == 100.0


def test_the_best_order_has_the_largest_area() -> None:
    """Where words add up, an order by their own weight is at least as comprehensive as any other."""
    weights = np.random.default_rng(0).normal(size=12)
    best = area(np.cumsum(weights[np.argsort(-weights)]))
    for seed in range(50):
        other = area(np.cumsum(np.random.default_rng(seed).permutation(weights)))
        assert best > other


def test_spearman_is_blind_to_scale_and_ranks_ties_alike() -> None:
    values = np.array([0.3, -1.0, 2.0, 0.7])
    assert spearman(values, np.exp(values)) == pytest.approx(1.0)
    assert spearman(values, -(values**3)) == pytest.approx(-1.0)
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: Pearson's correlation of these is 4.5 / √(4.5·5).
    assert spearman(np.array([1.0, 2.0, 2.0, 3.0]), np.arange(4.0)) == pytest.approx(np.sqrt(0.9))


def test_a_constant_has_no_direction() -> None:
    assert cosine(np.zeros(3), np.ones(3)) == 0.0
    assert spearman(np.ones(3), np.arange(3.0)) == 0.0


def test_interval_holds_the_mean_and_narrows_with_reviews() -> None:
    values = np.random.default_rng(1).normal(0.4, 0.2, 400)
    low, high = interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * 0.2 / np.sqrt(400), rel=0.2)
    few_low, few_high = interval(values[:25])
    assert few_high - few_low > 2 * (high - low)
