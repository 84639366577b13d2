"""What all screens share: the trace, which call and example are looked at, and the figures that follow from them."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property

from tracer.analysis.severity import DIVERGING_SHARE
from tracer.analysis.verdict import Verdict, changes, verdict
from tracer.errors import TracerError
from tracer.records import Finding
from tracer.text import clean
from tracer.tracefile.trace import Trace
from tui.model.figures import Figures, derive
from tui.model.history import History
from tui.model.settings import Settings

THRESHOLDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


class Session:
    """One sitting with a trace. `example` is None for the sums over all examples; `node` is −1 without calls.

    `revision` counts the changes of example, threshold or trace: a screen that has shown it is up to date.
    """

    def __init__(self, trace: Trace, other: Trace | None = None, settings: Settings | None = None) -> None:
        self.trace = trace
        self.other = other
        self.settings = settings if settings is not None else Settings()
        self.example: int | None = None
        self.threshold = DIVERGING_SHARE
        self.marks: set[int] = set()
        self.history = History()
        self.revision = 0
        self.findings_problem = ""
        self.stage = ""
        self._derive()
        self.node = self.figures.worst if len(self.figures) else -1

    figures: Figures
    verdict: Verdict

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """The diagnosis of the example; empty where it fails, and `findings_problem` says why."""
        from tracer.diagnosis.faults import diagnose

        try:
            return tuple(diagnose(self.trace, self.example))
        except TracerError as error:
            self.findings_problem = str(error)
            return ()

    def set_example(self, example: int | None) -> None:
        """Look at one example, or at the sums over all; the caller tells the screens."""
        if example is not None and not 0 <= example < self.trace.run.examples:
            example = None
        if example != self.example:
            self.example = example
            self._derive()

    def step_example(self, step: int) -> None:
        """To the next example or the one before; the sums stand between the last and the first."""
        count = self.trace.run.examples
        if count > 1:
            place = (0 if self.example is None else self.example + 1) + step
            place %= count + 1
            self.set_example(place - 1 if place else None)

    def step_threshold(self, step: int) -> bool:
        """Take the next higher or lower threshold; False at the end of the scale."""
        place = min(range(len(THRESHOLDS)), key=lambda index: abs(math.log(THRESHOLDS[index] / self.threshold))) + step
        if not 0 <= place < len(THRESHOLDS):
            return False
        self.threshold = THRESHOLDS[place]
        self._derive()
        return True

    def set_trace(self, trace: Trace) -> None:
        """Show a trace as it is now; calls keep their ids, as a trace that is being recorded only grows."""
        self.trace = trace
        self._derive()
        count = len(self.figures)
        self.node = min(self.node, count - 1) if self.node >= 0 else (self.figures.worst if count else -1)
        self.marks = {mark for mark in self.marks if mark < count}

    def set_stage(self, stage: str) -> None:
        """Note what the recording beside the view is doing; "" if there is none."""
        if stage != self.stage:
            self.stage = stage
            self._derive()

    def _derive(self) -> None:
        self.figures = figures_of(self.trace, self.example, self.threshold)
        self.verdict = verdict(self.trace, self.example)
        if self.stage and self.trace.run.status == "recording":
            stage = clean(self.trace.run.message or self.stage, 120)
            self.verdict = replace(self.verdict, headline=f"Recording, {stage}. The figures are not complete.")
        self.__dict__.pop("findings", None)
        self.findings_problem = ""
        self.revision += 1


def figures_of(trace: Trace, example: int | None = None, threshold: float = DIVERGING_SHARE) -> Figures:
    """The figures of all calls of a trace, of one example or summed over all."""
    columns, run = trace.columns, trace.run
    leak, self_leak = trace.leaks(example)
    change = changes(run)
    return derive(
        parent=columns.parent,
        end=columns.end,
        depth=columns.depth,
        leak=leak,
        self_leak=self_leak,
        gain=columns.gain,
        call=columns.call,
        seconds=columns.seconds,
        kinds=columns.kinds,
        types=columns.types,
        paths=columns.paths,
        change=float(change.sum() if example is None else change[example]),
        diverging_share=threshold,
        complete=run.status == "complete",
    )
