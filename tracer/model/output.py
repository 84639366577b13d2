"""The numbers in a model's output that an attribution explains: its logits, and those that `target` selects."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tracer.errors import InputError, ModelError
from tracer.model.hooks import remove_hooks
from tracer.model.undo import undoing

Target = int | tuple[int, ...] | Tensor | list[int] | list[tuple[int, ...]] | None


def logits_of(output: Any) -> Tensor:
    """The tensor to explain in a model's output: the tensor itself, a nest's logits, else its first real tensor."""
    if isinstance(output, Tensor):
        return output
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    for value in values:
        if isinstance(value, Tensor) and value.is_floating_point():
            return value
    raise ModelError(f"the model gives {type(output).__name__}: expected a tensor, or a nest with one in it")


@contextmanager
def unwrapping(model: nn.Module) -> Iterator[None]:
    """While this lasts, `model` gives this thread its logits instead of a `ModelOutput`, dict or tuple."""
    thread = threading.get_ident()

    def unwrap(_module: nn.Module, _args: Any, output: Any) -> Any:
        return logits_of(output) if threading.get_ident() == thread else None

    with undoing(lambda: remove_hooks([model], lambda hook: hook is unwrap)):
        model.register_forward_hook(unwrap)
        yield


def select(output: Tensor, target: Target) -> Tensor:
    """The elements of `output` (examples first) that `target` names, one an example if it names them fully.

    int or one-element tensor: the same index for all examples; tuple: indices of the further axes; tensor or list of
    ints: one index an example of a 2-d output; list of tuples: one tuple an example.
    """
    if isinstance(target, Tensor) and target.numel() == 1:
        target = int(target)
    if target is None:
        return output
    examples = output.shape[0]
    try:
        if isinstance(target, int):
            return output[(slice(None), target)] if output.dim() > 1 else _refuse(output, target)
        if isinstance(target, tuple):
            if len(target) >= output.dim():
                return _refuse(output, target)
            place: tuple[Any, ...] = (slice(None), *target)
            return output[place]
        if isinstance(target, Tensor):
            target = target.tolist()
        if isinstance(target, list) and len(target) == examples:
            if all(isinstance(item, int) for item in target):
                if output.dim() != 2:
                    _refuse(output, target)
                index = torch.tensor(target, device=output.device)
                if int(index.min()) < 0 or int(index.max()) >= output.shape[1]:
                    _refuse(output, target)
                return output.gather(1, index.reshape(-1, 1)).squeeze(-1)
            if all(isinstance(item, tuple) for item in target):
                return torch.stack([output[(row, *item)] for row, item in enumerate(target)])  # type: ignore[misc]
    except (IndexError, ValueError):
        pass
    return _refuse(output, target)


def _refuse(output: Tensor, target: Any) -> Tensor:
    raise InputError(
        f"target {target!r} does not fit an output of shape {tuple(output.shape)}; give an index within each axis "
        "after the first, or a list of one a row"
    )
