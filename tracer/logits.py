"""The tensor in a model's output that an attribution explains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tracer.errors import ModelError


def logits_of(output: Any) -> torch.Tensor:
    """The logits in a model's output, be it a `ModelOutput`, a dict, a tuple (the first) or the tensor itself."""
    if isinstance(output, torch.Tensor):
        return output
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if found is None and isinstance(output, (tuple, list, Mapping)) and output:
        found = next(iter(output.values())) if isinstance(output, Mapping) else output[0]
    if not isinstance(found, torch.Tensor):
        raise ModelError(f"the model gives {type(output).__name__}: expected a tensor, or a nest with logits first")
    return found


@contextmanager
def unwrapping(model: nn.Module) -> Iterator[None]:
    """While this lasts, `model` returns its logits where it used to return a `ModelOutput`, dict or tuple."""
    handle = model.register_forward_hook(lambda _module, _args, output: logits_of(output))
    try:
        yield
    finally:
        handle.remove()
