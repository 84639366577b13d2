"""A debugger for DeepLIFT: which call of a model makes the convergence delta.

A map; the first line of each folder's `__init__` says what it may import:

- subject: loads a model, a text and its reference. model: everything that touches the user's model and process.
- rules: the exact rules as formulas, one family a file. exact: `DeepLift`, which runs a model with them.
- recording: `record` and `watch`, which observe a run. ledger: shares the delta out to the calls of that run.
- tracefile: the file of a trace, written and read. records: the plain records in it. ops: what is known of each op.
- analysis: what is computed from a trace, from verdict to comparison. diagnosis: `diagnose`, which names the faults.
- counterfactuals: `repair`, which measures what each change of a rule does to the delta.
- report: a trace as text, Markdown, HTML, SVG, JSON, CSV, safetensors. demo, testing, commands, cli: uses of all this.

The public names are loaded when they are first used, so that reading a saved trace never loads torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tracer import errors

if TYPE_CHECKING:
    from tracer.counterfactuals.search import repair
    from tracer.diagnosis.faults import diagnose
    from tracer.exact.deeplift import DeepLift
    from tracer.recording.options import Details
    from tracer.recording.record import record
    from tracer.recording.watch import watch
    from tracer.tracefile.trace import Trace, open_trace

__version__ = "0.1.0"
__all__ = ["DeepLift", "Details", "Trace", "diagnose", "errors", "open_trace", "record", "repair", "watch"]

_HOMES = {
    "DeepLift": "tracer.exact.deeplift",
    "Trace": "tracer.tracefile.trace",
    "diagnose": "tracer.diagnosis.faults",
    "open_trace": "tracer.tracefile.trace",
    "record": "tracer.recording.record",
    "repair": "tracer.counterfactuals.search",
    "watch": "tracer.recording.watch",
    "Details": "tracer.recording.options",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
