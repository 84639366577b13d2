"""Settles wires: makes their edges as soon as their multipliers are known, and frees their tensors.

A backward pass brings a wire's multiplier after those of all its uses, so at that moment everything is there that its
edges need. A wire whose tensor only the recorder still holds can be put aside before: its figures are made, its tensors
are stored, and Δ is kept for the flows.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import Protocol

import numpy as np
import torch

from tracer.errors import TraceFileError
from tracer.ledger.arrays import HostTensor, Numbers, statistics
from tracer.ledger.roles import WireRole, roles
from tracer.ledger.secants import CallSide, Secants, secants
from tracer.ledger.spill import Spill
from tracer.ledger.wire_figures import (
    MultiplierFigures,
    StatisticsCache,
    WireFigures,
    WireValues,
    attribution,
    both_runs,
    difference_of,
    explained_flow,
    figures_of,
    selected,
    settle_overrides,
    values_of,
)
from tracer.ledger.wires import Observation, Use, ValueFigures, Wire
from tracer.records import Edge, Floats, TensorRef

_NO_SECANTS = Secants()
_BATCH = 2**26  # bytes of tensors whose figures are made together
_GONE = torch.empty(0, device="meta")  # the value of a settled wire, which nothing reads


class TensorSink(Protocol):
    """Where tensors are stored: in a recording, the writer of the trace file."""

    def put_tensor(self, raw: bytes | memoryview, dtype: str, shape: tuple[int, ...]) -> TensorRef:
        """Store a tensor and return the reference to it."""


@dataclass(slots=True)
class CallFigures:
    """What is known of a call so far: flow of its arguments (`into`) and results (`out`), float64 (E,), and its edges.

    Its leak is `into` − `out`. `magnitude` = Σ |m·Δ| over its results. `has_secants`: it is a non-linear call with one
    argument and one result; `waiting` is the one of them that is settled while the other is not.
    """

    into: Floats
    out: Floats
    has_secants: bool
    magnitude: float = 0.0
    edges: list[Edge] = field(default_factory=list)
    secants: Secants = _NO_SECANTS
    waiting: CallSide | None = None


class Settling:
    """Settles the wires of one observation: `put_aside` and `settle` during the run, `finish` after it.

    Then `calls` has the figures of each call, `lost` the flow that a hook added to each wire whose gradient it
    overwrote, with an edge that shows it, and `delta`, `output`, `output_reference` and `attributions` are set. `sink`
    stores the tensors (None: figures only). An error does not disturb the run: the first is kept in `error`.
    """

    def __init__(self, observation: Observation, sink: TensorSink | None = None, spill: Spill | None = None) -> None:
        self.observation = observation
        self.calls: list[CallFigures] = []
        self.lost: dict[Wire, tuple[Floats, Edge]] = {}
        self.error: Exception | None = None
        self.delta = self.output_reference = self.output = self._zeros = np.zeros(observation.examples)
        self.attributions: tuple[torch.Tensor, ...] = ()
        self._sink = sink
        self._spill = spill or Spill()
        self._uses: dict[Wire, list[Use]] = defaultdict(list)
        self._roles: dict[Wire, list[WireRole]] = defaultdict(list)
        self._kept: set[Wire] = set()
        self._outside: dict[Wire, torch.Tensor] = {}
        self._waiting: list[Wire] = []
        self._waiting_bytes = 0
        self._lock = threading.Lock()  # autograd has a thread for each device

    def consumers(self, wire: Wire) -> int:
        """How many calls take the wire itself, not a view of it."""
        return sum(not use.reshaping and use.call != wire.producer for use in self._uses[wire])

    def put_aside(self, wire: Wire) -> None:
        """Make the figures that need no multiplier, then free the tensors; soon, together with other wires."""
        with torch._C.DisableTorchFunction():
            self._keeping_error(self._wait, wire, self._put_aside)

    def settle(self, wire: Wire) -> None:
        """Make the edges of a wire whose multiplier has come; soon, together with other wires.

        The model's inputs and outputs wait for `finish`.
        """
        with torch._C.DisableTorchFunction(), self._lock:
            self._keeping_error(self._settle_soon, wire)

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")  # the figures of a run may be anything
    def finish(self, output: tuple[Floats, Floats] | None = None) -> None:
        """Settle what is left; `output` is (f(x), f(x')) if the method knows them.

        Otherwise they are what the multiplier at the output selects. `delta` = Σ m_x·Δx − (f(x) − f(x')) per example.
        """
        with torch._C.DisableTorchFunction():
            self._begin()
            observation = self.observation
            for wire in observation.inputs:
                sent = [use.multiplier for use in self._uses[wire] if use.multiplier is not None]
                if wire.multiplier is None and sent:  # the caller got it from autograd, the tensor's node did not
                    wire.multiplier = reduce(add, sent)
            self._outside = self._sent_from_outside()
            self.output, self.output_reference = output or selected(observation, self._outside)
            left = self._zeros
            for wire, gradient in self._outside.items():
                left = left + explained_flow(observation, wire, gradient)
            if not self._outside and output is not None:  # no gradient reaches the output: all its change is delta
                left = output[0] - output[1]
            self.attributions = tuple(attribution(observation, wire) for wire in observation.inputs)
            self._settle(observation.wires[::-1])
            inputs = dict.fromkeys(observation.inputs)
            self.delta = sum((wire.flow for wire in inputs if wire.flow is not None), self._zeros) - left

    def _keeping_error(self, work: Callable[..., None], *arguments: object) -> None:
        try:
            work(*arguments)
        except Exception as error:
            self.error = self.error or error
            self._stop_waiting()

    def _settle_soon(self, wire: Wire) -> None:
        self._begin()
        if wire not in self._kept:
            self._wait(wire, self._settle)

    def _wait(self, wire: Wire, work: Callable[[Sequence[Wire]], None]) -> None:
        """Have a wire wait, and `work` done on all waiting wires once they hold `_BATCH` bytes.

        Done after each op of the model, the work takes up to twice as long: caches are cold, and the threads of the
        last op still spin.
        """
        self._waiting.append(wire)
        self._waiting_bytes += wire.value.nbytes * (1 + (wire.multiplier is not None))
        if self._waiting_bytes >= _BATCH:
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                work(self._waiting)
            self._stop_waiting()

    def _stop_waiting(self) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0

    # --- before the first multiplier ----------------------------------------------------------------------------------

    def _begin(self) -> None:
        """After the forward pass: collect each wire's uses and roles."""
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
        for call, taken, given in roles(observation):
            for wire, role in (*taken, *given):
                self._roles[wire].append(role)
            has_secants = call.leaf and len(taken) == len(given) == 1 and not call.is_linear
            calls.append(CallFigures(self._zeros, self._zeros, has_secants))
        self.calls = calls  # last, so that this begins again if it was interrupted

    def _sent_from_outside(self) -> dict[Wire, torch.Tensor]:
        """The multipliers that reach the model's results from outside, that is from the output that is explained.

        A model may return tensors that it also uses itself, such as an encoder's states; what their uses send is taken
        off. If some results are not used inside, those are explained, and a difference at another result is a loss.
        """
        found = {}
        arrived = [wire for wire in dict.fromkeys(self.observation.outputs) if wire.multiplier is not None]
        for wire in arrived:
            if self.observation.ends_inside:
                for use in self._uses[wire]:  # a rule's copy of the tensor, of which captum asks for the gradient
                    use.multiplier = use.multiplier if use.reshaping else None
            settle_overrides(self._uses[wire])
        inside = {wire: [u.multiplier for u in self._uses[wire] if u.multiplier is not None] for wire in arrived}
        for wire in [wire for wire in arrived if not inside[wire]] or arrived:
            assert wire.multiplier is not None
            within = inside[wire]
            outside = wire.multiplier - reduce(add, within) if within else wire.multiplier
            if not within or bool(outside.norm() > 1e-5 * wire.multiplier.norm()):
                found[wire] = outside
        return found

    # --- in batches ---------------------------------------------------------------------------------------------------

    def _put_aside(self, wires: Sequence[Wire]) -> None:
        cache = StatisticsCache()
        for wire in wires:
            if wire.value_figures is not None:
                continue
            if wire.shown:
                values = values_of(self.observation, wire, cache)
                wire.value_figures, difference = self._value_figures(values), values.difference
            else:  # a step between two calls: at most its flow is asked for, by unobserved code that takes it
                value, reference = both_runs(self.observation, wire)
                left_out = None if self._sink is None else TensorRef(None, value.dtype, value.shape, elided=True)
                wire.value_figures = ValueFigures(
                    value.shape, value.dtype, None, None, None, left_out, None if reference is None else left_out
                )
                difference = difference_of(value, reference)
            wire.held = None if difference is None else self._spill.put(difference)
            wire.value, wire.reference = wire.value.to("meta"), None

    def _settle(self, wires: Sequence[Wire]) -> None:
        cache = StatisticsCache()
        for wire in wires:
            if not wire.settled:
                uses = self._uses[wire]
                settle_overrides(uses)
                difference = None if wire.held is None else self._spill.take(wire.held)
                wire.held = difference  # it is in the file no longer, and Ctrl-C may come before the rest
                may_lose = wire not in self._outside
                of_calls = self._roles.get(wire, [])
                found = figures_of(self.observation, wire, uses, of_calls, difference, may_lose, cache)
                self._make_edges(wire, found)

    def _make_edges(self, wire: Wire, found: WireFigures | None) -> None:
        """Make the edges of a wire, then free its tensors."""
        wire.settled = True  # first, so that an interrupted wire is not settled twice
        if found is not None:
            figures = wire.value_figures if found.values is None else self._value_figures(found.values)
            assert figures is not None
            if figures.difference_statistics is None and found.difference is not None:  # of a step that was put aside
                figures = replace(figures, difference_statistics=statistics(found.difference))
            stored: dict[int, TensorRef | None] = {}
            if found.total is not None:
                wire.flow = found.total.flow
                if wire.producer is not None:
                    self.calls[wire.producer].out = self.calls[wire.producer].out + found.total.flow
            for use, sent in found.uses:
                if sent is not None:
                    self.calls[use.call].into = self.calls[use.call].into + sent.flow
            for role, sent_back in found.roles:
                if sent_back is not None and id(sent_back) not in stored:
                    stored[id(sent_back)] = self._store(sent_back.multiplier)
                edge = _edge(role, figures, sent_back, stored.get(id(sent_back)), self._zeros)
                self._add_edge(role, edge, sent_back, found.difference)
            if found.lost is not None and np.any(found.lost != 0):
                role = WireRole(self.observation.calls[0], "out", 0, "output", False)
                reference = None if found.total is None else self._store(found.total.multiplier)
                self.lost[wire] = found.lost, _edge(role, figures, found.total, reference, self._zeros)
        wire.value_figures = wire.held = wire.multiplier = wire.reference = None
        if wire not in self._kept:
            wire.value = _GONE
        for use in self._uses[wire]:
            use.multiplier = None

    def _add_edge(self, role: WireRole, edge: Edge, sent: MultiplierFigures | None, difference: Numbers | None) -> None:
        figures = self.calls[role.call.index]
        figures.edges.append(edge)
        if role.direction == "out" and sent is not None:
            figures.magnitude += sent.magnitude
        if figures.has_secants:
            mine = CallSide(difference, None if sent is None else sent.multiplier)
            if figures.waiting is None:
                figures.waiting = mine
            else:
                other, figures.waiting = figures.waiting, None
                figures.secants = secants(*((mine, other) if role.direction == "in" else (other, mine)))

    def _value_figures(self, values: WireValues) -> ValueFigures:
        value, reference = values.value, values.reference
        return ValueFigures(value.shape, value.dtype, *values.statistics, self._store(value), self._store(reference))

    def _store(self, tensor: HostTensor | None) -> TensorRef | None:
        if tensor is None or self._sink is None:
            return None
        try:
            return self._sink.put_tensor(tensor.content, tensor.dtype, tensor.shape)
        except TraceFileError as error:
            self.error, self._sink = self.error or error, None
            return TensorRef(None, tensor.dtype, tensor.shape, elided=True)


def _edge(
    role: WireRole, figures: ValueFigures, sent: MultiplierFigures | None, stored: TensorRef | None, zeros: Floats
) -> Edge:
    flow, of_multiplier = (zeros, None) if sent is None else (sent.flow, sent.statistics)
    return Edge(
        role.direction, role.slot, role.name, figures.shape, figures.dtype, flow, figures.value_statistics,
        figures.reference_statistics, figures.difference_statistics, of_multiplier, figures.value, figures.reference,
        stored,
    )  # fmt: skip
