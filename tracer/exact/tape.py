"""The ops of the reference run in execution order, with the operands that their rules need.

The reference run writes the tape, the input run reads it; both must take the same path through the model.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tracer.errors import ObservationError
from tracer.model.source import source_line

KeptOperands = list[Tensor | None]
"""The operands of one op that its rule needs of the reference run; None for the others."""


@dataclass(slots=True)
class _Step:
    name: str
    source: str
    operands: KeptOperands


class Tape:
    """A list of steps that is written from the start, then read from the start."""

    def __init__(self) -> None:
        self.writing = False
        self._steps: list[_Step] = []
        self._position = 0

    def write(self) -> None:
        """Begin a new tape."""
        self._steps.clear()
        self.writing = True

    def read(self) -> None:
        """Go back to the first step."""
        self._position = 0
        self.writing = False

    def step(self, name: str, operands: KeptOperands | None = None) -> KeptOperands:
        """Append the op `name`; or, in reading, what the reference kept of it, which is then forgotten.

        `ObservationError` where the reference ran another op here, or had come to its end.
        """
        if self.writing:
            self._steps.append(_Step(name, source_line() or "?", [] if operands is None else operands))
            return []
        if self._position >= len(self._steps):
            raise ObservationError(
                f"the input run goes on with {name} at {source_line()}, the reference run ended before it; "
                "exact rules need both runs to take the same path through the model"
            )
        step = self._steps[self._position]
        if step.name != name or (operands is not None and len(step.operands) != len(operands)):
            raise ObservationError(
                f"input and reference take different paths through the model: the reference ran {step.name} at "
                f"{step.source}, the input {name} at {source_line()}"
            )
        self._position += 1
        kept, step.operands = step.operands, []
        return kept

    def check_read_to_the_end(self) -> None:
        """`ObservationError` where the input run ended before the reference run did."""
        if self._position < len(self._steps):
            step = self._steps[self._position]
            raise ObservationError(
                f"the reference run went on with {step.name} at {step.source}, the input run ended before it; "
                "exact rules need both runs to take the same path through the model"
            )
        self._steps.clear()
