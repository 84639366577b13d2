"""Where in the model an op is called, read off the Python stack."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import NamedTuple

from torch import nn

from tracer.model import torch_functions
from tracer.model.hooks import is_atomic

_MODULE_CALL = nn.Module._call_impl.__code__
_COMPOSITE = torch_functions.run_composite.__code__


class CallSite(NamedTuple):
    """The innermost module of the model that is being called, its path, and the composite ops under way in it.

    `module` is None outside all modules; `within` is "outer/inner", or "" where no composite op is under way.
    """

    module: nn.Module | None
    path: str
    within: str

    def path_of(self, op: str) -> str:
        """The path at which a reader finds the op: its own, or that of the module that is this one op."""
        if self.module is not None and is_atomic(self.module):
            return self.path
        return f"{self.path}/{self.within}/{op}" if self.within else f"{self.path}/{op}"


def call_site(paths: Mapping[nn.Module, str]) -> CallSite:
    """The call site of the op that is being called; `paths` are those of the model's modules.

    Read off the Python stack, since the recorder's mode may enter composite ops before this package's engine does.
    """
    within: list[str] = []
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _COMPOSITE:
            within.insert(0, frame.f_locals["name"])
        elif frame.f_code is _MODULE_CALL:
            module = frame.f_locals["self"]
            if module in paths:
                return CallSite(module, paths[module], "/".join(within))
        frame = frame.f_back  # type: ignore[assignment]
    return CallSite(None, "", "/".join(within))
