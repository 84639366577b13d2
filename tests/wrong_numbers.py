"""Runs whose numbers go wrong: a name, the model with its input and reference, and the call to blame."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from captum.attr import DeepLift
from torch import Tensor, nn

import tracer
from tests.models import Plain
from tracer.tracefile.trace import Trace

INF, NAN = float("inf"), float("nan")
Method = Literal["watch", "captum", "exact", "gradient"]
METHODS: tuple[Method, ...] = ("watch", "captum", "exact", "gradient")


class Inner(Plain):
    """`Plain` with any function in the place of its ReLU."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.function(self.first(x)))


class Holds(nn.Module):
    """A module inside a module, behind a layer."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.first, self.inner = nn.Linear(4, 4), inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(self.first(x))
        return out


def tensors(dtype: torch.dtype = torch.float32, examples: int = 2) -> tuple[Tensor, Tensor]:
    """An input and a reference, always the same ones."""
    torch.manual_seed(7)
    return torch.randn(examples, 4).to(dtype), torch.randn(examples, 4).to(dtype)


def made(model: Callable[[], nn.Module], dtype: torch.dtype = torch.float32) -> nn.Module:
    """The model in eval mode, always with the same weights."""
    torch.manual_seed(1)
    return model().eval().to(dtype)


def put(tensor: Tensor, value: float) -> Tensor:
    """A copy with `value` in the first example."""
    changed = tensor.clone()
    changed[0, 1] = value
    return changed


def weighted(value: float) -> nn.Module:
    """`Plain` with `value` among the first weights."""
    model = made(Plain)
    with torch.no_grad():
        model.first.weight[0, 0] = value  # type: ignore[union-attr,index]
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Warnings are errors, but for those that captum gives at every call."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module=r"captum\..*")
        yield


def attributed(
    model: nn.Module, x: Any, reference: Any, method: Method, path: Path | None = None, **options: Any
) -> Trace:
    """The trace of one attribution to output 1, by one of the entry points."""
    if method != "watch":
        return tracer.record(model, x, reference, target=1, method=method, path=path, **options)
    with tracer.watch(model, path, **options) as watching:
        DeepLift(model).attribute(x, reference, target=1)
    return watching.trace


def spoilt() -> dict[str, tuple[nn.Module, Tensor, Tensor, str]]:
    """By name: the model, its input, its reference, and the path of the call that a finding must name."""
    x, ref = tensors()
    half, half_ref = tensors(torch.float16)
    mask = torch.full((6,), -INF)
    return {
        "NaN in the input": (made(Plain), put(x, NAN), ref, ""),
        "inf in the input": (made(Plain), put(x, INF), ref, ""),
        "-inf in the input": (made(Plain), put(x, -INF), ref, ""),
        "NaN in the reference": (made(Plain), x, put(ref, NAN), ""),
        "inf in the reference": (made(Plain), x, put(ref, INF), ""),
        "the same inf in both": (made(Plain), put(x, INF), put(ref, INF), ""),
        "NaN in the weights": (weighted(NAN), x, ref, "first"),
        "inf in the weights": (weighted(INF), x, ref, "first"),
        "a logarithm below 0": (made(lambda: Inner(torch.log)), x, ref, "/log"),
        "a division by 0": (made(lambda: Inner(lambda h: 1 / torch.relu(h))), x, ref, "/rdiv"),
        "0 divided by 0": (made(lambda: Inner(lambda h: h * 0 / (h * 0))), x, ref, "/div"),
        "infinities that cancel": (
            made(lambda: Inner(lambda h: 1 / torch.relu(h) - 2 / torch.relu(h))), x, ref, "/rdiv"
        ),
        "an overflow of exp": (made(lambda: Inner(lambda h: (h * 200).exp())), x, ref, "/exp"),
        "an overflow of float16": (
            made(lambda: Inner(lambda h: (h * 3000).square()), torch.float16), half, half_ref, "/square"
        ),
        "a row masked throughout": (made(lambda: Inner(lambda h: (h + mask).softmax(-1))), x, ref, "/softmax"),
    }  # fmt: skip


def of_nan_weights() -> nn.Module:
    """For the command line."""
    return weighted(NAN)
