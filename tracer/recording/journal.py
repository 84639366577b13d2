"""The journal: writes the calls so far during a run, so that the file shows a run that goes on, or that was killed."""

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
_SHARE = 20  # the time between two commits is at least so many times what a commit takes


class Journal:
    """Writes the head of a run when it begins, then from time to time the calls so far; the ledger replaces them later.

    `head` makes the head of a run of a number of examples. The figures of the calls are NaN. A file that cannot be
    written does not disturb the run: the error is kept in `error`.
    """

    def __init__(self, writer: TraceWriter, head: Callable[[int], Run]) -> None:
        self.writer = writer
        self.head = head
        self.error: TraceFileError | None = None
        self._depths: list[int] = []
        self._unfinished: list[ObservedCall] = []
        self._due = math.inf

    def begin(self, examples: int) -> None:
        """Begin the file; from here on others can open it."""
        with self._keeping_error():
            self.writer.begin(self.head(examples))
            self._due = time.monotonic() + _SECONDS

    def forward(self, observation: Observation) -> None:
        """Note that a call of the forward pass has ended."""
        if time.monotonic() >= self._due:
            self._write(observation, f"forward pass: {len(observation.calls)} calls so far")

    def backward(self, observation: Observation) -> None:
        """Note that a multiplier has arrived."""
        if time.monotonic() >= self._due:
            self._write(observation, f"backward pass through {len(observation.calls)} calls")

    def _write(self, observation: Observation, message: str) -> None:
        started = time.monotonic()
        with self._keeping_error():
            self.writer.note_progress(message, list(self._changed(observation)))
            ended = time.monotonic()
            self._due = ended + max(_SECONDS, _SHARE * (ended - started))

    @contextmanager
    def _keeping_error(self) -> Iterator[None]:
        try:
            yield
        except TraceFileError as error:
            self.error, self._due = error, math.inf

    def _changed(self, observation: Observation) -> Iterator[Node]:
        """The calls that began, or had not ended, since the journal was last written."""
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
