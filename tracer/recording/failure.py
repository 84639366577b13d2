"""What a recording says of a run that failed."""

from __future__ import annotations

from os import PathLike

from tracer.diagnosis.faults import ended_by
from tracer.errors import ObservationError
from tracer.model.unsupported import explained
from tracer.tracefile.trace import Trace


def said(error: BaseException) -> str:
    """The type and the words of an error, which may have several lines, for the message of a run."""
    return "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"


def failed(what: str, error: Exception, trace: Trace | None, path: str | PathLike[str] | None) -> ObservationError:
    """The error to raise when `what` ended with `error`, raised by the model or captum; it names the fault if known.

    `trace` has the calls up to the failure; they are also in the file `path` if one was given.
    """
    fault = None if trace is None else ended_by(trace)
    if fault is None:
        reason = explained(error) or " ".join(str(error).split())[:300]
    else:
        reason = f"{fault.message}; {fault.advice}"
    kept = "" if trace is None or path is None else f" (its calls so far are in {path})"
    named = ObservationError(f"{what} ended with {type(error).__name__}: {reason}{kept}")
    named.trace = trace
    return named
