"""What the recorder notes while a model runs: calls, wires and uses, with live tensors.

A *wire* is one tensor value between calls. A *use* is one call (or one reshaping op) that takes a wire. Both have a
*multiplier*: a use's is the gradient that this use alone sends back, a wire's is what finally arrives at the call that
made it, after every hook on the tensor. A wire's is the sum of its uses', unless a hook overwrote the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from tracer import ops
from tracer.ledger.example_axis import ExamplePlace
from tracer.ledger.spill import HeldArray
from tracer.records import Floats, NodeKind, Note, Statistics, TensorRef


@dataclass(frozen=True, slots=True, eq=False)
class AttributedInputs:
    """The tensors to which a run of the model attributes its output, for `examples` examples.

    `doubled`: input and reference share one batch, the input in its first half. `joined_later`: captum's hook on the
    model is about to join `inputs` and `references` into that batch. Otherwise `inputs` are what the model gets, and
    `references` their values in the reference's own run (None where the batch holds them).
    """

    inputs: list[torch.Tensor]
    references: list[torch.Tensor] | None
    examples: int
    doubled: bool
    joined_later: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Border:
    """A module at whose output, or `at_input`, an attribution ends in the place of the model's output.

    `begins`: it begins there, in the place of the model's input.
    """

    module: nn.Module
    at_input: bool
    begins: bool


@dataclass(frozen=True, slots=True)
class ValueFigures:
    """What an edge says of a wire besides its multiplier; `shape` and `dtype` are those of one run's tensor.

    Statistics are None where there are no numbers, or no reference; `value` and `reference` are the stored tensors.
    """

    shape: tuple[int, ...]
    dtype: str
    value_statistics: Statistics | None
    reference_statistics: Statistics | None
    difference_statistics: Statistics | None
    value: TensorRef | None
    reference: TensorRef | None


@dataclass(eq=False, slots=True)
class Wire:
    """One tensor value: `value` as observed, with the examples at `place`; `reference` where it had a run of its own.

    `producer` is the index of the call that made it (None: it came from outside), `parent` the wire of which it is a
    view, slice or copy. `multiplier` has the shape of `value`; `watched`: its graph node tells when it arrives.
    `shown`: the wire is an argument or a result of some call, not only a step between two calls.

    A wire that was put aside has its `value_figures`, and Δ in `held`; `value` then has only a shape and a dtype (it is
    on the device "meta"). A `settled` wire has its edges and no tensor; `flow` = Σ m·Δ of what arrived at it, float64
    (E,), None for zeros.
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

    @property
    def base(self) -> Wire:
        """The wire of which this one is a view, slice or copy, over any number of steps; itself if of none."""
        wire = self
        while wire.parent is not None:
            wire = wire.parent
        return wire


@dataclass(eq=False, slots=True)
class Use:
    """Call number `call` takes `wire` as its argument `name`; for a reshaping op, `call` is the module that it ran in.

    `overrides`: a rule replaces the gradient of the tensor itself, whatever other uses sent back.
    """

    wire: Wire
    call: int
    name: str
    reshaping: bool = False
    overrides: bool = False
    multiplier: torch.Tensor | None = None


@dataclass(eq=False, slots=True)
class ObservedCall:
    """One call of a module or op. `end` is one past the last call inside it. `leaf`: nothing inside is recorded.

    `number` counts the calls of the same `path`. `overwrote`: it works in place, and changed its argument. `first_wire`
    is the index of the first wire made in it.
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

    @property
    def is_linear(self) -> bool:
        """Whether the call is linear in what comes from the input, as long as it picks the same elements."""
        if self.kind == "unobserved":  # named after the last of the ops that ran unseen
            return False
        return ops.is_linear(self.type, [name for name, _wire in self.arguments]) or ops.picks(self.type)

    def take(self, name: str, wire: Wire) -> None:
        wire.shown = True
        self.arguments.append((name, wire))

    def give(self, name: str, wire: Wire) -> None:
        wire.shown = True
        self.results.append((name, wire))


@dataclass(eq=False, slots=True)
class Observation:
    """One observed attribution of `examples` examples, in one batch with their references (`doubled`) or without.

    `inputs` and `outputs` are the wires of the model itself; `notes` are on how its modules were called. `ends_inside`:
    the outputs are of a module inside, and all that reaches them comes from the neuron that is explained.
    """

    examples: int
    doubled: bool
    calls: list[ObservedCall] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    inputs: list[Wire] = field(default_factory=list)
    outputs: list[Wire] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    ends_inside: bool = False

    @classmethod
    def of_root(cls, type_name: str, examples: int, doubled: bool) -> Observation:
        """What is known of a run that failed before its first call ended: the model's own row."""
        root = ObservedCall(0, None, "", 0, "module", type_name, None, "autograd", False, 0.0, end=1)
        return cls(examples, doubled, [root])

    @property
    def rows(self) -> int:
        """How many rows the batch has that the model sees: 2 E where it holds the references too, otherwise E."""
        return 2 * self.examples if self.doubled else self.examples
