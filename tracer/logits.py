"""The tensor in a model's output that an attribution explains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tracer.errors import ModelError


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
    """While this lasts, `model` returns its logits where it used to return a `ModelOutput`, dict or tuple."""
    handle = model.register_forward_hook(lambda _module, _args, output: logits_of(output))
    try:
        yield
    finally:
        handle.remove()
