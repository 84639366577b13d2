"""Every differentiable operator of PyTorch's own database: none is silently wrong, and what is exact stays exact.

One sample of each here; `python -m tests.benchmarks.operators` takes more, and says why the others are not exact.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from tests.operators import REASONS, measure, name_of, operators, samples, worst
from tracer.exact.deeplift import DeepLift

warnings.filterwarnings("ignore", module="torch")
OPERATORS = {name_of(info): info for info in operators(torch.float64)}
SLOW = {"grid_sampler_3d", "nn.functional.ctc_loss", "max_pool2d_with_indices_backward"}
EXACT_AT_FIRST = {"svd", "linalg.svd", "linalg.eig", "lu_unpack", "grid_sampler_3d"}
"""Not exact at other samples than the first."""
MAY_BE_TOLD = set(REASONS) - EXACT_AT_FIRST | {"sparse.mm.reduce"}  # a sparse result


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(set(OPERATORS) - SLOW))
def test_an_operator_is_exact_or_says_that_it_is_not(name: str) -> None:
    found = worst(OPERATORS[name], torch.float64, 1)
    allowed = {"exact", "no reference"} | ({"told", "refused"} if name in MAY_BE_TOLD else set())
    assert found.found in allowed, found


def test_nineteen_of_twenty_are_exact() -> None:
    assert len(MAY_BE_TOLD & set(OPERATORS)) < len(OPERATORS) / 20


@pytest.mark.parametrize("name", ["mul", "cumsum", "scatter", "linalg.inv", "nn.functional.huber_loss"])
def test_a_wrong_rule_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The measure itself: multipliers that are a thousandth off are silent, not exact."""
    info = OPERATORS[name]
    right = DeepLift.evaluate

    def wrong(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = right(self, *args, **kwargs)
        for tensor in (*found.multipliers, *found.flows):
            tensor.mul_(1.001)
        return found

    monkeypatch.setattr(DeepLift, "evaluate", wrong)
    (sample,) = samples(info, torch.float64, 1)
    assert measure(info, sample, torch.float64, True).found in ("silent", "told")
