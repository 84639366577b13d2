"""Twins: what a mask or an index is to a gradient.

A boolean or whole-number tensor carries no gradient, so what depends on it would be cut off from what decides it. Its
*twin* is a floating-point tensor with a graph that holds the same choice: 0 and 1 for a mask, the number itself for a
count, one-hot for an index. It lies beside the real tensor in a weak table and goes with it.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class OneHot:
    """The twin of an index: 1 at the place that it names, of shape (shape of the index, number of places)."""

    places: Tensor

    def number(self) -> Tensor:
        """The index itself as floating point, with a graph."""
        numbers = torch.arange(self.places.shape[-1], dtype=self.places.dtype, device=self.places.device)
        return (self.places * numbers).sum(-1)

    def of_size(self, size: int) -> Tensor:
        """One-hot over so many places: an index may name a place of another axis than the one it came from."""
        own = self.places.shape[-1]
        return self.places[..., :size] if own >= size else F.pad(self.places, (0, size - own))


@dataclass(frozen=True, slots=True)
class AllPlaces:
    """The twin of what `nonzero` gives: all places of the mask, in both runs alike; `chosen` (0 or 1) says which count.

    Each run would take another number of rows, and no two rows of them would belong together.
    """

    chosen: Tensor


Twin: TypeAlias = Tensor | OneHot | AllPlaces


class Twins:
    """The twins of the tensors of one run."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[weakref.ref[Tensor], Twin]] = {}

    def __bool__(self) -> bool:
        return bool(self._kept)

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()

    def keep(self, tensor: Tensor, twin: Twin) -> None:
        """From now on `tensor` has this twin."""
        self._kept[id(tensor)] = (weakref.ref(tensor), twin)

    def keep_equal(self, tensor: Any, twin: Any) -> None:
        """The same where `twin` varies and holds the same numbers; else `tensor` has none."""
        if isinstance(tensor, Tensor):
            self._kept.pop(id(tensor), None)
            if isinstance(twin, Tensor) and twin.requires_grad and agree(tensor, twin):
                self.keep(tensor, twin)

    def of(self, value: Any) -> Twin | None:
        """The twin of a tensor; None for what has none, and for a tensor that was written to since."""
        if not isinstance(value, Tensor) or (found := self._kept.get(id(value))) is None or found[0]() is not value:
            return None
        twin = found[1]
        with torch._C.DisableTorchFunction(), torch.no_grad():  # a question, not an op of the model
            if isinstance(twin, AllPlaces) or agree(value, _number(twin)):
                return twin
        del self._kept[id(value)]
        return None

    def tensor(self, value: Tensor) -> Tensor | None:
        """The tensor with a graph that stands for a mask, count or index; None for all others."""
        twin = None if not self._kept or is_real(value) else self.of(value)
        return twin.places if isinstance(twin, OneHot) else twin.chosen if isinstance(twin, AllPlaces) else twin

    def mask(self, value: Any) -> Tensor | None:
        """The twin of a mask or count; None for all others."""
        twin = self.of(value)
        return twin if isinstance(twin, Tensor) else None


def _number(twin: Tensor | OneHot) -> Tensor:
    """A twin as the numbers that its tensor holds."""
    return twin.number() if isinstance(twin, OneHot) else twin


def agree(real: Tensor, twin: Tensor) -> bool:
    """Whether a tensor and its twin hold the same numbers, but for the rounding of a sum."""
    with torch._C.DisableTorchFunction(), torch.no_grad():
        if real.shape != twin.shape:
            return False
        exact = real.dtype == torch.bool
        close = (real.double() - twin.detach().double()).abs() <= (0 if exact else 1e-4 * (1 + real.double().abs()))
        return bool(close.all())


def is_real(value: Any) -> bool:
    """Whether a value is a tensor of real or complex numbers, which carries a gradient itself."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())
