"""Wires whose tensors are in memory, by the memory that they lie in: who shares it, and who else holds it."""

from __future__ import annotations

from collections import defaultdict

import torch

from tracer.ledger.settling import Settling
from tracer.ledger.wires import ObservedCall, Wire
from tracer.model.tensors import memory_of, storage_uses

_LARGE = 2**18  # bytes from which a tensor is put aside as soon as nobody else holds it


class LiveWires:
    """The wires of a forward pass that is under way."""

    def __init__(self) -> None:
        self._sharing: dict[int, list[Wire]] = defaultdict(list)
        self._large: list[Wire] = []

    def add(self, wire: Wire, memory: int) -> None:
        """Take up a new wire, whose value lies in `memory`."""
        self._sharing[memory].append(wire)
        if wire.value.nbytes >= _LARGE:
            self._large.append(wire)

    def copy(self, tensor: torch.Tensor) -> list[Wire]:
        """Have the wires that lie in this tensor's memory, which is about to be overwritten, keep their values."""
        sharing = self._sharing.pop(memory_of(tensor), [])
        # Nobody else holds the copies; but the model's inputs and outputs may be among them, which are asked for later.
        self._large = [wire for wire in self._large if wire not in sharing]
        for wire in sharing:
            if wire.value_figures is None:
                wire.value = wire.value.clone()
        return sharing

    def put_aside(self, call: ObservedCall, settling: Settling) -> None:
        """Put aside the large tensors made in a call that is about to end, and that nobody else holds."""
        start = len(self._large)
        while start and self._large[start - 1].index >= call.first_wire:
            start -= 1
        held = []
        for wire in self._large[start:]:
            storage = wire.value.untyped_storage()
            # Our own: the storage object here, and the wires that share the storage.
            own = 1 + sum(other.value_figures is None for other in self._sharing.get(memory_of(wire.value), [wire]))
            if storage_uses(storage) > own:
                held.append(wire)
            else:
                settling.put_aside(wire)
        self._large[start:] = held

    def clear(self) -> None:
        """Forget all: the forward pass is over."""
        self._sharing.clear()
        self._large.clear()
