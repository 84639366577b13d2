"""An empty trace, which the view shows until there is a real one."""

from __future__ import annotations

import numpy as np

from tracer.records import Panel, Run
from tracer.tracefile.trace import Trace
from tracer.tracefile.writer import TraceWriter


def empty_trace(model: str = "", message: str = "") -> Trace:
    """A trace in memory that is being recorded and has no calls; `message` says how far the recording is."""
    nothing = np.zeros(0)
    run = Run(
        model=model, method="", variant="", status="recording", message=message, started="", seconds=0.0,
        capture="summary", rulebook="", versions={}, target="", text="", reference="", tokens=(), reference_tokens=(),
        output=nothing, output_reference=nothing, delta=nothing, panel=Panel(),
    )  # fmt: skip
    writer = TraceWriter(None)
    writer.begin(run)
    return writer.trace()
