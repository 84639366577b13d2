"""Figures of recorded tensors: halves of the doubled batch, differences, flows, statistics.

Small tensors are computed with numpy, which starts a computation in a fifth of torch's time; large ones with torch,
whose threads finish sooner. Callers silence numpy's warnings of overflow and NaN (`np.errstate`) once for many tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from tracer.ledger.example_axis import ExamplePlace, half, per_example
from tracer.records import Floats, Statistics
from tracer.rules.formulas.infinity import FLOOR
from tracer.text import dtype_name

_LARGE = 2**16  # elements from which torch, with several threads, is faster
_BITS = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}
_ONES = {np.dtype(kind): np.ones(_LARGE, kind) for kind in (np.float32, np.float64)}

_SHARE_OF_FLOOR = FLOOR**-0.5  # a multiplier below it was made for Δ = FLOOR; one of an overflow is not so small

Numbers: TypeAlias = npt.NDArray[Any]
"""float32 (half precisions are converted to it) or float64."""


class HostTensor(NamedTuple):
    """A recorded tensor as numpy arrays: `raw` as it is stored (bfloat16 as its 16 bits), `numbers` to compute with.

    `numbers` is None where there are no differences to share out: integers, booleans. For complex tensors it has one
    more axis, the last, of real and imaginary part. `address` is that of the first element in memory, 0 where the
    arrays are copies.
    """

    raw: Numbers
    numbers: Numbers | None
    dtype: str
    address: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.raw.shape

    @property
    def content(self) -> memoryview | bytes:
        """The bytes of the elements in row-major order."""
        raw = np.ascontiguousarray(self.raw)
        return raw.reshape(-1).view(np.uint8).data if raw.size else b""

    def half(self, number: Literal[0, 1], place: ExamplePlace, rows: int) -> HostTensor:
        """The first or the second half of the `rows` examples that lie at `place`."""
        part = half(self.raw, number, place, rows)
        if self.numbers is not self.raw:
            return HostTensor(
                part, None if self.numbers is None else half(self.numbers, number, place, rows), self.dtype
            )
        if not self.address or place.order or self.raw.shape[place.axis] != rows * place.inner:  # a copy, not a slice
            return HostTensor(part, part, self.dtype)
        distance = self.raw.strides[place.axis] * part.shape[place.axis]
        return HostTensor(part, part, self.dtype, self.address + number * distance)


def as_array(tensor: torch.Tensor) -> HostTensor:
    """The tensor in the CPU's memory, not copied where it is there already."""
    if tensor.dtype == torch.float32 and tensor.is_cpu and not tensor.is_neg():  # nearly all tensors, so kept short
        raw = tensor.numpy() if not tensor.requires_grad else tensor.detach().numpy()
        return HostTensor(raw, raw, "float32", tensor.data_ptr())
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    if plain.dtype == torch.bfloat16:
        return HostTensor(plain.view(torch.uint16).numpy(), plain.float().numpy(), "bfloat16")
    if plain.dtype.is_floating_point and plain.dtype.itemsize == 1:  # float8, which numpy lacks
        return HostTensor(plain.view(torch.uint8).numpy(), plain.float().numpy(), dtype_name(tensor.dtype))
    raw = plain.numpy()
    if plain.is_complex():  # Re(conj(m)·Δ) is the sum over both parts
        return HostTensor(raw, torch.view_as_real(plain).numpy(), dtype_name(tensor.dtype))
    if raw.dtype == np.float16:
        return HostTensor(raw, raw.astype(np.float32), "float16")
    return HostTensor(raw, raw if raw.dtype in (np.float32, np.float64) else None, dtype_name(tensor.dtype))


def statistics(numbers: Numbers) -> Statistics:
    """Count and non-finite count; minimum, maximum, mean and 2-norm of the finite elements, 0 where there are none."""
    array = numbers.ravel("K")
    count = array.size
    total = _total(array)
    if not math.isfinite(total):
        array = array[np.isfinite(array)]
        total = float(array.sum(dtype=np.float64))
    if array.size == 0:
        return Statistics(count, count, 0.0, 0.0, 0.0, 0.0)
    square = float(np.dot(array, array))  # numpy's: torch's is as precise as its matrix products are set to be
    low, high = extremes(array)
    norm = square**0.5
    if not _in_range(square) and (low or high):  # squares of float64 numbers overflow and underflow too
        scale = max(-low, high)
        norm = scale * float(np.linalg.norm(array.astype(np.float64) / scale))
    return Statistics(count, count - array.size, low, high, total / array.size, norm)


def _total(array: Numbers) -> float:
    """The sum of a flat array in its own precision: a dot product with ones is three times as fast as numpy's sum."""
    if array.size < _LARGE:
        return float(np.dot(array, _ONES[array.dtype][: array.size]))
    return float(torch.from_numpy(array).sum())


def extremes(array: Numbers) -> tuple[float, float]:
    """The smallest and the largest element of a flat, non-empty array; NaN if any element is NaN."""
    if array.size < _LARGE:
        return float(np.minimum.reduce(array)), float(np.maximum.reduce(array))
    low, high = torch.aminmax(torch.from_numpy(array))
    return float(low), float(high)


def _in_range(square: float) -> bool:
    """Whether a sum of squares is neither too large nor too small for its own precision."""
    return 1e-30 < square < math.inf


def subtract(value: Numbers, reference: Numbers, finite: bool = False) -> Numbers:
    """Δ = value − reference; 0 where both are the same infinity, since masks put −inf into both runs.

    `finite`: the caller knows that all elements of both are finite.
    """
    difference = _pairwise(np.subtract, torch.sub, value, reference)
    if not finite and not math.isfinite(_total(difference.ravel("K"))):
        difference[value == reference] = 0
    return difference


def sums(multiplier: Numbers, difference: Numbers, place: ExamplePlace | None, examples: int) -> tuple[Floats, float]:
    """(Σ m·Δ per example, float64 (E,); Σ |m·Δ| over everything): products in the tensor's dtype, sums in float64.

    Where m is 0, the flow is 0, even if Δ is NaN or infinite, as in the branch that `torch.where` did not choose. Where
    one run alone masks by −inf, the rules put ±FLOOR for Δ and their multiplier is a share of 1 / FLOOR: so it is here.
    """
    product = _pairwise(np.multiply, torch.mul, multiplier, difference)
    flow = _flow(product, place, examples)
    magnitude = _size(product)
    if not math.isfinite(magnitude):
        if not math.isfinite(_total(difference.ravel("K"))):
            product = _pairwise(np.multiply, torch.mul, multiplier, difference)
            product[multiplier == 0] = 0
            masked = np.isinf(difference) & (np.abs(multiplier) < _SHARE_OF_FLOOR) & (multiplier != 0)
            product[masked] = (multiplier * np.copysign(multiplier.dtype.type(FLOOR), difference))[masked]
            flow = _flow(product, place, examples)
            magnitude = _size(product)
        if math.isinf(magnitude):
            magnitude = float(np.add.reduce(product, axis=None, dtype=np.float64))
    return flow, magnitude


def identical(one: Numbers, other: Numbers) -> bool:
    """Whether two arrays of one shape and dtype hold the same bits."""
    if one.itemsize not in _BITS:
        return False
    return bool((one.view(_BITS[one.itemsize]) == other.view(_BITS[one.itemsize])).all())


def ratio(one: Numbers, other: Numbers) -> Numbers:
    """one / other, element by element."""
    return _pairwise(np.divide, torch.div, one, other)


def _flow(product: Numbers, place: ExamplePlace | None, examples: int) -> Floats:
    rows = per_example(product, place, examples) if examples > 1 else product.ravel("K")[np.newaxis]  # needs no copy
    if product.size < _LARGE:
        return np.asarray(np.add.reduce(rows, 1, dtype=np.float64))
    return np.asarray(torch.from_numpy(rows).sum(1, dtype=torch.float64).numpy())


def _size(product: Numbers) -> float:
    """Σ |product|; overwrites `product`."""
    if product.size < _LARGE:
        return _total(np.abs(product, out=product).ravel("K"))
    return float(torch.from_numpy(product).abs_().sum())


def _pairwise(small: Callable[..., Any], large: Callable[..., torch.Tensor], one: Numbers, other: Numbers) -> Numbers:
    """A function of two arrays: numpy's `small` for small ones, torch's `large` for large ones."""
    if one.size < _LARGE:
        return np.asarray(small(one, other))
    result: Numbers = large(torch.from_numpy(one), torch.from_numpy(other)).numpy()
    return result
