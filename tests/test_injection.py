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


class Steep(nn.Module):
    """h + gelu(h), the first element of the GELU 1e5 times as large."""

    def forward(self, x: Tensor) -> Tensor:
        h = 2 * x
        return (h + F.gelu(h) * torch.tensor([1e5, 1, 1, 1])).cumsum(1)


def judged(model: nn.Module, x: Tensor, reference: Tensor) -> str:
    """What is said of the only lost path that there can be."""
    small = explored(Subject("small", model.eval(), x, reference, 3 if isinstance(model, Steep) else 1))
    (gelu,) = small.calls
    assert gelu.shared == (True,)
    verdict, without = injected("lost path", [small], random.Random(0), "summary")
    assert (verdict.right_call, verdict.right_kind, without) == (True, True, 0), verdict.said
    return verdict.said


def test_the_lost_path_of_a_view_is_named() -> None:
    """A view has a gradient of its own, and may lose a part of it, by whoever's hook."""
    torch.manual_seed(0)
    assert judged(Skipped(), torch.randn(2, 4), torch.randn(2, 4)) == "lost-path at first/lost path #0"


def test_a_lost_path_beside_large_multipliers_is_named() -> None:
    """What is lost is 1e-5 of the gradient, but all that flows past the GELU: the rest lies where x is x'."""
    torch.manual_seed(0)
    x, reference = torch.randn(2, 4), torch.randn(2, 4)
    reference[:, 0] = x[:, 0]
    assert judged(Steep(), x, reference) == "lost-path at /mul/lost path #0"


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


class Largest(nn.Module):
    """The sum of v * x over the largest two elements of x."""

    def forward(self, x: Tensor) -> Tensor:
        return (torch.arange(4.0) * x).gather(1, x.topk(2).indices).sum(1, keepdim=True)


def test_a_leak_of_a_call_that_decides_is_named() -> None:
    """That a good part of the change went through its choice does not explain what it leaks."""
    small = explored(Subject("small", Largest(), torch.tensor([[1.0, 4, 2, 3]]), torch.tensor([[4.0, 1, 3, 2]]), 0))
    (topk,) = small.calls
    assert [finding.kind for finding in tracer.diagnose(small.record())] == ["decided"]
    with tampering.rewritten(topk.number, tampering.scaled(0.5)):
        first, *_rest = tracer.diagnose(small.record())
    assert (first.kind, first.path) == ("unconserving-rule", "/topk")
