"""Severity, divergences and the worst call, against slow definitions."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tests.tui.builders import figures
from tracer.analysis.severity import Severity


def test_severity_follows_the_share_and_the_worst_is_the_largest() -> None:
    found = figures([-1, 0, 0, 0, 0], [0.0, -770.0, 20.0, 0.001, math.nan])
    assert list(found.severity) == [
        Severity.QUIET,
        Severity.LARGE,
        Severity.DIVERGING,
        Severity.QUIET,
        Severity.NONFINITE,
    ]
    assert list(found.diverging) == [1, 2, 4]
    assert found.worst == 4, "what is not a number is worse than any number"


def test_rounding_noise_of_a_run_that_closes_is_no_divergence() -> None:
    found = figures([-1, 0, 0], [0.0, 2e-7, -1e-7], change=2.5)
    assert not len(found.diverging)
    assert figures([-1, 0, 0], [0.0, 2e-2, -1e-7], change=2.5).diverging.tolist() == [1]


def test_the_largest_of_many_small_leaks_diverges() -> None:
    leaks = [0.0] + [1.0 + 0.001 * place for place in range(300)]
    found = figures([-1] + [0] * 300, leaks)
    assert found.diverging.tolist() == [300]


def test_nothing_to_rate() -> None:
    assert len(figures([], [])) == 0
    zero = figures([-1], [0.0], change=0.0)
    assert zero.worst == 0 and not len(zero.diverging)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.0, 1.0, 30.0, 900.0, math.nan])), max_size=20))
def test_a_subtree_is_as_severe_as_its_worst_call(steps: list[tuple[int, float]]) -> None:
    parents, leaks = [-1], [0.0]
    for back, leak in steps:  # a new call hangs on the last one or on one of its ancestors: that is preorder
        parent = len(parents) - 1
        for _ in range(back):
            parent = max(parents[parent], 0)
        parents.append(parent)
        leaks.append(leak)
    found = figures(parents, leaks)
    for call in range(len(parents)):
        assert found.subtree_severity[call] == found.severity[call : found.end[call]].max()
