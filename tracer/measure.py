"""Figures of recorded tensors: halves of the doubled batch, differences, flows, statistics. Each is computed once."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from tracer.axis import Place, halves, per_example
from tracer.observation import Observation, Wire
from tracer.records import Floats, Statistics, TensorRef

SMALL_DIFFERENCE = 1e-10  # captum's eps: below it its rules fall back to the gradient


class TensorSink(Protocol):
    """Where tensors are kept: `tracer.store.TraceWriter`."""

    def put_tensor(self, raw: bytes | memoryview, dtype: str, shape: tuple[int, ...]) -> TensorRef:
        """A reference to the stored tensor."""


def dtype_name(tensor: torch.Tensor) -> str:
    """ "float32", "bfloat16", ...: torch's name of the dtype without "torch."."""
    return str(tensor.dtype).removeprefix("torch.")


def statistics(tensor: torch.Tensor) -> Statistics:
    """Count, non-finite count, minimum, maximum, mean and 2-norm (over the finite elements)."""
    array = _as_numpy(tensor)
    count = array.size
    total = float(array.sum(dtype=np.float64))
    if not np.isfinite(total):
        array = array[np.isfinite(array)]
        total = float(array.sum(dtype=np.float64))
    if array.size == 0:
        return Statistics(count, count, 0.0, 0.0, 0.0, 0.0)
    with np.errstate(over="ignore"):
        square = float(np.dot(array, array))
    if not np.isfinite(square):  # too large to be squared in its own precision
        square = float(np.sum(np.square(array, dtype=np.float64)))
    return Statistics(
        count, count - array.size, float(array.min()), float(array.max()), total / array.size, float(np.sqrt(square))
    )


def _subtract(value: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """value − reference, 0 where both are the same infinity: masks put −inf into both runs."""
    difference = value - reference
    if not bool(torch.isfinite(difference.sum())):
        difference = torch.where(value == reference, torch.zeros_like(difference), difference)
    return difference


def _as_numpy(tensor: torch.Tensor) -> npt.NDArray[np.float32] | Floats:
    """The elements, flat; of half precisions in float32. numpy starts a small computation sooner than torch."""
    tensor = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
    flat: npt.NDArray[np.float32] | Floats = tensor.detach().cpu().reshape(-1).numpy()
    return flat


class Measure:
    """Computes and keeps the figures of one observation's tensors.

    Multipliers come in the shape of the observed tensor; of a doubled batch only the half that belongs to the input is
    DeepLIFT's multiplier.
    """

    def __init__(self, observation: Observation, sink: TensorSink | None) -> None:
        self.observation = observation
        self.sink = sink
        self.no_flow: Floats = np.zeros(observation.examples)
        self._differences: dict[Wire, torch.Tensor | None] = {}
        self._flows: dict[tuple[Wire, int], Floats] = {}
        self._statistics: dict[int, Statistics] = {}
        self._references: dict[int, TensorRef] = {}
        self._halves: dict[tuple[int, Place], tuple[torch.Tensor, torch.Tensor]] = {}
        self._kept: list[torch.Tensor] = []  # keeps the ids above from being given to other tensors

    def value(self, wire: Wire) -> torch.Tensor:
        """The input run's tensor."""
        return self._split(wire, wire.value)[0] if self.observation.doubled and wire.place is not None else wire.value

    def reference(self, wire: Wire) -> torch.Tensor | None:
        """The reference run's tensor; None where it is not known."""
        if not self.observation.doubled:
            return wire.reference
        return self._split(wire, wire.value)[1] if wire.place is not None else wire.value

    def multiplier(self, wire: Wire, gradient: torch.Tensor | None) -> torch.Tensor | None:
        """The part of `gradient` (of the shape of the wire) that belongs to the input run."""
        if gradient is None or not self.observation.doubled or wire.place is None:
            return gradient
        return self._split(wire, gradient)[0]

    def difference(self, wire: Wire) -> torch.Tensor | None:
        """Δ = value − reference; None where the reference is not known or has another shape."""
        if wire not in self._differences:
            value, reference = self.value(wire), self.reference(wire)
            known = reference is not None and reference.shape == value.shape and value.is_floating_point()
            self._differences[wire] = _subtract(value, reference) if reference is not None and known else None
        return self._differences[wire]

    def flow(self, wire: Wire, gradient: torch.Tensor | None) -> Floats:
        """Σ m·Δ per example, float64 (E,): products in the tensor's dtype, sums in float64."""
        if gradient is None:
            return self.no_flow
        key = (wire, id(gradient))
        if key not in self._flows:
            self._kept.append(gradient)
            multiplier, difference = self.multiplier(wire, gradient), self.difference(wire)
            if multiplier is None or difference is None:
                self._flows[key] = self.no_flow
            else:
                product = per_example(multiplier * difference, wire.place, self.observation.examples)
                self._flows[key] = product.sum(1, dtype=torch.float64).cpu().numpy()
        return self._flows[key]

    def magnitude(self, wire: Wire, gradient: torch.Tensor | None) -> float:
        """Σ |m·Δ| over everything: what a leak is compared with."""
        multiplier, difference = self.multiplier(wire, gradient), self.difference(wire)
        if multiplier is None or difference is None:
            return 0.0
        return float((multiplier * difference).abs().sum(dtype=torch.float64))

    def statistics(self, tensor: torch.Tensor | None) -> Statistics | None:
        """The tensor's figures; None for no tensor and for tensors that are no numbers to average."""
        if tensor is None or not tensor.is_floating_point():
            return None
        if id(tensor) not in self._statistics:
            self._kept.append(tensor)
            self._statistics[id(tensor)] = statistics(tensor)
        return self._statistics[id(tensor)]

    def store(self, tensor: torch.Tensor | None) -> TensorRef | None:
        """The tensor, kept in the sink; None without a sink."""
        if tensor is None or self.sink is None:
            return None
        if id(tensor) not in self._references:
            self._kept.append(tensor)
            plain = tensor.detach().cpu().contiguous().reshape(-1)
            if plain.numel() == 1:
                plain = plain.clone(
                    memory_format=torch.contiguous_format
                )  # one element counts as contiguous with any stride, but cannot be seen as bytes
            raw = memoryview(plain.view(torch.uint8).numpy().data) if plain.numel() else b""
            self._references[id(tensor)] = self.sink.put_tensor(raw, dtype_name(tensor), tuple(tensor.shape))
        return self._references[id(tensor)]

    def _split(self, wire: Wire, tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert wire.place is not None
        key = (id(tensor), wire.place)
        if key not in self._halves:
            self._kept.append(tensor)
            self._halves[key] = halves(tensor, wire.place, self.observation.rows)
        return self._halves[key]
