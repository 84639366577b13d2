"""The tensor in a model's output that an attribution explains."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tracer.errors import ModelError
from tracer.model.hooks import remove_hooks
from tracer.model.undo import undoing


def logits_of(output: Any) -> torch.Tensor:
    """The tensor to explain in a model's output: the tensor itself, a nest's logits, else its first real tensor."""
    if isinstance(output, torch.Tensor):
        return output
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, torch.Tensor):
        return logits
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    for value in values:
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            return value
    raise ModelError(f"the model gives {type(output).__name__}: expected a tensor, or a nest with one in it")


@contextmanager
def unwrapping(model: nn.Module) -> Iterator[None]:
    """While this lasts, `model` gives this thread its logits where it used to give a `ModelOutput`, dict or tuple."""
    thread = threading.get_ident()

    def unwrap(_module: nn.Module, _args: Any, output: Any) -> Any:
        return logits_of(output) if threading.get_ident() == thread else None

    with undoing(lambda: remove_hooks([model], lambda hook: hook is unwrap)):
        model.register_forward_hook(unwrap)
        yield
