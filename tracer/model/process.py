"""Compiled modules and functions, run through their eager source."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from tracer.model.undo import Switch

_stance: list[Any] = []


def _run_eagerly(eagerly: bool) -> None:
    if eagerly:
        _stance.append(torch.compiler.set_stance("force_eager"))
    while not eagerly and _stance:
        _stance[-1].__exit__(None, None, None)
        _stance.pop()


_eager = Switch(lambda: False, _run_eagerly, True)


def uncompiled() -> AbstractContextManager[object]:
    """While this lasts, what was compiled runs uncompiled: no hook and no function mode sees into a compiled graph."""
    # Where nobody has loaded the compiler there is nothing compiled, and loading it takes seconds.
    return _eager.on() if "torch._dynamo" in sys.modules else nullcontext()
