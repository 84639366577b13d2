"""What the recorder notes while a model runs: calls, wires and uses. Live tensors; the ledger makes records of them.

A *wire* is one tensor value between calls. A *use* is one call (or one reshaping op) taking a wire. Their multipliers:
a use's is the gradient that this use alone sends back, a wire's is what finally arrives at its producer, after every
hook that anybody set on the tensor. The two differ only where a hook rewrote the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from tracer.ledger.example_axis import ExamplePlace
from tracer.ledger.spill import HeldArray
from tracer.records import Floats, NodeKind, Note, Statistics, TensorRef


@dataclass(frozen=True, slots=True, eq=False)
class AttributedInputs:
    """What a call of the model attributes to. With `doubled`, input and reference share one batch, the input in its
    first half.

    `joined_later`: captum's hook on the model is about to join `inputs` and `references`; otherwise `inputs` are what
    the model gets, and `references` their values in the reference's own run (None where they are in the batch).
    """

    inputs: list[torch.Tensor]
    references: list[torch.Tensor] | None
    examples: int
    doubled: bool
    joined_later: bool = False


@dataclass(frozen=True, slots=True)
class ValueFigures:
    """What is known of a wire before its multiplier: shape and dtype of one run's tensor, figures, stored tensors."""

    shape: tuple[int, ...]
    dtype: str
    value_statistics: Statistics | None
    reference_statistics: Statistics | None
    difference_statistics: Statistics | None
    value: TensorRef | None
    reference: TensorRef | None


@dataclass(eq=False, slots=True)
class Wire:
    """A tensor value: `value` as observed, `place` of the examples in it, `reference` where a run of its own gave it.

    `producer` is the index of the call that made it (None: it came from outside), `parent` the wire of which it is a
    view, slice or copy. `multiplier` has the shape of `value`. `shown`: it is an argument or a result of some call, not
    only a step between two of them. A wire put aside has `value_figures`, and Δ in `held`; its
    `value` keeps the shape and dtype only (a tensor on the device "meta"). Once it is `settled`, its edges are made, no
    tensor is left, and `flow` = Σ m·Δ of what arrived is known, float64 (E,), None for zeros.
    """

    index: int
    value: torch.Tensor
    place: ExamplePlace | None
    producer: int | None
    parent: Wire | None = None
    reference: torch.Tensor | None = None
    multiplier: torch.Tensor | None = None
    watched: bool = False
    shown: bool = False
    value_figures: ValueFigures | None = None
    held: HeldArray | None = None
    settled: bool = False
    flow: Floats | None = None


@dataclass(eq=False, slots=True)
class Use:
    """Call `call` takes `wire` under the argument `name`; for a reshaping op, `call` is the module it ran in."""

    wire: Wire
    call: int
    name: str
    reshaping: bool = False
    overrides: bool = False
    multiplier: torch.Tensor | None = None


@dataclass(eq=False, slots=True)
class ObservedCall:
    """One call of a module or op. `end` is one past the last call inside it. `leaf`: nothing inside is recorded.

    `overwrote`: it was to work in place on its argument, and changed it. `first_wire` is the index of the first wire
    made in it.
    """

    index: int
    parent: int | None
    path: str
    number: int
    kind: NodeKind
    type: str
    source: str | None
    rule: str
    leaf: bool
    started: float
    seconds: float = 0.0
    end: int = 0
    arguments: list[tuple[str, Wire]] = field(default_factory=list)
    results: list[tuple[str, Wire]] = field(default_factory=list)
    overwrote: bool = False
    first_wire: int = 0

    def take(self, name: str, wire: Wire) -> None:
        """Note an argument."""
        wire.shown = True
        self.arguments.append((name, wire))

    def give(self, name: str, wire: Wire) -> None:
        """Note a result."""
        wire.shown = True
        self.results.append((name, wire))


@dataclass(eq=False, slots=True)
class Observation:
    """One observed attribution. `rows` is the length of the example axis as the model saw it: 2 E where the input and
    the reference share a batch (`doubled`), E where each had a run of its own. `notes` is what the calls themselves
    gave reason to note.
    """

    examples: int
    doubled: bool
    calls: list[ObservedCall] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    inputs: list[Wire] = field(default_factory=list)
    outputs: list[Wire] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    @classmethod
    def of_root(cls, type_name: str, examples: int, doubled: bool) -> Observation:
        """What is known of a run that ended before its first call did: the model's own row."""
        root = ObservedCall(0, None, "", 0, "module", type_name, None, "autograd", False, 0.0, end=1)
        return cls(examples, doubled, [root])

    @property
    def rows(self) -> int:
        """Length of the example axis in the observed tensors."""
        return 2 * self.examples if self.doubled else self.examples
