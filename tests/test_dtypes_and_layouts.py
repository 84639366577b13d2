"""Precisions, mixed ones, layouts in memory, gradients asked for or not, tensors without elements: same figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tracer
from tests.wrong_numbers import METHODS, Inner, Method, attributed, made, quiet, tensors
from tracer.diagnosis.gathering import gather
from tracer.tracefile.trace import Trace

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Mixed(nn.Module):
    """A norm, captum's rules and exact ones, a product, a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.relu, self.last = nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.first(x))
        return self.last(self.relu(h) + F.gelu(h) * torch.sigmoid(h)).softmax(-1)


class Steps(nn.Module):
    """A layer in bfloat16, one in float64, conversions between."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Linear(4, 6).bfloat16(), nn.Linear(6, 3).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.wide(F.gelu(self.narrow(x.bfloat16())).double())


class Autocast(nn.Module):
    """Opens autocast itself, as models trained with it do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Mixed()

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.inner(x).float()


def rounding(trace: Trace) -> float:
    """What precision may cost: Σ eps·‖m‖·(‖x‖ + ‖x'‖) over all edges, eps that of each tensor's own dtype."""
    return float(gather(trace).rounding.sum())


def self_leak(trace: Trace) -> Any:
    return np.sum([node.self_leak for node in trace.nodes], axis=0)


# --- precisions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
def test_traces_close_to_the_rounding_of_their_dtype(dtype: torch.dtype, method: Method) -> None:
    x, ref = tensors(dtype)
    with quiet():
        trace = attributed(made(Mixed, dtype), x, ref, method)
    assert np.abs(self_leak(trace) - trace.delta).max() <= rounding(trace)
    if method == "exact":
        assert np.abs(trace.delta).max() <= rounding(trace) <= 300 * torch.finfo(dtype).eps
        assert tracer.diagnose(trace) == ()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
def test_tensors_come_back_in_their_dtype_and_statistics_describe_them(dtype: torch.dtype, method: Method) -> None:
    x, ref = tensors(dtype)
    trace = attributed(made(Mixed, dtype), x, ref, method)
    name = str(dtype).removeprefix("torch.")
    held = np.dtype("float32" if name == "bfloat16" else name)  # numpy has no bfloat16
    for node in trace.nodes:
        for edge in trace.edges(node):
            side = "input" if edge.direction == "in" else "output"
            kept = trace.tensor(node, side, edge.slot)  # type: ignore[arg-type]
            figures = edge.value_statistics
            assert (edge.dtype, kept.dtype, kept.shape) == (name, held, edge.shape)
            assert figures is not None and figures.nonfinite == 0 and figures.count == kept.size
            wide = kept.astype(np.float64)
            assert figures.norm == pytest.approx(float(np.linalg.norm(wide)), rel=1e-6)
            assert (figures.minimum, figures.maximum) == (wide.min(), wide.max())
            assert figures.mean == pytest.approx(float(wide.mean()), rel=1e-5, abs=1e-7)
    model = trace.nodes[0]
    assert np.array_equal(trace.tensor(model, "input"), x.double().numpy().astype(held))
    assert np.array_equal(trace.tensor(model, "reference"), ref.double().numpy().astype(held))


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_attribution_has_its_inputs_dtype(dtype: torch.dtype) -> None:
    x, ref = tensors(dtype)
    found, delta = tracer.DeepLift(made(Mixed, dtype)).attribute(x, ref, target=1, return_convergence_delta=True)
    assert found.dtype == delta.dtype == dtype and found.shape == x.shape
    wide = tracer.DeepLift(made(Mixed, dtype).double()).attribute(x.double(), ref.double(), target=1)
    assert torch.allclose(found.double(), wide, rtol=0, atol=100 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("make", [Steps, Autocast])
@pytest.mark.parametrize("method", METHODS)
def test_models_of_several_precisions_are_traced(make: Callable[[], nn.Module], method: Method) -> None:
    x, ref = tensors()
    with quiet():
        trace = attributed(make().eval(), x, ref, method)
    assert {edge.dtype for node in trace.nodes for edge in trace.edges(node)} >= {"float32", "bfloat16"}
    assert np.abs(self_leak(trace) - trace.delta).max() <= rounding(trace)
    if method == "exact":
        assert np.abs(trace.delta).max() <= rounding(trace)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", METHODS)
def test_autocast_around_the_call_is_followed(dtype: torch.dtype, method: Method) -> None:
    x, ref = tensors()
    with torch.autocast("cpu", dtype=dtype), quiet():
        trace = attributed(made(Mixed), x, ref, method)
    dtypes = {node.path: {edge.dtype for edge in trace.edges(node)} for node in trace.nodes}
    assert dtypes["first"] == {"float32", str(dtype).removeprefix("torch.")}
    assert np.abs(self_leak(trace) - trace.delta).max() <= rounding(trace)
    if method == "exact":
        assert np.abs(trace.delta).max() <= rounding(trace)


# --- layouts in memory ----------------------------------------------------------------------------------------------


def layouts() -> dict[str, Tensor]:
    torch.manual_seed(5)

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64)

    return {
        "transposed": some(4, 2).T,
        "strided": some(4, 8)[::2, ::2],
        "expanded rows": some(1, 4).expand(2, 4),
        "expanded columns": some(2, 1).expand(2, 4),
        "one number": torch.tensor(0.5, dtype=torch.float64).expand(2, 4),
        "an offset": some(20)[3:11].view(2, 4),
        "negated": torch.view_as_complex(some(2, 4, 2)).conj().imag,
    }


@pytest.mark.parametrize("name", layouts())
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("side", ["input", "reference", "both"])
def test_a_layout_in_memory_changes_nothing_but_rounding(name: str, method: Method, side: str) -> None:
    """Products and sums run in the order of the memory: float64 differs in its last digits."""
    odd, (x, ref) = layouts()[name], tensors(torch.float64)
    model, atol = made(Mixed, torch.float64), 2e-15
    given = {"input": (odd, ref), "reference": (x, odd), "both": (odd, -odd)}[side]
    rows = tuple(tensor.clone(memory_format=torch.contiguous_format) for tensor in given)
    with quiet():
        trace, plain = attributed(model, *given, method), attributed(model, *rows, method)
    assert np.allclose(trace.attributions[0], plain.attributions[0], rtol=0, atol=atol)
    assert np.allclose(trace.delta, plain.delta, rtol=0, atol=atol)
    for one, other in zip(trace.nodes, plain.nodes, strict=True):
        assert np.allclose(one.self_leak, other.self_leak, rtol=0, atol=atol)
    assert np.array_equal(trace.tensor(trace.nodes[0], "input"), rows[0].numpy())
    assert np.array_equal(trace.tensor(trace.nodes[0], "reference"), rows[1].numpy())
    assert all(torch.equal(tensor, row) for tensor, row in zip(given, rows, strict=True))
    lift = tracer.DeepLift(model)
    assert torch.allclose(lift.attribute(*given, target=1), lift.attribute(*rows, target=1), rtol=0, atol=atol)


# --- gradients asked for or not -------------------------------------------------------------------------------------


def as_leaf(x: Tensor) -> Tensor:
    return x.clone().requires_grad_()


def as_result(x: Tensor) -> Tensor:
    return x.clone().requires_grad_() * 1.0


def as_parameter(x: Tensor) -> Tensor:
    return nn.Parameter(x.clone())


@pytest.mark.parametrize("method", ["captum", "exact", "gradient"])
@pytest.mark.parametrize("kind", [as_leaf, as_result, as_parameter])
def test_inputs_and_references_are_taken_as_values(kind: Callable[[Tensor], Tensor], method: Method) -> None:
    (x, ref), model = tensors(), made(Mixed)
    expected = attributed(model, x, ref, method)
    given = kind(x), kind(ref)
    trace = attributed(model, *given, method)
    assert np.array_equal(trace.attributions[0], expected.attributions[0])
    assert np.array_equal(trace.delta, expected.delta)
    assert all(tensor.requires_grad for tensor in given)
    assert all(tensor.grad is None for tensor in given if tensor.is_leaf)
    direct = tracer.DeepLift(model).attribute(*given, target=1)
    assert not direct.requires_grad and torch.equal(direct, tracer.DeepLift(model).attribute(x, ref, target=1))


@pytest.mark.parametrize("frozen", ["all", "some", "none"])
@pytest.mark.parametrize("method", METHODS)
def test_frozen_parameters_change_nothing(frozen: str, method: Method) -> None:
    (x, ref), model = tensors(), made(Mixed)
    expected = attributed(model, x, ref, method)
    for number, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(frozen == "none" or (frozen == "some" and number % 2 == 0))
    before = [parameter.requires_grad for parameter in model.parameters()]
    trace = attributed(model, x, ref, method)
    assert np.array_equal(trace.attributions[0], expected.attributions[0])
    assert [(n.path, n.self_leak.tolist()) for n in trace.nodes] == [
        (n.path, n.self_leak.tolist()) for n in expected.nodes
    ]
    assert [parameter.requires_grad for parameter in model.parameters()] == before
    assert all(parameter.grad is None for parameter in model.parameters())


class Two(nn.Module):
    """A product of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Mixed()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        out: Tensor = self.inner(a * b)
        return out


@pytest.mark.parametrize("method", ["captum", "exact", "gradient"])
@pytest.mark.parametrize("other", ["the same", "a view", "another view", "the reference"])
def test_inputs_may_share_their_memory(method: Method, other: str) -> None:
    (x, ref), model = tensors(), made(Two)
    shared = {"the same": x, "a view": x[:, :], "another view": x.flip(0).flip(0), "the reference": ref}[other]
    inputs, references = (x, shared), (ref, x if other == "the reference" else ref)
    trace = tracer.record(model, inputs, references, target=1, method=method)  # type: ignore[arg-type]
    apart = [tuple(tensor.clone() for tensor in side) for side in (inputs, references)]
    plain = tracer.record(model, *apart, target=1, method=method)  # type: ignore[arg-type]
    for one, two in zip(trace.attributions, plain.attributions, strict=True):
        assert np.array_equal(one, two)
    assert np.array_equal(self_leak(trace), self_leak(plain))


# --- tensors without elements or axes -------------------------------------------------------------------------------


def zero_keys(h: Tensor) -> Tensor:
    queries = h[:, None, None]
    keys = queries[:, :, :0]
    return h * h + F.scaled_dot_product_attention(queries, keys, keys).nan_to_num(0.0)[:, 0, 0]


EMPTY: dict[str, Callable[[Tensor], Tensor]] = {
    "slice": lambda h: torch.cat([h[:, :0], h], 1),
    "cat of products": lambda h: torch.cat([h[:, :0] * h[:, :0].tanh(), h * h], 1),
    "examples": lambda h: torch.cat([h[:0].tanh(), h.tanh()]),
    "linear": lambda h: h * h + F.linear(h[:, :0], torch.ones(6, 0, dtype=h.dtype)),
    "matmul": lambda h: h * h + h[:, :0] @ h[:, :0].T @ h,
    "softmax": lambda h: h * h + h[:, :0].softmax(-1).sum(),
    "log_softmax": lambda h: h * h + h[:, :0].log_softmax(0).sum(),
    "max": lambda h: h * h + h[:, :0].amax(0).sum(),
    "max pool": lambda h: h * h + F.max_pool1d(h[:0, None], 2).sum(),
    "group norm": lambda h: h * h + F.group_norm(h[:0, :, None], 2).sum(),
    "norm": lambda h: h * h + h[:, :0].norm(dim=1, keepdim=True),
    "product": lambda h: h * h + h[:, :0].prod(1, keepdim=True),
    "unknown op": lambda h: h * h + torch.special.erfcx(h[:, :0]).sum(),
    "attention": zero_keys,
}


@pytest.mark.parametrize("name", EMPTY)
@pytest.mark.parametrize("method", METHODS)
def test_tensors_without_elements_change_nothing(name: str, method: Method) -> None:
    x, ref = tensors(torch.float64)
    with quiet():
        trace = attributed(made(lambda: Inner(EMPTY[name]), torch.float64), x, ref, method)
    assert np.allclose(self_leak(trace), trace.delta, rtol=0, atol=1e-12)
    if method == "exact":
        assert np.abs(trace.delta).max() < 1e-12
    for node in trace.nodes:
        for edge in trace.edges(node):
            kept = trace.tensor(node, "input" if edge.direction == "in" else "output", edge.slot)
            assert kept.shape == edge.shape


@pytest.mark.parametrize("method", METHODS)
def test_an_input_without_elements_has_attributions_without_elements(method: Method) -> None:
    model = made(lambda: nn.Sequential(nn.Linear(0, 6), nn.ReLU(), nn.Linear(6, 3)))
    trace = attributed(model, torch.ones(2, 0), torch.zeros(2, 0), method)
    assert trace.attributions[0].shape == (2, 0) and not trace.delta.any()
    found, delta = tracer.DeepLift(model).attribute(torch.ones(2, 0), target=1, return_convergence_delta=True)
    assert found.shape == (2, 0) and not delta.any()


@pytest.mark.parametrize(
    "function", [lambda h: h * h.sum().tanh(), lambda h: h * h[0, 0].exp(), lambda h: h * 2.5 + torch.tensor(3.0)]
)
@pytest.mark.parametrize("method", METHODS)
def test_numbers_without_axes_are_traced(function: Any, method: Method) -> None:
    x, ref = tensors(torch.float64, examples=1)
    model = made(lambda: Inner(function), torch.float64)
    trace = attributed(model, x, ref, method)
    assert np.isfinite(self_leak(trace)).all()
    if method in ("exact", "gradient"):  # captum lets the two halves of its batch meet in such a number
        assert np.allclose(self_leak(trace), trace.delta, rtol=0, atol=1e-12)
    if method == "exact":
        assert np.abs(trace.delta).max() < 1e-12
