"""Tensors whose values are needed later, copied when an in-place op is about to overwrite them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from torch import Tensor

from tracer.model.tensors import memory_of


class HeldTensors:
    """Places in lists and dicts at which tensors lie, by the memory that each tensor lies in."""

    def __init__(self) -> None:
        self._places: dict[int, list[tuple[Any, Any]]] = defaultdict(list)

    def hold(self, container: Any, key: Any) -> None:
        """Keep the value of the tensor `container[key]`."""
        self._places[memory_of(container[key])].append((container, key))

    def copy_before_write(self, written: Tensor) -> None:
        """Put copies in the place of the held tensors that share the memory of `written`."""
        for container, key in self._places.pop(memory_of(written), ()):
            container[key] = container[key].clone()

    def clear(self) -> None:
        """Hold nothing any more."""
        self._places.clear()
