"""Inputs whose rows are not examples: one delta for one output, or a word that they are coupled."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import tracer
from tests.rules.pairs import Model
from tracer.errors import InputError

EPS = torch.finfo(torch.float64).eps
ONE_NUMBER: dict[str, Callable[[Tensor], Tensor]] = {
    "a stack of slices": lambda x: torch.tanh(x).sum(dim=(0, 1), keepdim=True),
    "a graph pooled to one row": lambda x: (torch.tanh(x @ torch.ones(2, 2).double()).mean(0, keepdim=True) ** 2)[
        :, :1
    ],
    "no axis at all": lambda x: (x * x).sum(),
    "one axis": lambda x: torch.softmax(x.reshape(-1), 0)[:1],
}


def drawn(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).double(), torch.randn(shape, generator=generator).double()


@pytest.mark.parametrize("name", ONE_NUMBER)
def test_one_output_has_one_delta(name: str) -> None:
    x, x_ref = drawn(3, 2)
    lift = tracer.DeepLift(Model(ONE_NUMBER[name]))
    attributions, delta = lift.attribute(x, x_ref, return_convergence_delta=True)
    assert attributions.shape == x.shape and delta.shape == (1,) and lift.outputs is not None
    assert lift.outputs[0].shape == (1,)
    assert float(delta.abs()) <= 100 * EPS * float(attributions.abs().sum() + lift.outputs[0].abs().sum())
    assert lift.notes == ()


@pytest.mark.parametrize("name", ONE_NUMBER)
def test_a_trace_of_one_output_is_of_one_example(name: str) -> None:
    x, x_ref = drawn(3, 2)
    model = Model(ONE_NUMBER[name])
    with tracer.record(model, x, x_ref, method="exact") as trace:
        assert trace.run.examples == 1
        assert trace.run.output.tolist() == [float(model(x))]
        # The whole flow of the inputs stands in the one example: nothing is padded.
        flow = sum(edge.flow for edge in trace.edges(0) if edge.direction == "in")
        assert float(flow[0]) == pytest.approx(float(model(x) - model(x_ref)), abs=1e-12)
        assert all(node.self_leak.shape == (1,) and abs(node.self_leak[0]) < 1e-12 for node in trace.nodes)
        assert tracer.diagnose(trace) == ()


def test_a_vector_without_a_batch_is_one_example() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 1), nn.Sigmoid()), torch.randn(3)
    with tracer.record(model, x, method="exact") as trace:
        assert trace.run.output.tolist() == [pytest.approx(float(model(x)))]
        assert tracer.diagnose(trace) == ()


@pytest.mark.parametrize("function", [lambda x: x.repeat(2, 1)[:, 0], lambda x: x[:2, 0], lambda x: x.reshape(-1)])
def test_another_number_of_rows_is_refused(function: Callable[[Tensor], Tensor]) -> None:
    x, x_ref = drawn(3, 2)
    with pytest.raises(InputError, match=r"the output has \d rows for 3 rows of the input.*x\[None\]"):
        tracer.DeepLift(Model(function)).attribute(x, x_ref)


def test_rows_that_reach_one_another_are_noted() -> None:
    x, x_ref = drawn(4, 2)
    near = torch.eye(4).double().roll(1, 0) + torch.eye(4).double()
    lift = tracer.DeepLift(Model(lambda t: torch.tanh(near @ t).sum(1)))
    _attributions, delta = lift.attribute(x, x_ref, return_convergence_delta=True)
    assert [note.kind for note in lift.notes] == ["coupled examples"]
    assert lift.notes[0].amount == pytest.approx(float(delta.abs().max()))
    assert float(delta.abs().max()) > 0.1 and abs(float(delta.sum())) < 1e-12


def test_what_is_not_exact_is_not_taken_for_coupling() -> None:
    x, x_ref = drawn(4, 3)
    lift = tracer.DeepLift(Model(lambda t: torch.special.erfcx(t).sum(1) + t.exp().detach().sum(1)))
    _attributions, delta = lift.attribute(x, x_ref, return_convergence_delta=True)
    assert float(delta.abs().max()) > 1e-3
    assert "coupled examples" not in [note.kind for note in lift.notes]


def test_layers_of_one_output_have_one_contribution() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Flatten(0), nn.Linear(9, 1)).double()
    x, x_ref = drawn(3, 2)
    found = tracer.DeepLift(model).layer_contributions(x, x_ref)
    change = float(model(x) - model(x_ref))
    assert {path: [float(total) for total in calls] for path, calls in found.items()} == {
        path: [pytest.approx(change)] for path in ("", "0", "1", "2", "3")
    }


def test_of_several_outputs_the_explained_one_is_noted() -> None:
    x, x_ref = drawn(2, 3)
    lift = tracer.DeepLift(Model(lambda t: (t.tanh(), t.sum(1, keepdim=True))))
    lift.attribute(x, x_ref, target=0)
    assert [(note.kind, note.op) for note in lift.notes] == [("non-tensor output", "tuple, its first tensor")]
    with tracer.record(
        Model(lambda t: (t.tanh(), t.sum(1, keepdim=True))), x, x_ref, target=0, method="exact"
    ) as trace:
        assert [note.kind for note in trace.notes] == ["non-tensor output"]
