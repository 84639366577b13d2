"""`tracer.watch`: records the user's own captum call."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from os import PathLike
from types import TracebackType
from typing import Self

from torch import nn

from tracer.errors import ObservationError
from tracer.model.exclusive import in_use
from tracer.model.hooks import listening
from tracer.model.process import uncompiled
from tracer.model.restore import captum_leftovers
from tracer.model.undo import Level, remove_stale_modes, restoring_modes
from tracer.recording.captum import captum_inputs, captum_rule
from tracer.recording.failure import said
from tracer.recording.options import Capture, Details, StorageOptions
from tracer.recording.preconditions import check_request, refuse_nesting
from tracer.recording.recorder import Recorder
from tracer.recording.run import Outcome, TraceRecording
from tracer.tracefile.trace import Trace


class Watching:
    """The context that `watch` returns; after it, `trace` is the trace of the observed attribution."""

    def __init__(self, model: nn.Module, storage: StorageOptions) -> None:
        self.outcome = Outcome()
        self._model = model
        self._recording = TraceRecording(model, storage, "captum")
        self._trace: Trace | None = None

    @property
    def partial(self) -> Trace | None:
        """The trace, of a run that failed with the calls so far; None if there is none."""
        return self._trace

    @property
    def trace(self) -> Trace:
        """The trace; `ObservationError` while the context is still open."""
        if self._trace is None:
            raise ObservationError("the trace is made when the `with` block ends: read it after the block")
        return self._trace

    def __enter__(self) -> Self:
        remove_stale_modes()
        refuse_nesting()
        self._level = Level()
        try:
            self._begin()
        except BaseException:
            self._level.put_back()
            raise
        return self

    def _begin(self) -> None:
        with ExitStack() as opening:
            opening.enter_context(restoring_modes())
            opening.enter_context(in_use(self._model))
            recording = opening.enter_context(self._recording)
            self._recorder = Recorder(
                self._model,
                captum_inputs,
                rule_of=captum_rule,
                root_type=recording.storage.details.type,
                journal=recording.journal,
                settling=recording.settle,
            )
            self._remove_leftovers = captum_leftovers(self._model)
            self._observing = opening.enter_context(ExitStack())
            self._observing.enter_context(uncompiled())
            self._observing.enter_context(listening(recording.paths, self._recorder))
            self._observing.enter_context(self._recorder)
            self._open = opening.pop_all()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            with ExitStack() as ending:
                ending.push(self._open)
                self._observing.close()
                if error is not None:
                    self._remove_leftovers()
                self._finish(error)
        finally:
            try:
                self._level.put_back()
            except KeyboardInterrupt:
                self._level.put_back()
                raise

    def _finish(self, error: BaseException | None) -> None:
        observation = self._recorder.observation
        if observation is None or not observation.calls:
            if error is None:
                raise ObservationError(
                    "no captum DeepLift attribution of this model was seen inside the `with` block: "
                    "watch the very module that DeepLift was given, and call .attribute(...) inside the block"
                )
            return
        if self._recorder.later_runs:
            warnings.warn(
                f"{self._recorder.later_runs + 1} attributions ran inside one `with` block: the trace is of the first; "
                "open a block for each",
                stacklevel=3,
            )
        if error is not None:
            self._recorder.abandon()
            self.outcome.status, self.outcome.message = "failed", said(error)
        try:
            self._trace = self._recording.finish(observation, self.outcome)
        except Exception:
            if error is None:  # otherwise the run's own error says more
                raise


def watch(
    model: nn.Module,
    path: str | PathLike[str] | None = None,
    capture: Capture = "tensors",
    *,
    force: bool = False,
    details: Details | None = None,
    max_bytes: int | None = None,
) -> Watching:
    """A context that observes one call of `captum.attr.DeepLift(model).attribute(...)`; then its `.trace` is the trace.

    `path` is the trace file to write (None: kept in memory), `capture` "tensors" or "summary" (figures only);
    `max_bytes` bounds the stored tensors, the rest is kept as figures. An existing file is refused unless `force`. The
    attribution is bit for bit the same as without observation. If it raises, the calls so far are kept in a trace of
    status "failed", in which `tracer.diagnose` names the fault, and the exception is passed on. Recordings in one
    thread do not nest, and two threads cannot record one model at once.

    After a success the model is as captum leaves it. After an exception it is as it was: what captum leaves on modules
    is removed. Only `requires_grad`, which captum sets on the given inputs, stays set, as without observation.
    """
    check_request(model, capture)
    return Watching(model, StorageOptions(path, capture, force, max_bytes, details or Details()))
