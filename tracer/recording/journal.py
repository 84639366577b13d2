"""The journal of a running recording: what the file shows of a run that is not over, or that was killed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from tracer.errors import TraceFileError
from tracer.ledger.wires import Observation, ObservedCall
from tracer.records import Node, Run
from tracer.tracefile.writer import TraceWriter

_SECONDS = 0.5  # between two commits
_SHARE = 20  # a commit may take a twentieth of the time between two


class Journal:
    """Writes the head of a run when it begins, then now and then the calls so far; the ledger replaces them at the end.

    `head` gives the head of a run of so many examples. The calls' figures are NaN until the multipliers are known. A
    file that cannot be written does not disturb the run: the `error` is kept for its end.
    """

    def __init__(self, writer: TraceWriter, head: Callable[[int], Run]) -> None:
        self.writer = writer
        self.head = head
        self.error: TraceFileError | None = None
        self._depths: list[int] = []
        self._unfinished: list[ObservedCall] = []
        self._due = math.inf

    def begin(self, examples: int) -> None:
        """The run begins: from here on the file can be opened."""
        with self._undisturbed():
            self.writer.begin(self.head(examples))
            self._due = time.monotonic() + _SECONDS

    def forward(self, observation: Observation) -> None:
        """A call has ended."""
        if time.monotonic() >= self._due:
            self._write(observation, f"forward pass: {len(observation.calls)} calls so far")

    def backward(self, observation: Observation) -> None:
        """A multiplier has come."""
        if time.monotonic() >= self._due:
            self._write(observation, f"backward pass through {len(observation.calls)} calls")

    def _write(self, observation: Observation, message: str) -> None:
        started = time.monotonic()
        with self._undisturbed():
            self.writer.note_progress(message, list(self._changed(observation)))
            ended = time.monotonic()
            self._due = ended + max(_SECONDS, _SHARE * (ended - started))

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        try:
            yield
        except TraceFileError as error:
            self.error, self._due = error, math.inf

    def _changed(self, observation: Observation) -> Iterator[Node]:
        """The calls that are new, or that had not ended, when the journal was last written."""
        calls = observation.calls
        fresh = calls[len(self._depths) :]
        for call in fresh:
            self._depths.append(0 if call.parent is None else self._depths[call.parent] + 1)
        changed = [*self._unfinished, *fresh]
        self._unfinished = [call for call in changed if not call.end]
        unknown = np.full(observation.examples, np.nan)
        for call in changed:
            yield Node(
                id=call.index, parent=call.parent, end=call.end or len(calls), depth=self._depths[call.index],
                path=call.path, call=call.number, kind=call.kind, type=call.type, source=call.source, rule=call.rule,
                leak=unknown, self_leak=unknown, gain=float("nan"), relative_leak=float("nan"),
                largest_secant=float("nan"), small_differences=0, dropped_differences=0, nonfinite=0,
                seconds=call.seconds,
            )  # fmt: skip
