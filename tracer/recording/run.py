"""Makes a trace of one run: opens its file, settles what is observed, writes the ledger's rows, notes and figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import nn

from tracer.errors import ObservationError, TracerError
from tracer.ledger.arrays import as_array
from tracer.ledger.rows import rows
from tracer.ledger.settling import Settling
from tracer.ledger.spill import Spill
from tracer.ledger.wires import Observation
from tracer.model.hooks import module_paths
from tracer.recording.captum import CaptumResult, hook_report
from tracer.recording.journal import Journal
from tracer.recording.notes import after_run, of_result
from tracer.recording.options import PanelMaker, StorageOptions
from tracer.recording.versions import installed_versions
from tracer.records import Floats, Note, Panel, Run, Status
from tracer.tracefile.trace import Trace
from tracer.tracefile.writer import TraceWriter

Probe = Callable[[Observation], Iterable[Note]]
"""Runs the model again after the recording, and notes what that shows."""


@dataclass(slots=True)
class Outcome:
    """What the attribution method itself reported; None for what it did not report.

    `output` is (f(x), f(x')) at the target, `notes` are the method's own. `captum` is what captum's own `attribute`
    gave, in a run of it that was watched.
    """

    delta: Floats | None = None
    output: tuple[Floats, Floats] | None = None
    attributions: tuple[torch.Tensor, ...] | None = None
    panel_maker: PanelMaker | None = None
    notes: Sequence[Note] = ()
    probe: Probe | None = None
    captum: CaptumResult | None = None
    status: Status = "complete"
    message: str = ""


class TraceRecording:
    """Context of one recorded run: give its `journal` and `settle` to the recorder, then call `finish`.

    Leaving the context before `finish` leaves a trace of status "failed" with the calls that the journal has, or no
    file if the run has not begun.
    """

    def __init__(self, model: nn.Module, storage: StorageOptions, method: str, rulebook: str = "") -> None:
        self.storage = storage
        self.method = method
        self.rulebook = rulebook
        self.paths: Mapping[nn.Module, str] = storage.details.names or module_paths(model)
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._head = self._head_for(model)
        self._clock = time.perf_counter()
        self._settling: Settling | None = None

    def __enter__(self) -> Self:
        self._writer = TraceWriter(self.storage.path, self.storage.force, self.storage.max_bytes)
        self.journal = Journal(self._writer, self._head)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, traceback)

    def turn_to(self, model: nn.Module) -> None:
        """Record another model than the one that was asked for; before the run begins."""
        self.paths = module_paths(model)
        self._head = self.journal.head = self._head_for(model)

    def _head_for(self, model: nn.Module) -> Callable[[int], Run]:
        # A function, not a method: the journal holds it, and would hold this object, which holds the journal.
        name = self.storage.details.model or type(model).__name__
        return partial(_head, self.storage, self.method, self.rulebook, name, self._started)

    def settle(self, observation: Observation) -> Settling:
        """The object that settles the wires of the run, which begins."""
        sink = self._writer if self.storage.capture == "tensors" else None
        folder = None if self.storage.path is None else Path(self.storage.path).parent
        self._settling = Settling(observation, sink, Spill(folder))
        return self._settling

    def discard(self) -> None:
        """End without a trace and without a file."""
        self._writer.discard()

    @np.errstate(over="ignore", invalid="ignore")  # the figures of a run may be anything
    def finish(self, observation: Observation, outcome: Outcome) -> Trace:
        """The trace, with the ledger's rows, the panel, the notes and the final head of the run.

        Raises the error that the journal or the settling kept: `ObservationError` for what is not ours.
        """
        if self.journal.error is not None:
            raise self.journal.error
        writer = self._writer
        seconds = time.perf_counter() - self._clock
        settling = self._settled(observation, outcome)
        delta = settling.delta if outcome.delta is None else outcome.delta
        attributions = outcome.attributions or settling.attributions
        run = replace(
            self._head(observation.examples), message="the calls are known, the sanity panel is not", seconds=seconds,
            output=settling.output, output_reference=settling.output_reference,
            delta=np.asarray(delta, dtype=np.float64),
        )  # fmt: skip
        writer.begin(run)
        for node, edges in rows(settling):
            writer.add(node, edges)
        arrays = [as_array(tensor) for tensor in attributions]
        writer.set_attributions(
            [writer.put_tensor(array.content, array.dtype, array.shape, always=True) for array in arrays]
        )
        writer.commit()  # so that the ledger is safe, and seen, while the panel and the probe run the model again
        captum = self.method == "captum"
        hooks = hook_report(observation, installed_versions().get("captum", "")) if captum else None
        if outcome.panel_maker is not None and outcome.status == "complete":
            panel = outcome.panel_maker(attributions, delta, hooks)
        else:
            panel = Panel(hooks=hooks)
        writer.add_notes(list(_notes(observation, outcome, self.paths, settling)))
        writer.finish(replace(run, status=outcome.status, message=outcome.message, panel=panel))
        return writer.trace()

    def _settled(self, observation: Observation, outcome: Outcome) -> Settling:
        settling = self._settling if self._settling is not None else self.settle(observation)
        settling.finish(outcome.output)
        error = settling.error
        if isinstance(error, TracerError):
            raise error
        if error is not None:
            raise ObservationError(f"no trace can be made of this run ({type(error).__name__}: {error})") from error
        return settling


def _head(storage: StorageOptions, method: str, rulebook: str, model: str, started: str, examples: int) -> Run:
    """The head of the run with what is known before it."""
    details = storage.details
    unknown = np.full(examples, np.nan)
    return Run(
        model=model, method=method, variant=details.variant, status="recording", message="", started=started,
        seconds=float("nan"), capture=storage.capture, rulebook=rulebook, versions=dict(installed_versions()),
        target=details.target, text=details.text, reference=details.reference, tokens=details.tokens,
        reference_tokens=details.reference_tokens, output=unknown, output_reference=unknown, delta=unknown,
        panel=Panel(), command=details.command,
    )  # fmt: skip


def _notes(
    observation: Observation, outcome: Outcome, paths: Mapping[nn.Module, str], settling: Settling
) -> Iterable[Note]:
    """All notes: by the method, by the recorder, on the finished run, and by the probe."""
    delta = settling.delta
    found = [*outcome.notes, *observation.notes, *after_run(observation, {path: m for m, path in paths.items()})]
    for note in found:
        if note.kind == "in-place input" and outcome.delta is not None:
            # captum takes f(x) − f(x') from the model without its hooks, the ledger from the run that it hooked.
            note = replace(note, amount=float(np.abs(outcome.delta - delta).max(initial=0.0)))
        if note.kind == "non-tensor output" and outcome.status == "complete":
            note = replace(note, detail=f"{note.detail}; its logits, or first tensor, are explained")
        yield note
    if outcome.captum is not None and outcome.status == "complete":
        yield from of_result(outcome.captum, settling, {note.kind for note in found})
    if outcome.probe is not None and outcome.status == "complete":
        yield from outcome.probe(observation)
