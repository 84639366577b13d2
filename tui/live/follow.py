"""Lets the view grow with a trace that is being recorded."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from tracer.errors import TraceFileError
from tui.live.watch import Watch

if TYPE_CHECKING:
    from tracer.tracefile.trace import Trace
    from tui.app import TracerApp
    from tui.live.process import RecordingProcess

_SECONDS = 0.5
_SHARE = 5
"""Reading a large trace again may take a fifth of the time between two looks, no more."""


async def follow(app: TracerApp, watch: Watch, recording: RecordingProcess | None = None) -> None:
    """Show each new state of the file, until its run is over and, if a process records it here, that has ended.

    A process that fails before there is anything to show ends the view.
    """
    session = app.session
    while app.session is session:
        ended = recording is None or not recording.running  # asked before the look: what came before it is seen
        started = time.monotonic()
        trace = await asyncio.to_thread(watch.look)
        if trace is not None and app.session is session:
            _take(app, trace)
        if recording is not None and app.session is session and session.trace.path is not None:
            session.set_stage("" if ended or not recording.lines else recording.lines[-1].rstrip(" .…"))
            app.session_changed()
        status = session.trace.run.status
        if ended and (status != "recording" or recording is not None):
            break
        await asyncio.sleep(max(_SECONDS, _SHARE * (time.monotonic() - started)))
    if recording is not None and recording.failure:
        if session.trace.path is None:
            app.exit()
        else:
            app.notify(recording.failure, severity="error", markup=False, timeout=10)


def _take(app: TracerApp, trace: Trace) -> None:
    """Show the trace as it is now; the cursor stays unless nobody has moved it yet."""
    session = app.session
    before, old = session.trace.run.status, session.trace
    try:
        session.set_trace(trace)
    except TraceFileError:  # it changed between two queries: the next look reads it whole
        session.set_trace(old)
        return
    app.session_changed()
    app.trace_arrived()
    if before == "recording" and trace.run.status != "recording" and session.node <= 0 and len(session.figures):
        app.select_worst()
