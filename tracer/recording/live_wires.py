"""The wires whose tensors are in memory, by that memory: which wires share it, and whether anyone else holds it."""

from __future__ import annotations

from collections import defaultdict

import torch

from tracer.ledger.settling import Settling
from tracer.ledger.wires import ObservedCall, Wire
from tracer.model.tensors import memory_of, storage_uses

_LARGE = 2**18  # bytes from which a tensor is put aside as soon as only the recorder holds it


class LiveWires:
    """The wires of a running forward pass."""

    def __init__(self) -> None:
        self._sharing: dict[int, list[Wire]] = defaultdict(list)
        self._large: list[Wire] = []

    def add(self, wire: Wire, memory: int) -> None:
        """Add a new wire, whose value is at the address `memory`."""
        self._sharing[memory].append(wire)
        if wire.value.nbytes >= _LARGE:
            self._large.append(wire)

    def copy(self, tensor: torch.Tensor) -> list[Wire]:
        """The wires that share this tensor's memory, which is about to be overwritten; each gets a copy."""
        sharing = self._sharing.pop(memory_of(tensor), [])
        # Only the recorder holds the copies; but they may be of the model's inputs and outputs, which are read later.
        self._large = [wire for wire in self._large if wire not in sharing]
        for wire in sharing:
            if wire.value_figures is None:
                wire.value = wire.value.clone()
        return sharing

    def put_aside(self, call: ObservedCall, settling: Settling) -> None:
        """Put aside the large tensors made in a call that is about to end, if only the recorder holds them."""
        start = len(self._large)
        while start and self._large[start - 1].index >= call.first_wire:
            start -= 1
        held = []
        for wire in self._large[start:]:
            storage = wire.value.untyped_storage()
            # The recorder's own uses: `storage` here, and the wires that share the storage.
            own = 1 + sum(other.value_figures is None for other in self._sharing.get(memory_of(wire.value), [wire]))
            if storage_uses(storage) > own:
                held.append(wire)
            else:
                settling.put_aside(wire)
        self._large[start:] = held

    def clear(self) -> None:
        """Forget all wires, after the forward pass."""
        self._sharing.clear()
        self._large.clear()
