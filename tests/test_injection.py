"""A few faults injected into one exact model: `diagnose` names each. `tests.benchmarks.injection` does it at length."""

from __future__ import annotations

import random
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tracer
from tests.injection import tampering
from tests.injection.faults import FAULTS
from tests.injection.judging import LEAST, effect, injected
from tests.injection.subject import Subject, explored, subject

warnings.filterwarnings("ignore")


@pytest.fixture(scope="module")
def bert() -> Subject:
    return explored(subject("BERT", "eager", torch.float32))


def test_untampered_it_shows_nothing(bert: Subject) -> None:
    trace = bert.record()
    assert tracer.diagnose(trace) == ()
    assert effect(trace) < 0.1 * LEAST


@pytest.mark.parametrize("fault", FAULTS)
def test_the_culprit_is_named_first(bert: Subject, fault: str) -> None:
    verdict, _without = injected(fault, [bert], random.Random(0), "summary")
    assert verdict.share >= LEAST
    assert (verdict.right_call, verdict.right_kind) == (True, True), verdict.said


class Skipped(nn.Module):
    """v + gelu(v) for a view v."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        view = self.first(x).view(-1, 2, 3)
        out: Tensor = self.last((view + F.gelu(view)).flatten(1))
        return out


def test_the_lost_path_of_a_view_is_named() -> None:
    """A view has a gradient of its own, and may lose a part of it, by whoever's hook."""
    torch.manual_seed(0)
    small = explored(Subject("view", Skipped().eval(), torch.randn(2, 4), torch.randn(2, 4), 1))
    (gelu,) = small.calls
    assert gelu.shared == (True,)
    verdict, without = injected("lost path", [small], random.Random(0), "summary")
    assert (verdict.right_call, verdict.right_kind, without) == (True, True, 0), verdict.said
    assert verdict.said == "lost-path at first/lost path #0"


def test_every_call_is_found_and_is_the_one_tampered_with(bert: Subject) -> None:
    """Each number is a call of its own, and only that call leaks."""
    assert len({call.number for call in bert.calls}) == len({(call.path, call.call) for call in bert.calls}) == 14
    for call in bert.calls[::3]:
        with tampering.rewritten(call.number, tampering.scaled(1.5)):
            trace = bert.record()
        worst = max(trace.nodes, key=lambda node: abs(float(node.self_leak.sum())))
        assert (worst.path, worst.call) == (call.path, call.call)


def test_afterwards_the_rules_are_exact_again(bert: Subject) -> None:
    before = bert.record().delta
    for fault in FAULTS.values():
        injection = fault(bert, random.Random(1))
        assert injection is not None
        injection.run()
    assert (bert.record().delta == before).all()
