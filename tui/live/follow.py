"""Shows a trace while it is recorded: each new state of its file, until the run is over."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from tracer.errors import TraceFileError
from tracer.tracefile.trace import Trace
from tui.live.process import RecordingProcess
from tui.live.watch import Watch
from tui.model.session import Session

_SECONDS = 0.5
_SHARE = 5
"""The pause between two looks is at least so many times as long as the look took."""


class Viewer(Protocol):
    """What following needs of the application."""

    session: Session

    def session_changed(self) -> None:
        """The session's trace is another one, or has grown."""

    def trace_arrived(self) -> None:
        """There is a trace to show."""

    def select_worst(self) -> None:
        """Put the cursor on the worst call."""

    def recording_failed(self, reason: str) -> None:
        """The process that records has failed."""


async def follow(app: Viewer, watch: Watch, recording: RecordingProcess | None = None) -> None:
    """Show each new state of the file, until its run is over and, if a process records it here, that has ended."""
    session = app.session
    while app.session is session:
        # Asked before the look, so that the look sees what was written before the end.
        ended = recording is None or not recording.running
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
        app.recording_failed(recording.failure)


def _take(app: Viewer, trace: Trace) -> None:
    """Show the trace as it is now; at the end the cursor goes to the worst call, unless the user has moved it."""
    session = app.session
    before, old = session.trace.run.status, session.trace
    try:
        session.set_trace(trace)
    except TraceFileError:  # it changed between two queries: the next look reads it again
        session.set_trace(old)
        return
    app.session_changed()
    app.trace_arrived()
    if before == "recording" and trace.run.status != "recording" and session.node <= 0 and len(session.figures):
        app.select_worst()
