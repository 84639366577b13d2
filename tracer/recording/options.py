"""What the caller of a recording chooses: what is stored, where, and what the trace says of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Literal

import torch
from torch import nn

from tracer.records import Floats, HookReport, Panel

Capture = Literal["summary", "tensors"]
"""What is stored: figures only, or tensors too."""
PanelMaker = Callable[[tuple[torch.Tensor, ...], Floats, HookReport | None], Panel]
"""Makes the sanity panel of the attributions, the delta per example, and what captum ruled."""


@dataclass(frozen=True, slots=True)
class Details:
    """What the trace says of a run that only the caller knows: names, texts, tokens. All optional.

    `type` is the model's type if a wrapper stands for it, `names` maps the modules to observe to their paths, `command`
    is the JSON of the command-line options that make the same run again.
    """

    model: str = ""
    type: str = ""
    variant: str = "as shipped"
    target: str = ""
    text: str = ""
    reference: str = ""
    tokens: tuple[tuple[str, ...], ...] = ()
    reference_tokens: tuple[tuple[str, ...], ...] = ()
    names: Mapping[nn.Module, str] | None = None
    command: str = ""


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """What to store of a run, and where: `path` None keeps it in memory, `max_bytes` bounds the stored tensors."""

    path: str | PathLike[str] | None = None
    capture: Capture = "tensors"
    force: bool = False
    max_bytes: int | None = None
    details: Details = field(default_factory=Details)
