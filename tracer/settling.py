"""Settling wires: their edges are made as soon as their multipliers are known, and their tensors leave memory.

A backward pass brings a wire's final multiplier after those of all its uses, so at that moment everything is there
that its edges need. What nobody but the recorder holds any longer can be put aside before, with Δ kept for the flows.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import NamedTuple, Protocol

import numpy as np
import torch

from tracer.axis import Place
from tracer.errors import TraceFileError
from tracer.hooked import is_linear
from tracer.measure import Numbers, Tensor, as_array, statistics, subtract, sums
from tracer.observation import Call, Observation, Sides, Use, Wire
from tracer.records import Direction, Edge, Floats, Statistics, TensorRef
from tracer.roles import Role, roles
from tracer.secants import Secants, Side, secants
from tracer.spill import Spill

_BATCH = 2**26  # bytes of tensors that are looked at together
_GONE = torch.empty(0, device="meta")  # stands for the value of a settled wire, which nobody asks for


class TensorSink(Protocol):
    """Where tensors are kept: `tracer.store.TraceWriter`."""

    def put_tensor(self, raw: bytes | memoryview, dtype: str, shape: tuple[int, ...]) -> TensorRef:
        """A reference to the stored tensor."""


class Looked(NamedTuple):
    """A gradient whose input run's part was looked at."""

    gradient: torch.Tensor
    place: Place | None
    multiplier: Tensor
    statistics: Statistics | None
    stored: TensorRef | None


class Sent(NamedTuple):
    """A gradient's part that belongs to the input run, with its figures. `flow` and `magnitude` are Σ m·Δ and
    Σ |m·Δ|."""

    multiplier: Tensor
    statistics: Statistics | None
    stored: TensorRef | None
    flow: Floats
    magnitude: float


@dataclass(slots=True)
class CallFigures:
    """What is known of a call so far: its edges in any order, the flows into it and out of it, float64 (E,).

    `magnitude` = Σ |m·Δ| over its results, `sides` how many arguments and results it has, `waiting` the one side of a
    call with one of each whose other side is not settled yet.
    """

    into: Floats
    out: Floats
    magnitude: float = 0.0
    edges: list[Edge] = field(default_factory=list)
    secants: Secants = field(default_factory=Secants)
    sides: tuple[int, int] = (0, 0)
    waiting: Side | None = None


class Settling:
    """Settles the wires of one observation: `put_aside` and `settle` while it runs, `finish` when it is over.

    Then `calls` has the figures of each call, `lost` the flow that each wire with an overwritten gradient added, and
    `delta`, `output` and `attributions` are known. `sink` keeps the tensors (None: figures only). A sink that fails
    does not disturb the run: the `error` is kept, later tensors are elided.
    """

    def __init__(self, observation: Observation, sink: TensorSink | None = None, spill: Spill | None = None) -> None:
        self.observation = observation
        self.calls: list[CallFigures] = []
        self.lost: dict[Wire, tuple[Floats, Edge]] = {}
        self.error: TraceFileError | None = None
        self.delta = self.output_reference = self.output = self._none = np.zeros(observation.examples)
        self.attributions: tuple[torch.Tensor, ...] = ()
        self._sink = sink
        self._spill = spill or Spill()
        self._uses: dict[Wire, list[Use]] = defaultdict(list)
        self._roles: dict[Wire, list[Role]] = defaultdict(list)
        self._kept: set[Wire] = set()
        self._outside: dict[Wire, torch.Tensor] = {}
        self._waiting: list[Wire] = []
        self._waiting_bytes = 0
        self._lock = threading.Lock()  # autograd has a thread for each device
        self._last: Looked | None = None

    def consumers(self, wire: Wire) -> int:
        """How many calls take the wire itself."""
        return sum(not use.reshaping for use in self._uses[wire])

    def put_aside(self, wire: Wire) -> None:
        """Make the figures that need no multiplier, and let the tensors go; soon, together with others."""
        with torch._C.DisableTorchFunction():
            if self._wait(wire):
                for unheld in self._waiting:
                    if unheld.sides is None:
                        unheld.sides, difference = self._look(unheld)
                        unheld.held = None if difference is None else self._spill.put(difference)
                        unheld.value, unheld.reference = unheld.value.to("meta"), None
                self._stop_waiting()

    def settle(self, wire: Wire) -> None:
        """Make the edges of a wire whose multiplier has come; soon, together with others.

        Those of the model's inputs and outputs wait for the end.
        """
        with torch._C.DisableTorchFunction(), self._lock:
            self._begin()
            if wire not in self._kept and self._wait(wire):
                for arrived in self._waiting:
                    if not arrived.settled:
                        self._settle(arrived)
                self._stop_waiting()

    def finish(self, output: tuple[Floats, Floats] | None = None) -> None:
        """Settle what is left; `output` is (f(x), f(x')) where the method knows them.

        Else they are what the multiplier at the output selects. `delta` = Σ m_x·Δx − (f(x) − f(x')) per example.
        """
        with torch._C.DisableTorchFunction():
            self._begin()
            wires = self.observation.wires
            self._outside = self._sent_from_outside()
            self.output, self.output_reference = output or self._selected()
            left = self._none
            for wire, gradient in self._outside.items():
                left = left + self._flow(wire, self._multiplier(wire, gradient), _difference(*self._pair(wire)))[0]
            if not self._outside and output is not None:  # no gradient reaches the output: all of it is delta
                left = output[0] - output[1]
            self.attributions = tuple(self._attribution(wire) for wire in self.observation.inputs)
            for wire in reversed(wires):
                if not wire.settled:
                    self._settle(wire)
            self._last = None
            inputs = dict.fromkeys(self.observation.inputs)
            self.delta = sum((wire.flow for wire in inputs if wire.flow is not None), self._none) - left

    def _wait(self, wire: Wire) -> bool:
        """Have a wire wait; whether those that wait hold so much memory that they must not.

        Between the model's own ops such work takes up to twice as long: caches are cold, and the threads of the last
        op still spin.
        """
        self._waiting.append(wire)
        self._waiting_bytes += wire.value.nbytes * (1 + (wire.multiplier is not None))
        return self._waiting_bytes >= _BATCH

    def _stop_waiting(self) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0

    # --- before the first multiplier ----------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Find what each wire is to each call; the forward pass is over."""
        if self.calls:
            return
        self._stop_waiting()
        observation = self.observation
        self._kept = {*observation.inputs, *observation.outputs}
        self._uses.clear()
        self._roles.clear()
        for use in observation.uses:
            self._uses[use.wire].append(use)
        calls = []
        for found in roles(observation):
            for wire, role in found:
                self._roles[wire].append(role)
            into = sum(role.direction == "in" for _wire, role in found)
            calls.append(CallFigures(self._none, self._none, sides=(into, len(found) - into)))
        self.calls = calls  # last: what was interrupted begins again

    def _look(self, wire: Wire) -> tuple[Sides, Numbers | None]:
        """The figures of both runs' tensors and of Δ, and Δ itself."""
        value, reference = self._pair(wire)
        difference = _difference(value, reference)
        sides = Sides(
            value.shape,
            value.dtype,
            _statistics(value),
            None if reference is None else _statistics(reference),
            None if difference is None else statistics(difference),
            self._store(value),
            self._store(reference),
        )
        return sides, difference

    def _pair(self, wire: Wire) -> tuple[Tensor, Tensor | None]:
        value = as_array(wire.value)
        if not self.observation.doubled:
            return value, None if wire.reference is None else as_array(wire.reference)
        return (value, value) if wire.place is None else value.halves(wire.place, self.observation.rows)

    def _store(self, tensor: Tensor | None) -> TensorRef | None:
        if tensor is None or self._sink is None:
            return None
        try:
            return self._sink.put_tensor(tensor.content, tensor.dtype, tensor.shape)
        except TraceFileError as error:
            self.error, self._sink = error, None
            return TensorRef(None, tensor.dtype, tensor.shape, elided=True)

    # --- multipliers --------------------------------------------------------------------------------------------------

    def _multiplier(self, wire: Wire, gradient: torch.Tensor) -> Tensor:
        """The part of a gradient of the shape of `wire` that is DeepLIFT's multiplier: the half of the input run."""
        whole = as_array(gradient)
        if not self.observation.doubled or wire.place is None:
            return whole
        return whole.halves(wire.place, self.observation.rows)[0]

    def _flow(self, wire: Wire, multiplier: Tensor, difference: Numbers | None) -> tuple[Floats, float]:
        if multiplier.numbers is None or difference is None:
            return self._none, 0.0
        return sums(multiplier.numbers, difference, wire.place, self.observation.examples)

    def _sent_from_outside(self) -> dict[Wire, torch.Tensor]:
        """The multipliers that reach the model's results from outside: from what the attribution explains.

        A model may return what it also uses itself, as an encoder's states; what comes from inside is taken off. Where
        one result is not used inside, that one is explained, and a gap at another is a loss, not an explanation.
        """
        found = {}
        arrived = [wire for wire in dict.fromkeys(self.observation.outputs) if wire.multiplier is not None]
        for wire in arrived:
            _settle_overrides(self._uses[wire])
        inside = {wire: [u.multiplier for u in self._uses[wire] if u.multiplier is not None] for wire in arrived}
        for wire in [wire for wire in arrived if not inside[wire]] or arrived:
            assert wire.multiplier is not None
            within = inside[wire]
            outside = wire.multiplier - reduce(add, within) if within else wire.multiplier
            if not within or bool(outside.norm() > 1e-5 * wire.multiplier.norm()):
                found[wire] = outside
        return found

    def _selected(self) -> tuple[Floats, Floats]:
        """(f(x), f(x')): the output where its multiplier is not zero."""
        totals = self._none.copy(), self._none.copy()
        for wire, gradient in self._outside.items():
            multiplier, (value, reference) = self._multiplier(wire, gradient), self._pair(wire)
            if multiplier.numbers is None or reference is None or reference.numbers is None or value.numbers is None:
                continue
            for total, numbers in zip(totals, (value.numbers, reference.numbers), strict=True):
                selected = np.where(multiplier.numbers != 0, numbers * multiplier.numbers, 0)
                total += selected.reshape(self.observation.examples, -1).sum(1, dtype=np.float64)
        return totals

    def _attribution(self, wire: Wire) -> torch.Tensor:
        """m·Δ of a model input, of the input's shape; of zeros where no multiplier came."""
        value, reference = self._pair(wire)
        multiplier = None if wire.multiplier is None else self._multiplier(wire, wire.multiplier).numbers
        difference = _difference(value, reference)
        if multiplier is None or difference is None:
            product = np.zeros(value.shape, dtype=np.float32)
        else:
            product = np.asarray(multiplier * difference)
        return torch.from_numpy(product).to(wire.value.dtype)

    @np.errstate(over="ignore", invalid="ignore")  # the figures of a run may be anything
    def _settle(self, wire: Wire) -> None:
        wire.settled = True  # first: an interrupted wire is not settled twice
        uses = self._uses[wire]
        _settle_overrides(uses)
        lost = wire.multiplier is not None and wire not in self._outside and _is_lost(wire.multiplier, uses)
        if wire in self._roles or lost:
            self._make_edges(wire, uses, lost)
        wire.sides = wire.held = wire.multiplier = wire.reference = None
        if wire not in self._kept:
            wire.value = _GONE
        for use in uses:
            use.multiplier = None

    def _make_edges(self, wire: Wire, uses: list[Use], is_lost: bool) -> None:
        if wire.sides is None:
            sides, difference = self._look(wire)
        else:
            sides, difference = wire.sides, None if wire.held is None else self._spill.take(wire.held)
        made: dict[tuple[int, ...], Sent] = {}

        def sent_of(gradients: list[torch.Tensor], minus: Sequence[torch.Tensor] = ()) -> Sent | None:
            """The figures of the gradients' sum, less those of `minus`; None of none."""
            key = (*map(id, gradients), 0, *map(id, minus))
            if gradients and key not in made:
                gradient = reduce(add, gradients)
                made[key] = self._sent(wire, gradient - reduce(add, minus) if minus else gradient, difference)
            return made.get(key)

        arrived = [] if wire.multiplier is None else [wire.multiplier]
        total = sent_of(arrived)
        if total is not None:
            wire.flow = total.flow
            if wire.producer is not None:
                self.calls[wire.producer].out = self.calls[wire.producer].out + total.flow
        for use in uses:
            sent = None if use.reshaping or use.multiplier is None else sent_of([use.multiplier])
            if sent is not None:
                self.calls[use.call].into = self.calls[use.call].into + sent.flow
        for role in self._roles[wire]:
            within = _sent_within(uses, role.call)
            if role.direction == "in":
                sent = total if role.passed else sent_of(within)
            else:
                sent = sent_of(arrived, minus=within) if arrived and within and not role.call.leaf else total
            self._enter(role, sides, sent, difference)
        if is_lost and total is not None:
            back = sent_of([use.multiplier for use in uses if use.multiplier is not None])
            lost = total.flow - (self._none if back is None else back.flow)
            if np.any(lost != 0):
                self.lost[wire] = lost, _edge("out", 0, "output", sides, total, self._none)

    def _sent(self, wire: Wire, gradient: torch.Tensor, difference: Numbers | None) -> Sent:
        """The figures of what was sent back: those of the gradient alone are shared by the wires that it reaches in
        turn, as through a sum."""
        last = self._last
        if last is None or last.gradient is not gradient or last.place != wire.place:
            multiplier = self._multiplier(wire, gradient)
            last = Looked(gradient, wire.place, multiplier, _statistics(multiplier), self._store(multiplier))
            self._last = last
        flow, magnitude = self._flow(wire, last.multiplier, difference)
        return Sent(last.multiplier, last.statistics, last.stored, flow, magnitude)

    def _enter(self, role: Role, sides: Sides, sent: Sent | None, difference: Numbers | None) -> None:
        """Make the edge of a wire to one call."""
        figures = self.calls[role.call.index]
        figures.edges.append(_edge(role.direction, role.slot, role.name, sides, sent, self._none))
        if role.direction == "out" and sent is not None:
            figures.magnitude += sent.magnitude
        if figures.sides == (1, 1) and role.call.leaf and not is_linear(role.call):
            mine = Side(difference, None if sent is None else sent.multiplier)
            if figures.waiting is None:
                figures.waiting = mine
            else:
                other, figures.waiting = figures.waiting, None
                figures.secants = secants(*((mine, other) if role.direction == "in" else (other, mine)))


def _edge(direction: Direction, slot: int, name: str, sides: Sides, sent: Sent | None, none: Floats) -> Edge:
    return Edge(
        direction=direction,
        slot=slot,
        name=name,
        shape=sides.shape,
        dtype=sides.dtype,
        flow=none if sent is None else sent.flow,
        value_statistics=sides.value_statistics,
        reference_statistics=sides.reference_statistics,
        difference_statistics=sides.difference_statistics,
        multiplier_statistics=None if sent is None else sent.statistics,
        value=sides.value,
        reference=sides.reference,
        multiplier=None if sent is None else sent.stored,
    )


def _is_lost(arrived: torch.Tensor, uses: list[Use]) -> bool:
    """Whether what arrived differs from what the consumers sent by more than rounding: somebody overwrote it."""
    sent = [use.multiplier for use in uses if use.multiplier is not None]
    if len(sent) == 1 and sent[0] is arrived:
        return False
    gap = torch.linalg.vector_norm(reduce(add, sent) - arrived if sent else arrived)
    parts = [torch.linalg.vector_norm(part) for part in (arrived, *sent)]
    # Of multipliers that are large where Δ is 0, a small part may still carry a large flow.
    rounding = min(1e-3, 16 * torch.finfo(gap.dtype).eps)
    return bool(gap > rounding * sum(parts)) or not bool(torch.isfinite(gap))


def _difference(value: Tensor, reference: Tensor | None) -> Numbers | None:
    """Δ; None where the reference is not known or has another shape, and for what is no numbers."""
    if reference is None or reference.shape != value.shape or value.numbers is None or reference.numbers is None:
        return None
    return subtract(value.numbers, reference.numbers)


def _settle_overrides(uses: list[Use]) -> None:
    """A rule that rewrites its input tensor's gradient: the last one to do so decides, what earlier ones sent is
    gone."""
    rewriting = [use for use in uses if use.overrides]
    for use in rewriting:
        use.multiplier = None
    if rewriting:
        rewriting[-1].multiplier = rewriting[-1].wire.multiplier


def _sent_within(uses: list[Use], call: Call) -> list[torch.Tensor]:
    return [use.multiplier for use in uses if use.multiplier is not None and call.index <= use.call < call.end]


def _statistics(tensor: Tensor) -> Statistics | None:
    return None if tensor.numbers is None else statistics(tensor.numbers)
