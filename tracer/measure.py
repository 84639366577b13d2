"""Figures of recorded tensors: halves of the doubled batch, differences, flows, statistics. Each is computed once.

In numpy: most tensors of a run are small, and numpy starts a small computation in a fifth of torch's time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from tracer.axis import Place, halves, per_example
from tracer.observation import Observation, Wire
from tracer.records import Floats, Statistics, TensorRef

SMALL_DIFFERENCE = 1e-10  # captum's eps: below it its rules fall back to the gradient

Numbers: TypeAlias = npt.NDArray[Any]
"""float32 (which stands for half precisions too) or float64."""


class TensorSink(Protocol):
    """Where tensors are kept: `tracer.store.TraceWriter`."""

    def put_tensor(self, raw: bytes | memoryview, dtype: str, shape: tuple[int, ...]) -> TensorRef:
        """A reference to the stored tensor."""


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A recorded tensor as an array: `raw` as it is stored (bfloat16 as its 16 bits), `numbers` to calculate with.

    `numbers` is None for what has no differences to share out: integers, booleans.
    """

    raw: Numbers
    numbers: Numbers | None
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        return self.raw.shape


def dtype_name(tensor: torch.Tensor) -> str:
    """ "float32", "bfloat16", ...: torch's name of the dtype without "torch."."""
    return str(tensor.dtype).removeprefix("torch.")


def as_array(tensor: torch.Tensor) -> Tensor:
    """The tensor on the CPU, sharing its memory where it lies there."""
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    if plain.dtype == torch.bfloat16:
        return Tensor(plain.view(torch.uint16).numpy(), plain.float().numpy(), "bfloat16")
    raw = plain.numpy()
    if raw.dtype == np.float16:
        return Tensor(raw, raw.astype(np.float32), "float16")
    return Tensor(raw, raw if raw.dtype in (np.float32, np.float64) else None, dtype_name(tensor))


def statistics(numbers: Numbers) -> Statistics:
    """Count, non-finite count, minimum, maximum, mean and 2-norm (over the finite elements)."""
    array = numbers.reshape(-1)
    count = array.size
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(array.sum())
        if not np.isfinite(total):
            array = array[np.isfinite(array)]
            total = float(array.sum(dtype=np.float64))
        if array.size == 0:
            return Statistics(count, count, 0.0, 0.0, 0.0, 0.0)
        square = float(np.dot(array, array))
    low, high = float(array.min()), float(array.max())
    if not 1e-30 < square < np.inf and (low or high):  # too large or too small to be squared in its own precision
        square = float(np.sum(np.square(array, dtype=np.float64)))
    return Statistics(count, count - array.size, low, high, total / array.size, square**0.5)


def _subtract(value: Numbers, reference: Numbers) -> Numbers:
    """value − reference, 0 where both are the same infinity: masks put −inf into both runs."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.asarray(value - reference)
        if not np.isfinite(difference.sum()):
            difference[value == reference] = 0
    return difference


class Measure:
    """Computes and keeps the figures of one observation's tensors.

    Multipliers come in the shape of the observed tensor; of a doubled batch only the half that belongs to the input is
    DeepLIFT's multiplier.
    """

    def __init__(self, observation: Observation, sink: TensorSink | None) -> None:
        self.observation = observation
        self.sink = sink
        self.no_flow: Floats = np.zeros(observation.examples)
        self._pairs: dict[Wire, tuple[Tensor, Tensor | None]] = {}
        self._multipliers: dict[tuple[int, Place | None], Tensor] = {}
        self._differences: dict[Wire, Numbers | None] = {}
        self._flows: dict[tuple[Wire, int], tuple[Floats, float]] = {}
        self._statistics: dict[int, Statistics] = {}
        self._references: dict[int, TensorRef] = {}
        self._kept: list[object] = []  # keeps the ids above from being given to others

    def value(self, wire: Wire) -> Tensor:
        """The input run's tensor."""
        return self._pair(wire)[0]

    def reference(self, wire: Wire) -> Tensor | None:
        """The reference run's tensor; None where it is not known."""
        return self._pair(wire)[1]

    def multiplier(self, wire: Wire, gradient: torch.Tensor | None) -> Tensor | None:
        """The part of `gradient` (of the shape of the wire) that belongs to the input run."""
        if gradient is None:
            return None
        place = wire.place if self.observation.doubled else None
        key = (id(gradient), place)
        if key not in self._multipliers:
            self._kept.append(gradient)
            whole = as_array(gradient)
            self._multipliers[key] = whole if place is None else self._halves(whole, place)[0]
        return self._multipliers[key]

    def difference(self, wire: Wire) -> Numbers | None:
        """Δ = value − reference; None where the reference is not known or has another shape."""
        if wire not in self._differences:
            value, reference = self._pair(wire)
            known = reference is not None and reference.shape == value.shape
            ours, theirs = value.numbers, reference.numbers if reference is not None else None
            self._differences[wire] = (
                _subtract(ours, theirs) if known and ours is not None and theirs is not None else None
            )
        return self._differences[wire]

    def flow(self, wire: Wire, gradient: torch.Tensor | None) -> Floats:
        """Σ m·Δ per example, float64 (E,): products in the tensor's dtype, sums in float64."""
        return self.no_flow if gradient is None else self._sums(wire, gradient)[0]

    def magnitude(self, wire: Wire, gradient: torch.Tensor | None) -> float:
        """Σ |m·Δ| over everything: what a leak is compared with."""
        return 0.0 if gradient is None else self._sums(wire, gradient)[1]

    def statistics(self, numbers: Numbers | None) -> Statistics | None:
        """The figures of an array; None for none and for tensors that are no numbers to average."""
        if numbers is None:
            return None
        key = id(numbers)
        if key not in self._statistics:
            self._kept.append(numbers)
            self._statistics[key] = statistics(numbers)
        return self._statistics[key]

    def store(self, tensor: Tensor | None) -> TensorRef | None:
        """The tensor, kept in the sink; None without a sink."""
        if tensor is None or self.sink is None:
            return None
        key = id(tensor)
        if key not in self._references:
            self._kept.append(tensor)
            raw = np.ascontiguousarray(tensor.raw)
            data = raw.reshape(-1).view(np.uint8).data if raw.size else b""
            self._references[key] = self.sink.put_tensor(data, tensor.dtype, tensor.shape)
        return self._references[key]

    def _sums(self, wire: Wire, gradient: torch.Tensor) -> tuple[Floats, float]:
        key = (wire, id(gradient))
        if key not in self._flows:
            self._kept.append(gradient)
            multiplier, difference = self.multiplier(wire, gradient), self.difference(wire)
            if multiplier is None or multiplier.numbers is None or difference is None:
                self._flows[key] = self.no_flow, 0.0
            else:
                with np.errstate(invalid="ignore", over="ignore"):
                    product = np.asarray(multiplier.numbers * difference)
                    rows = per_example(product, wire.place, self.observation.examples)
                    flow = rows.sum(1, dtype=np.float64)
                    magnitude = float(np.abs(product, out=product).sum(dtype=np.float64))
                self._flows[key] = flow, magnitude
        return self._flows[key]

    def _pair(self, wire: Wire) -> tuple[Tensor, Tensor | None]:
        if wire not in self._pairs:
            value = as_array(wire.value)
            if not self.observation.doubled:
                self._pairs[wire] = value, None if wire.reference is None else as_array(wire.reference)
            elif wire.place is None:
                self._pairs[wire] = value, value
            else:
                self._pairs[wire] = self._halves(value, wire.place)
        return self._pairs[wire]

    def _halves(self, tensor: Tensor, place: Place) -> tuple[Tensor, Tensor]:
        rows = self.observation.rows
        first, second = halves(tensor.raw, place, rows)
        if tensor.numbers is tensor.raw:
            return Tensor(first, first, tensor.dtype), Tensor(second, second, tensor.dtype)
        numbers = (None, None) if tensor.numbers is None else halves(tensor.numbers, place, rows)
        return Tensor(first, numbers[0], tensor.dtype), Tensor(second, numbers[1], tensor.dtype)
