"""Figures of recorded tensors: halves of the doubled batch, differences, flows, statistics.

Small arrays go through numpy, which starts a small computation in a fifth of torch's time; large ones through torch,
which works on them with several threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from tracer.axis import Place, halves, per_example
from tracer.records import Floats, Statistics

_LARGE = 2**16  # elements from which torch is the faster one, on two cores

Numbers: TypeAlias = npt.NDArray[Any]
"""float32 (which stands for half precisions too) or float64."""


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

    @property
    def content(self) -> memoryview | bytes:
        """Its elements' bytes in row-major order."""
        raw = np.ascontiguousarray(self.raw)
        return raw.reshape(-1).view(np.uint8).data if raw.size else b""

    def halves(self, place: Place, rows: int) -> tuple[Tensor, Tensor]:
        """The first and the second half of the examples that lie at `place`."""
        first, second = halves(self.raw, place, rows)
        if self.numbers is self.raw:
            return Tensor(first, first, self.dtype), Tensor(second, second, self.dtype)
        numbers = (None, None) if self.numbers is None else halves(self.numbers, place, rows)
        return Tensor(first, numbers[0], self.dtype), Tensor(second, numbers[1], self.dtype)


def dtype_name(tensor: torch.Tensor) -> str:
    """ "float32", "bfloat16", ...: torch's name of the dtype without "torch."."""
    return str(tensor.dtype).removeprefix("torch.")


def as_array(tensor: torch.Tensor) -> Tensor:
    """The tensor on the CPU, sharing its memory where it lies there."""
    if tensor.dtype == torch.float32 and tensor.is_cpu and not tensor.is_neg():  # by far the most, in few steps
        raw = tensor.numpy() if not tensor.requires_grad else tensor.detach().numpy()
        return Tensor(raw, raw, "float32")
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    if plain.dtype == torch.bfloat16:
        return Tensor(plain.view(torch.uint16).numpy(), plain.float().numpy(), "bfloat16")
    raw = plain.numpy()
    if raw.dtype == np.float16:
        return Tensor(raw, raw.astype(np.float32), "float16")
    return Tensor(raw, raw if raw.dtype in (np.float32, np.float64) else None, dtype_name(tensor))


def statistics(numbers: Numbers) -> Statistics:
    """Count, non-finite count, minimum, maximum, mean and 2-norm (over the finite elements)."""
    if numbers.size >= _LARGE:
        array = numbers.ravel("K")
        tensor = torch.from_numpy(array)
        total, square = float(tensor.sum()), float(np.dot(array, array))  # torch's dot adds up less exactly
        if math.isfinite(total) and _exact(square):
            low, high = (float(bound) for bound in torch.aminmax(tensor))
            return Statistics(numbers.size, 0, low, high, total / numbers.size, square**0.5)
    array = numbers.ravel("K")
    count = array.size
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(np.add.reduce(array))
        if not math.isfinite(total):
            array = array[np.isfinite(array)]
            total = float(array.sum(dtype=np.float64))
        if array.size == 0:
            return Statistics(count, count, 0.0, 0.0, 0.0, 0.0)
        square = float(np.dot(array, array))
    low, high = float(np.minimum.reduce(array)), float(np.maximum.reduce(array))
    norm = square**0.5
    if not _exact(square) and (low or high):  # nor need float64 hold the square of its own numbers
        scale = max(-low, high)
        norm = scale * float(np.linalg.norm(array.astype(np.float64) / scale))
    return Statistics(count, count - array.size, low, high, total / array.size, norm)


def _exact(square: float) -> bool:
    """Whether a sum of squares is neither too large nor too small for its own precision."""
    return 1e-30 < square < math.inf


def subtract(value: Numbers, reference: Numbers) -> Numbers:
    """Δ = value − reference, 0 where both are the same infinity: masks put −inf into both runs."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.asarray(value - reference)
        if not math.isfinite(np.add.reduce(difference, axis=None)):
            difference[value == reference] = 0
    return difference


def sums(multiplier: Numbers, difference: Numbers, place: Place | None, examples: int) -> tuple[Floats, float]:
    """(Σ m·Δ per example, float64 (E,); Σ |m·Δ| over everything): products in the tensor's dtype, sums in float64.

    Where m is 0, nothing flows, though Δ be NaN or infinite: as in the branch that a `torch.where` left out.
    """
    if examples == 1 and multiplier.size >= _LARGE:
        product = torch.from_numpy(multiplier) * torch.from_numpy(difference)
        flow = np.array([float(product.sum(dtype=torch.float64))])
        magnitude = float(product.abs_().sum())
        if math.isfinite(magnitude):
            return flow, magnitude
    with np.errstate(invalid="ignore", over="ignore"):
        flow, magnitude = _added_up(np.asarray(multiplier * difference), place, examples)
        if not math.isfinite(magnitude):
            array = np.asarray(multiplier * difference)
            array[multiplier == 0] = 0
            flow, magnitude = _added_up(array, place, examples)
    return flow, magnitude


def _added_up(product: Numbers, place: Place | None, examples: int) -> tuple[Floats, float]:
    flow = np.add.reduce(per_example(product, place, examples), 1, dtype=np.float64)
    return flow, float(np.add.reduce(np.abs(product, out=product), axis=None, dtype=np.float64))
