"""Which tensors without a gradient the input itself decides: masks, indices and counts that comparisons make of it."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

from tracer import ops
from tracer.model import torch_functions
from tracer.op_call import OpCall
from tracer.records import DECIDED, UNDECIDED, Note


class Decided:
    """Follows what comparisons, `argmax` and casts to integers make of tensors with a gradient, through later ops."""

    def __init__(self) -> None:
        self._made = WeakIdKeyDictionary()

    def look_at(self, name: str, call: OpCall, output: Any) -> None:
        """Note what the op `name` gave, where it is decided by what the op took; `detach` says that it is not."""
        if (
            name == "detach"
            or not isinstance(output, torch.Tensor)
            or output.requires_grad
            or not torch.is_grad_enabled()
        ):
            return
        chooses = not (output.is_floating_point() or output.is_complex())
        if any((chooses and t.requires_grad) or t in self._made for _name, t in torch_functions.arguments(call)):
            self._made[output] = True

    def note(self, name: str, path: str, number: int, call: OpCall, rows: int) -> Note | None:
        """A note on an op that takes something without a gradient that differs between the halves of the batch.

        It says that the input decides that; of an op that picks elements by it, also that the input does not.
        """
        constants = [t for _name, t in torch_functions.arguments(call) if not t.requires_grad and t.dim()]
        made = [t for t in constants if t in self._made]
        choosing = [t for t in constants if not t.is_floating_point()] if ops.jumps(name) and not made else []
        if not any(halves_differ(t, rows) for t in (*made, *choosing)):
            return None
        return Note("discrete choice", path, number, DECIDED if made else UNDECIDED)


def halves_differ(tensor: torch.Tensor, rows: int) -> bool:
    """Whether a tensor has a row for each of the doubled batch's `rows`, and others for the reference."""
    return tensor.shape[0] == rows and not torch.equal(*tensor.chunk(2))
