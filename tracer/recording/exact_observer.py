"""Observes the runs of `tracer.DeepLift` for `tracer.record`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import Node

from tracer.exact.paired import PairedEvaluation
from tracer.ledger.wires import AttributedInputs, Observation
from tracer.model.hooks import listening
from tracer.recording.recorder import Recorder
from tracer.recording.reference_log import ReferenceLog
from tracer.recording.run import TraceRecording


class RunObserver:
    """Observes the two runs of one attribution by `tracer.DeepLift`: logs the reference's, records the input's."""

    def __init__(self, model: nn.Module, recording: TraceRecording) -> None:
        self.model = model
        self.names: Mapping[nn.Module, str] | None = recording.paths
        self._recording = recording
        self.log: ReferenceLog | None = None
        self.recorder: Recorder | None = None
        self._references: tuple[Tensor, ...] = ()

    @contextmanager
    def reference_run(self, engine: PairedEvaluation, references: tuple[Tensor, ...]) -> Iterator[None]:
        """Log the reference's run."""
        self._references = tuple(reference.detach() for reference in references)
        self._recording.journal.begin(references[0].shape[0])
        self.log = ReferenceLog(self.model, engine.twin_of)
        with listening(self._recording.paths, self.log), self.log:
            yield

    @contextmanager
    def input_run(self, engine: PairedEvaluation, inputs: int, examples: int) -> Iterator[None]:
        """Record the input's run, or that of the doubled batch; `inputs` is how many tensors are attributed to, of so
        many `examples`."""
        log, references = self.log, self._references  # not `self`: it holds the recorder, which would hold it

        def attributed(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> AttributedInputs:
            return AttributedInputs(
                list(args[:inputs]), None if log is None else list(references), examples, doubled=log is None
            )

        self.recorder = Recorder(
            self.model,
            attributed,
            rule_of=lambda module: "captum" if module in engine.ruled else None,
            rule_of_node=_rule_of_node,
            log=log,
            root_type=self._recording.storage.details.type,
            journal=self._recording.journal,
            settling=self._recording.settle,
            twin_of=engine.twin_of,
        )
        with listening(self._recording.paths, self.recorder), self.recorder:
            yield

    @property
    def observation(self) -> Observation:
        """What was observed of the input's run, after it."""
        assert self.recorder is not None
        assert self.recorder.observation is not None
        return self.recorder.observation

    def abandoned(self) -> Observation | None:
        """The calls of a run that failed; of the reference's run only the model's row, None if nothing ran."""
        if self.recorder is None or self.recorder.observation is None or not self.recorder.observation.calls:
            if not self._references:
                return None
            shown = self._recording.storage.details.type or type(self.model).__name__
            return Observation.of_root(shown, self._references[0].shape[0], doubled=False)
        self.recorder.abandon()
        return self.recorder.observation


def _rule_of_node(node: Node) -> str | None:
    """The exact rule that a graph node stands for; None for autograd's own nodes."""
    replacement = getattr(node, "replacement", None)
    return None if replacement is None else str(replacement.rule)
