"""Attention of transformers models computed op by op, so that its softmax can be seen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from tracer.model.process import quiet
from tracer.model.undo import undoing


@contextmanager
def eager_attention(model: nn.Module) -> Iterator[None]:
    """Attention of the transformers models in `model` computed op by op, not fused, while the context lasts."""
    pretrained: list[Any] = [module for module in model.modules() if hasattr(module, "set_attn_implementation")]
    configs: list[Any] = []
    for module in pretrained:
        parts = [module.config]
        while parts:
            config = parts.pop()
            configs.append(config)
            names = getattr(config, "sub_configs", None) or ()
            parts.extend(part for name in names if (part := getattr(config, name, None)) is not None)
    if not pretrained:
        yield
        return
    before = [(config, config.__dict__.get("_attn_implementation_internal")) for config in configs]

    def undo() -> None:
        for config, implementation in before:
            config._attn_implementation_internal = implementation

    with undoing(undo):
        with quiet():
            pretrained[0].set_attn_implementation("eager")
        yield
