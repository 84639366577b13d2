"""Tensors that a model makes on its way: complex ones are traced, sparse and nested ones refused in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tracer
from tests.rounding import of_delta
from tests.test_cli import call
from tests.test_refused import entries, one_line
from tests.wrong_numbers import METHODS, Inner, Method, attributed, made, tensors
from tracer.errors import ModelError, ObservationError, TracerError

# Nested and quantised tensors are announced as new, or as deprecated.
pytestmark = pytest.mark.filterwarnings("ignore")


def complex_product(h: Tensor) -> Tensor:
    """Rotary positions as Llama's authors wrote them: pairs as complex numbers, turned."""
    turn = torch.polar(torch.ones(3, dtype=h.dtype), torch.arange(3, dtype=h.dtype))
    return torch.view_as_real(torch.view_as_complex(h.reshape(len(h), 3, 2)) * turn).reshape(h.shape)


@pytest.mark.parametrize(
    "function", [complex_product, lambda h: torch.fft.fft(h).abs(), lambda h: torch.fft.rfft(h).real]
)
@pytest.mark.parametrize("method", METHODS)
def test_complex_numbers_inside_are_traced(function: Any, method: Method, tmp_path: Path) -> None:
    class Wide(Inner):
        def forward(self, x: Tensor) -> Tensor:
            return self.function(self.first(x))

    model = made(lambda: Wide(function), torch.float64)
    trace = attributed(model, *tensors(torch.float64), method, tmp_path / "t.dltrace")
    own = np.sum([node.self_leak for node in trace.nodes], axis=0)
    assert np.allclose(own, trace.delta, rtol=0, atol=1e-12)
    if method == "exact":
        assert np.abs(trace.delta).max() < 1e-9
    for arguments in (["report", "--json"], ["export", "--to", "safetensors"], ["export", "--to", "json"]):
        command, *options = arguments
        assert call(command, tmp_path / "t.dltrace", *options, *(["--force"] if command == "export" else [])) == 0


SPARSE = torch.eye(6).to_sparse()
INSIDE: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "sparse": (lambda h: h.to_sparse().to_dense(), r"is sparse or packed \(sparse_coo\)"),
    "nested": (lambda h: torch.nested.as_nested_tensor([*h]).to_padded_tensor(0.0), "is a nested tensor"),
}


@pytest.mark.parametrize("name", INSIDE)
def test_tensors_inside_that_lie_in_no_one_place_are_refused_with_the_line(name: str, tmp_path: Path) -> None:
    function, words = INSIDE[name]
    model = made(lambda: Inner(function))
    for number, run in enumerate(entries(model, *tensors()).values()):
        with pytest.raises(
            ModelError, match=rf"a tensor that the model makes at tests/test_tensors_inside\.py:\d+ .*{words}"
        ):
            run()
        path = tmp_path / f"{number}.dltrace"
    with pytest.raises(ModelError):
        tracer.record(model, *tensors(), target=1, method="captum", path=path)
    assert tracer.open_trace(path).run.status == "failed"


def test_a_sparse_constant_is_refused_where_rules_need_it() -> None:
    model = made(lambda: Inner(lambda h: torch.sparse.mm(SPARSE, h.T).T))
    for method in ("exact", "gradient"):
        with pytest.raises(ModelError, match="is sparse or packed"):
            attributed(model, *tensors(), method)  # type: ignore[arg-type]
    trace = attributed(model, *tensors(), "captum")
    assert (np.abs(trace.delta) <= of_delta(trace, 6)).all()


@pytest.mark.parametrize("method", ["exact", "gradient"])
@pytest.mark.parametrize(
    "function",
    [torch.vmap(torch.tanh), lambda h: torch.func.grad(lambda z: (z**3).sum())(h)],
    ids=["vmap", "grad"],
)
def test_transforms_of_torch_func_are_refused(function: Any, method: Method) -> None:
    with pytest.raises(TracerError, match=r"torch\.func") as caught:
        attributed(made(lambda: Inner(function)), *tensors(), method)
    one_line(caught.value)
    assert attributed(made(lambda: Inner(function)), *tensors(), "captum").run.status == "complete"


@pytest.mark.parametrize(
    "cut", [torch.Tensor.detach, lambda h: torch.quantize_per_tensor(h, 0.1, 0, torch.qint8).dequantize()]
)
def test_a_way_back_that_is_cut_is_said_in_words(cut: Any) -> None:
    with pytest.raises(ObservationError, match="no gradient leads from the output back to an input") as caught:
        attributed(made(lambda: Inner(cut)), *tensors(), "captum")
    one_line(caught.value)
