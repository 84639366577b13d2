"""`tracer.watch`: records the user's own captum call."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from os import PathLike
from types import TracebackType
from typing import Any, Self

from torch import nn

from tracer.errors import ObservationError, TracerError
from tracer.ledger.wires import Border, Observation
from tracer.model.captum_runs import attributions_told
from tracer.model.exclusive import in_use
from tracer.model.hooks import listening
from tracer.model.process import uncompiled
from tracer.model.restore import captum_leftovers
from tracer.model.undo import Level, remove_stale_modes, restoring_modes
from tracer.model.unsupported import check_model
from tracer.recording.captum import border_of, captum_inputs, captum_rule, given_notes, is_related, result_of
from tracer.recording.failure import said
from tracer.recording.options import Capture, Details, StorageOptions
from tracer.recording.preconditions import check_request, refuse_nesting
from tracer.recording.probe import doubled_note, examples_of
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
        self._recorder: Recorder | None = None
        self._observation: Observation | None = None
        self._lift: Any = None
        self._under_way: Any = None
        self._later_runs = 0
        self._others: list[str] = []

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
            opening.enter_context(self._recording)
            self._remove_leftovers = [captum_leftovers(self._model)]
            self._observing = opening.enter_context(ExitStack())
            self._observing.enter_context(attributions_told(self))
            self._running = opening.enter_context(ExitStack())
            self._open = opening.pop_all()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            with ExitStack() as ending:
                ending.push(self._open)
                self._running.close()
                self._observing.close()
                if error is not None:
                    for remove in self._remove_leftovers:
                        remove()
                self._finish(error)
        finally:
            self._lift = self._under_way = None
            self.outcome.captum = None
            try:
                self._level.put_back()
            except KeyboardInterrupt:
                self._level.put_back()
                raise

    # --- what captum does inside the block ----------------------------------------------------------------------------

    def begin(self, lift: Any, arguments: dict[str, Any]) -> None:
        """Observe the run of a model that captum's DeepLift is about to make, if it is the watched one's first."""
        if self._under_way is not None:
            return
        self._under_way, model = lift, lift.model
        if not is_related(self._model, model):
            self._others.append(type(model).__name__)
        elif self._lift is not None:
            self._later_runs += 1
        else:
            self._lift = lift
            self.outcome.notes = list(given_notes(self._model, model))
            if isinstance(model, nn.Module):
                self._observe(model, border_of(lift, arguments))

    def _observe(self, model: nn.Module, border: Border | None) -> None:
        recording, running = self._recording, self._running
        if model is not self._model:
            check_model(model)
            running.enter_context(in_use(model))
            self._remove_leftovers.append(captum_leftovers(model))
            recording.turn_to(model)
        self._recorder = Recorder(
            model,
            captum_inputs,
            rule_of=captum_rule,
            root_type=recording.storage.details.type if model is self._model else "",
            journal=recording.journal,
            settling=recording.settle,
            enters_itself=True,
            border=border,
        )
        running.enter_context(uncompiled())
        running.enter_context(listening(recording.paths, self._recorder))

    def end(self, lift: Any) -> None:
        """Stop observing: what captum runs from here on, it runs without gradients for its delta."""
        if lift is not self._under_way:
            return
        self._under_way = None
        if lift is self._lift and self._recorder is not None:
            self._recorder.abandon()  # if Ctrl-C has left calls open
            self._running.close()

    def returned(self, lift: Any, arguments: dict[str, Any], result: Any) -> None:
        """Keep what captum gave, for the notes on it."""
        if lift is self._lift and self.outcome.captum is None and not self._later_runs:
            self.outcome.captum = result_of(lift, arguments, result)

    def failed(self, lift: Any, arguments: dict[str, Any], error: BaseException) -> None:
        """Keep what captum failed with, and look whether the model takes no batch of twice the rows."""
        if lift is not self._lift or self._later_runs or isinstance(error, TracerError):
            return
        self.outcome.status, self.outcome.message = "failed", said(error)
        if not isinstance(lift.model, nn.Module):
            self._observation = Observation.of_root(type(lift.model).__name__, examples_of(arguments), doubled=True)
        elif isinstance(error, Exception):
            for remove in self._remove_leftovers:
                remove()
            note = doubled_note(lift.model, arguments, error)
            self.outcome.notes = [*self.outcome.notes, *([] if note is None else [note])]

    # --- the trace ----------------------------------------------------------------------------------------------------

    def _finish(self, error: BaseException | None) -> None:
        observation = self._observation if self._recorder is None else self._recorder.observation
        if observation is None or not observation.calls:
            if error is None:
                given = f" (DeepLift was given another: {', '.join(dict.fromkeys(self._others))})" * bool(self._others)
                raise ObservationError(
                    f"no captum DeepLift attribution of this model was seen inside the `with` block{given}: "
                    "watch the very module that DeepLift was given, and call .attribute(...) inside the block"
                )
            return
        if self._later_runs:
            warnings.warn(
                f"{self._later_runs + 1} attributions ran inside one `with` block: the trace is of the first; "
                "open a block for each",
                stacklevel=3,
            )
        if error is not None:
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
