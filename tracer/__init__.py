"""A debugger for DeepLIFT: which call of a model makes the convergence delta.

The public names are loaded when they are first used, so that reading a saved trace never loads torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tracer import errors

if TYPE_CHECKING:
    from tracer.counterfactual import repair
    from tracer.deeplift import DeepLift
    from tracer.diagnose import diagnose
    from tracer.methods import record
    from tracer.recording import Details
    from tracer.trace import Trace, open_trace
    from tracer.watching import watch

__version__ = "0.1.0"
__all__ = ["DeepLift", "Details", "Trace", "diagnose", "errors", "open_trace", "record", "repair", "watch"]

_HOMES = {
    "DeepLift": "tracer.deeplift",
    "Trace": "tracer.trace",
    "diagnose": "tracer.diagnose",
    "open_trace": "tracer.trace",
    "record": "tracer.methods",
    "repair": "tracer.counterfactual",
    "watch": "tracer.watching",
    "Details": "tracer.recording",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
