"""Tensors as they lie in memory and in nests: which there are, where their elements lie, who else holds them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tracer.errors import ModelError
from tracer.model.source import source_line
from tracer.model.unsupported import tensor_fault
from tracer.records import Floats


def tensors_in(value: Any, name: str = "") -> list[tuple[str, Tensor]]:
    """Every tensor in a nest of tuples, lists, dicts and dataclasses, with its name ("0", "mask", "states.3")."""
    found: list[tuple[str, Tensor]] = []
    _collect(value, name, found)
    return found


def _collect(value: Any, name: str, found: list[tuple[str, Tensor]]) -> None:
    if isinstance(value, Tensor):
        found.append((name, value))
        return
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, (tuple, list)):
        items = enumerate(value)
    elif value is None or isinstance(value, (str, int, float)):
        return
    elif isinstance(value, Mapping):
        items = value.items()
    elif hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        items = ((key, getattr(value, key, None)) for key in value.__dataclass_fields__)
    for key, item in items:
        _collect(item, f"{name}.{key}" if name else str(key), found)


def as_tuple(value: Any) -> tuple[Any, ...]:
    """One argument, a tuple of them or None (no arguments), as a tuple."""
    return () if value is None else value if isinstance(value, tuple) else (value,)


def copied(value: Any) -> Any:
    """`value` with the tensors in its tuples copied, since a model may write to its arguments; parameters are not."""
    if isinstance(value, tuple):
        return tuple(map(copied, value))
    return value.clone() if isinstance(value, Tensor) and not isinstance(value, nn.Parameter) else value


def as_floats(tensor: Tensor) -> Floats:
    """The numbers of a tensor, float64 in the CPU's memory."""
    return np.asarray(tensor.detach().double().cpu().numpy(), dtype=np.float64)


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's first parameter; the CPU for a model without any."""
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def memory_of(tensor: Tensor) -> int:
    """The address of a tensor's elements; `ModelError` for one made in the model that has no memory of its own."""
    try:
        if not tensor.is_nested:  # which has one storage, but no shape
            return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):
        pass
    fault = "" if torch._C._functorch.is_functorch_wrapped_tensor(tensor) else tensor_fault(tensor)
    if not fault:
        fault = "belongs to a transform of torch.func (vmap, grad, jvp): write the loop or the derivative out"
    raise ModelError(f"a tensor that the model makes at {source_line()} {fault}")


def storage_uses(storage: torch.UntypedStorage) -> int:
    """How many tensors, saved ones and `storage` itself hold this memory; a huge number if torch cannot tell."""
    count = getattr(torch._C, "_storage_Use_Count", None)
    return sys.maxsize if count is None else int(count(storage._cdata))
