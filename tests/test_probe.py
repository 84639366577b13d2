"""After a recording the last example of the batch is attributed again, alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from captum.attr import DeepLift
from torch import nn

import tracer
from tests.diagnose.run_models import Functional, Net, made, pair


class Softmaxed(Net):
    def __init__(self) -> None:
        super().__init__()
        self.act2 = nn.Softmax(-1)  # type: ignore[assignment]


def coupled(trace: Any) -> list[float]:
    return [note.amount for note in trace.notes if note.kind == "batch coupled"]


@pytest.mark.filterwarnings("ignore:.*Setting forward, backward hooks.*", "ignore:.*required_grads.*")
def test_the_last_example_is_compared_with_itself_alone() -> None:
    """Not the first, whose gradient captum's max-pool rule gives to all."""
    model, (x, reference) = made(Softmaxed()), pair()
    together = DeepLift(model).attribute(x, reference, target=[0, 1, 2])[-1:].detach()
    alone = DeepLift(model).attribute(x[-1:], reference[-1:], target=2).detach()
    expected = float((together - alone).abs().max() / together.abs().max())
    (amount,) = coupled(tracer.record(model, x, reference, target=[0, 1, 2]))
    assert amount == pytest.approx(expected, rel=1e-9)
    assert amount > 1e-3


def test_nothing_is_asked_where_nothing_can_couple() -> None:
    x, reference = pair()
    calls = []
    model = made(Net())
    model.register_forward_hook(lambda *_: calls.append(1))
    assert coupled(tracer.record(model, x, reference, target=0)) == []
    assert len(calls) == 3  # the attribution, and two for captum's delta
    assert coupled(tracer.record(made(Softmaxed()), x[:1], reference[:1], target=0)) == []
    assert coupled(tracer.record(made(Softmaxed()), x, reference, target=0, method="exact")) == []


def test_captums_pool_gives_the_first_examples_gradient_to_the_last_one() -> None:
    model = nn.Sequential(
        nn.Linear(2, 2), nn.Unflatten(1, (1, 2)), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(1, 2)
    ).double()  # fmt: skip
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0]]))  # type: ignore[operator]
        model[0].bias.copy_(torch.tensor([0.0, -100.0]))  # type: ignore[operator]
        model[4].weight.copy_(torch.tensor([[1.0], [3.0]]))  # type: ignore[operator]
    x = torch.tensor([[3.0, 1.0], [5.0, 2.0]], dtype=torch.float64)
    reference = torch.tensor([[0.0, 0.0], [4.0, 1.0]], dtype=torch.float64)  # the second is pooled to the same value
    trace = tracer.record(model, x, reference, target=[0, 1])
    assert trace.attributions[0][1].tolist() == [1.0, -1.0]  # alone it would be [3, -3]
    assert coupled(trace) == [2.0]
    assert abs(trace.delta).max() == 0
    assert coupled(tracer.record(model, x.flip(0), reference.flip(0), target=[1, 0])) == [0.0]


@pytest.mark.filterwarnings("ignore:the model is in training mode")
def test_the_probe_leaves_the_model_and_the_random_numbers_as_they_were() -> None:
    model: Any = made(Softmaxed())
    model.norm = nn.BatchNorm1d(4).double()
    model.first = nn.Sequential(model.first, model.norm)
    model.train()
    x, reference = pair()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.random.get_rng_state()
    (amount,) = coupled(tracer.record(model, x, reference, target=0))
    assert amount > 1e-3
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not any({"input", "output"} & vars(module).keys() for module in model.modules())


@pytest.mark.filterwarnings("ignore:the model is in training mode")
def test_dropout_would_make_the_comparison_meaningless() -> None:
    model: Any = made(Softmaxed())
    model.act = nn.Dropout(0.5)
    assert coupled(tracer.record(model.train(), *pair(), target=0)) == []
    functional: Any = made(Functional())
    functional.act = nn.Softmax(-1)
    assert coupled(tracer.record(functional, *pair(), target=0)) == []
    functional.drops = False
    assert len(coupled(tracer.record(functional, *pair(), target=0))) == 1


def test_a_model_that_needs_its_batch_size_is_recorded_too() -> None:
    class Bound(Softmaxed):
        def forward(self, x: torch.Tensor) -> Any:
            h = super().forward(x)
            assert x.shape[0] in (3, 6)
            return h

    model = made(Bound())
    trace = tracer.record(model, *pair(), target=0)
    assert trace.run.status == "complete"
    assert coupled(trace) == []
    assert not any({"input", "output"} & vars(module).keys() for module in model.modules())


@pytest.mark.filterwarnings("ignore:.*Setting forward, backward hooks.*", "ignore:.*required_grads.*")
def test_a_recording_takes_the_random_numbers_that_captum_takes() -> None:
    class Noisy(Softmaxed):
        def forward(self, x: torch.Tensor) -> Any:
            return super().forward(x + 0 * torch.randn_like(x))

    model, (x, reference) = made(Noisy()), pair()
    torch.manual_seed(0)
    DeepLift(model).attribute(x, reference, target=0, return_convergence_delta=True)
    expected = torch.random.get_rng_state()
    torch.manual_seed(0)
    assert len(coupled(tracer.record(model, x, reference, target=0))) == 1
    assert torch.equal(torch.random.get_rng_state(), expected)


def test_only_extras_with_a_row_for_each_example_are_cut() -> None:
    class Extra(Softmaxed):
        def forward(self, x: torch.Tensor, rows: Any, all_: Any, table: Any) -> Any:  # type: ignore[override]
            assert rows.shape[0] == x.shape[0]
            assert table.shape[0] % 5 == 0
            assert all_ == [1, 2, 3]
            return super().forward(x * rows)

    x, reference = pair()
    rows = torch.rand(3, 1, dtype=torch.float64)
    trace = tracer.record(
        made(Extra()), x, reference, target=0, additional_forward_args=(rows, [1, 2, 3], torch.ones(5))
    )
    assert len(coupled(trace)) == 1
