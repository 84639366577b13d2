"""Every error that a user can cause. An error says what was seen, what was expected and what to do next."""

from __future__ import annotations

from typing import Any


class TracerError(Exception):
    """Base of all errors below; the command line prints it as one line and exits with 2.

    `trace` is the `tracer.Trace` of the calls before a recording failed, None where there were none: its status is
    "failed", its notes say what was noticed, and `tracer.diagnose` names the fault.
    """

    trace: Any = None


class ModelError(TracerError):
    """The model cannot be found, loaded or observed."""


class InputError(TracerError):
    """Text, inputs, reference or target do not fit the model or each other."""


class TraceFileError(TracerError):
    """A file is not a trace, is damaged, or comes from a newer version."""


class ObservationError(TracerError):
    """No attribution could be observed, or it ended before it was complete."""
