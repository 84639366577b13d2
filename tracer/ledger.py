"""The ledger: hands out the whole convergence delta, signed, to the calls that made it.

    flow(edge) = Σ m·Δ                leak(call) = Σ flow(edges in) − Σ flow(edges out)

A wire's flow leaves its producer once and enters its consumers in parts, so it cancels in the sum over all calls:

    Σ leak(leaf calls) + Σ lost(wires) = Σ m_x·Δx − (f(x) − f(x')) = the convergence delta

for any multipliers, right or wrong. lost(w) = flow at the producer − Σ flows at the consumers is not zero where a hook
overwrote the gradient of a tensor that several calls consume; each such wire gets a row of its own. What then remains
(rounding, and calls that could not be observed) is the self leak of the model's own row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tracer.hooked import is_linear
from tracer.measure import SMALL_DIFFERENCE, Measure, Tensor, TensorSink
from tracer.observation import Call, Observation, Use, Wire
from tracer.records import Direction, Edge, Floats, Node

Multipliers = list[tuple[str, Wire, torch.Tensor | None]]


@dataclass(eq=False, slots=True)
class _Row:
    """A call on its way to becoming a `Node`."""

    call: Call | None
    lost: Wire | None
    own: Floats
    children: list[_Row] = field(default_factory=list)
    leak: Floats = field(init=False)

    def add_up(self) -> Floats:
        """Set `leak` here and below: what the row itself leaks and what its children leak."""
        self.leak = self.own + sum((child.add_up() for child in self.children), np.zeros_like(self.own))
        return self.leak


class Ledger:
    """The rows of one observation: `rows()` gives each node with its edges, in preorder.

    `output` is (f(x), f(x')) where the method knows them; else they are what the multiplier at the output selects.
    """

    def __init__(
        self,
        observation: Observation,
        sink: TensorSink | None = None,
        output: tuple[Floats, Floats] | None = None,
    ) -> None:
        self.observation = observation
        self._known_output = output
        self.measure = Measure(observation, sink)
        self._uses: dict[Wire, list[Use]] = defaultdict(list)
        self._uses_of_call: dict[int, list[Use]] = defaultdict(list)
        self._views: dict[Wire, list[Wire]] = defaultdict(list)
        self._made: dict[int, list[Wire]] = defaultdict(list)
        for use in observation.uses:
            self._uses[use.wire].append(use)
            self._uses_of_call[use.call].append(use)
        for wire in observation.wires:
            if wire.parent is not None:
                self._views[wire.parent].append(wire)
            if wire.producer is not None:
                self._made[wire.producer].append(wire)
        for uses in self._uses.values():
            self._settle_overrides(uses)
        self._outside = self._sent_from_outside()

    @property
    def delta(self) -> Floats:
        """Σ m_x·Δx − (f(x) − f(x')) per example, float64 (E,), from the observed run alone."""
        left = sum((self.measure.flow(wire, self._outside[wire]) for wire in self._outside), self.measure.no_flow)
        if not self._outside and self._known_output is not None:  # no gradient reaches the output: all of it is delta
            left = self._known_output[0] - self._known_output[1]
        return self._flow_of(self.observation.inputs) - left

    @property
    def output(self) -> tuple[Floats, Floats]:
        """(f(x), f(x')) at the target, float64 (E,)."""
        if self._known_output is not None:
            return self._known_output
        value, reference = self.measure.no_flow.copy(), self.measure.no_flow.copy()
        for wire, gradient in self._outside.items():
            multiplier = self.measure.multiplier(wire, gradient)
            other = self.measure.reference(wire)
            if multiplier is None or multiplier.numbers is None or other is None or other.numbers is None:
                continue
            chosen = multiplier.numbers != 0
            for total, tensor in ((value, self.measure.value(wire)), (reference, other)):
                selected = np.where(chosen, tensor.numbers * multiplier.numbers, 0)
                total += selected.reshape(self.observation.examples, -1).sum(1, dtype=np.float64)
        return value, reference

    @property
    def attributions(self) -> tuple[torch.Tensor, ...]:
        """m·Δ of each model input, of the input's shape; of zeros where no multiplier came."""
        found = []
        for wire in self.observation.inputs:
            multiplier, difference = self.measure.multiplier(wire, wire.multiplier), self.measure.difference(wire)
            if multiplier is None or multiplier.numbers is None or difference is None:
                product = np.zeros(self.measure.value(wire).shape, dtype=np.float32)
            else:
                product = multiplier.numbers * difference
            found.append(torch.from_numpy(product).to(wire.value.dtype))
        return tuple(found)

    def rows(self) -> Iterable[tuple[Node, tuple[Edge, ...]]]:
        """Every call as a node with its edges, in preorder; lost flows as rows after the call whose result they
        left."""
        rows = [_Row(call, None, self._own_leak(call)) for call in self.observation.calls]
        children: dict[int | None, list[_Row]] = defaultdict(list)
        lost: dict[int | None, list[_Row]] = defaultdict(list)
        for wire, flow in self._lost().items():
            lost[_maker(wire)].append(_Row(None, wire, flow))
        for row in rows:
            assert row.call is not None
            children[row.call.parent] += [row, *lost[row.call.index]]
        for row in rows:
            assert row.call is not None
            row.children = children[row.call.index]
        root = rows[0]
        root.children = lost[None] + root.children
        root.own = root.own + self.delta - root.add_up()
        root.leak = self.delta
        return self._number(root)

    # --- flows --------------------------------------------------------------------------------------------------------

    def _flow_of(self, wires: list[Wire]) -> Floats:
        return sum((self.measure.flow(wire, wire.multiplier) for wire in dict.fromkeys(wires)), self.measure.no_flow)

    @staticmethod
    def _settle_overrides(uses: list[Use]) -> None:
        """A rule that rewrites its input tensor's gradient: the last one to do so decides, what earlier ones sent is
        gone."""
        rewriting = [use for use in uses if use.overrides]
        for use in rewriting:
            use.multiplier = None
        if rewriting:
            rewriting[-1].multiplier = rewriting[-1].wire.multiplier

    def _sent_from_outside(self) -> dict[Wire, torch.Tensor]:
        """The multipliers that reach the model's results from outside: from what the attribution explains.

        A model may return what it also uses itself, as an encoder's states; what comes from inside is taken off. Where
        one result is not used inside, that one is explained, and a gap at another is a loss, not an explanation.
        """
        found = {}
        arrived = [wire for wire in dict.fromkeys(self.observation.outputs) if wire.multiplier is not None]
        inside = {wire: [u.multiplier for u in self._uses[wire] if u.multiplier is not None] for wire in arrived}
        for wire in [wire for wire in arrived if not inside[wire]] or arrived:
            assert wire.multiplier is not None
            within = inside[wire]
            outside = wire.multiplier - torch.stack(within).sum(0) if within else wire.multiplier
            if not within or bool(outside.norm() > 1e-5 * wire.multiplier.norm()):
                found[wire] = outside
        return found

    def _own_leak(self, call: Call) -> Floats:
        into = sum(
            (self.measure.flow(u.wire, u.multiplier) for u in self._uses_of_call[call.index] if not u.reshaping),
            self.measure.no_flow,
        )
        return into - self._flow_of(self._made[call.index])

    def _through(self, wire: Wire) -> Floats:
        """The flow that the consumers of a wire, direct ones and those of its views, send back to it."""
        direct = (self.measure.flow(wire, use.multiplier) for use in self._uses[wire] if not use.reshaping)
        views = (
            self.measure.flow(view, view.multiplier) if view.watched else self._through(view)
            for view in self._views[wire]
        )
        return sum(direct, self.measure.no_flow) + sum(views, self.measure.no_flow)

    def _lost(self) -> dict[Wire, Floats]:
        """For each wire whose gradient was overwritten on the way to its producer: the flow that this added."""
        lost = {}
        for wire in self.observation.wires:
            if not wire.watched or wire.multiplier is None or wire in self._outside:
                continue
            sent = [use.multiplier for use in self._uses[wire] if use.multiplier is not None]
            if len(sent) == 1 and sent[0] is wire.multiplier:
                continue
            parts = torch.stack(sent) if sent else torch.zeros_like(wire.multiplier)[None]
            gap = torch.linalg.vector_norm(parts.sum(0) - wire.multiplier)
            size = torch.linalg.vector_norm(wire.multiplier) + torch.linalg.vector_norm(parts)
            # Of multipliers that are large where Δ is 0, a small part may still carry a large flow.
            rounding = min(1e-3, 16 * torch.finfo(gap.dtype).eps)
            if bool(gap > rounding * size) or not bool(torch.isfinite(gap)):
                difference = self.measure.flow(wire, wire.multiplier) - self._through(wire)
                if np.any(difference != 0):
                    lost[wire] = difference
        return lost

    # --- nodes --------------------------------------------------------------------------------------------------------

    def _number(self, root: _Row) -> Iterable[tuple[Node, tuple[Edge, ...]]]:
        order: list[tuple[_Row, int | None, int]] = []
        ends: dict[int, int] = {}
        _visit(root, None, 0, order, ends)
        numbers = {id(row): number for number, (row, _parent, _depth) in enumerate(order)}
        losses: dict[str, int] = defaultdict(int)
        for number, (row, parent, depth) in enumerate(order):
            children = tuple(numbers[id(child)] for child in row.children)
            place: dict[str, Any] = {
                "id": number,
                "parent": parent,
                "end": ends[number],
                "depth": depth,
                "children": children,
            }
            if row.call is not None:
                yield self._node(row, row.call, place)
            else:
                assert row.lost is not None
                yield self._lost_node(row, row.lost, place, losses)

    def _lost_node(
        self, row: _Row, wire: Wire, place: dict[str, Any], losses: dict[str, int]
    ) -> tuple[Node, tuple[Edge, ...]]:
        index = _maker(wire)
        maker = None if index is None else self.observation.calls[index]
        path = f"{maker.path if maker else ''}/lost path"
        number, losses[path] = losses[path], losses[path] + 1
        uses = len([use for use in self._uses[wire] if not use.reshaping])
        node = Node(
            path=path, call=number, kind="lost", type=f"{uses} consumers, gradient overwritten",
            source=None, rule="none",
            leak=row.own, self_leak=row.own, gain=float("nan"), relative_leak=float("nan"),
            largest_secant=float("nan"), small_differences=0, dropped_differences=0, nonfinite=0, seconds=0.0,
            **place,
        )  # fmt: skip
        return node, (self._edge("out", 0, "output", wire, wire.multiplier),)

    def _node(self, row: _Row, call: Call, place: dict[str, Any]) -> tuple[Node, tuple[Edge, ...]]:
        into, out = self._into(call), self._out_of(call)
        edges = (
            *(self._edge("in", slot, *entry) for slot, entry in enumerate(into)),
            *(self._edge("out", slot, *entry) for slot, entry in enumerate(out)),
        )
        secant, small, dropped = (
            self._elementwise(into, out) if call.leaf and not is_linear(call) else (float("nan"), 0, 0)
        )
        magnitude = sum(self.measure.magnitude(wire, multiplier) for _name, wire, multiplier in out)
        total = abs(float(row.leak.sum()))
        node = Node(
            path=call.path, call=call.number, kind=call.kind, type=call.type, source=call.source, rule=call.rule,
            leak=row.leak, self_leak=row.own, gain=_gain(edges),
            relative_leak=total / magnitude if magnitude else (0.0 if total == 0 else float("inf")),
            largest_secant=secant, small_differences=small, dropped_differences=dropped,
            nonfinite=sum(edge.multiplier_statistics.nonfinite for edge in edges if edge.multiplier_statistics),
            seconds=call.seconds,
            **place,
        )  # fmt: skip
        return node, edges

    def _into(self, call: Call) -> Multipliers:
        """What a call sent back to each of its arguments: the sum over the uses inside it."""
        passed = {wire for _name, wire in call.results}
        taken = {wire for _name, wire in call.arguments}
        captured = [use.wire for use in self._uses_of_call[call.index] if use.name == "captured"]
        arguments = call.arguments + [("captured", wire) for wire in dict.fromkeys(captured) if wire not in taken]
        return [
            (name, wire, wire.multiplier if wire in passed else _sum(self._sent_within(wire, call)))
            for name, wire in _merged(arguments)
        ]

    def _out_of(self, call: Call) -> Multipliers:
        """What arrived at each result from outside the call."""
        out: Multipliers = []
        for name, wire in _merged(call.results):
            within = [] if call.leaf else self._sent_within(wire, call)
            if within and wire.multiplier is not None:
                out.append((name, wire, wire.multiplier - torch.stack(within).sum(0)))
            else:
                out.append((name, wire, wire.multiplier))
        return out

    def _sent_within(self, wire: Wire, call: Call) -> list[torch.Tensor]:
        return [
            use.multiplier
            for use in self._uses[wire]
            if use.multiplier is not None and call.index <= use.call < call.end
        ]

    def _edge(self, direction: Direction, slot: int, name: str, wire: Wire, gradient: torch.Tensor | None) -> Edge:
        measure = self.measure
        value, reference, multiplier = measure.value(wire), measure.reference(wire), measure.multiplier(wire, gradient)
        return Edge(
            direction=direction,
            slot=slot,
            name=name,
            shape=value.shape,
            dtype=value.dtype,
            flow=measure.flow(wire, gradient),
            value_statistics=measure.statistics(value.numbers),
            reference_statistics=None if reference is None else measure.statistics(reference.numbers),
            difference_statistics=measure.statistics(measure.difference(wire)),
            multiplier_statistics=None if multiplier is None else measure.statistics(multiplier.numbers),
            value=measure.store(value),
            reference=measure.store(reference),
            multiplier=measure.store(multiplier),
        )

    def _elementwise(self, into: Multipliers, out: Multipliers) -> tuple[float, int, int]:
        """(largest |secant|, elements with small Δin, those of them with a Δout that is not small), where shapes
        agree."""
        if len(into) != 1 or len(out) != 1:
            return float("nan"), 0, 0
        (_, source, sent), (_, result, arrived) = into[0], out[0]
        din, dout = self.measure.difference(source), self.measure.difference(result)
        if din is None or dout is None or din.shape != dout.shape:
            return float("nan"), 0, 0
        small = np.abs(din) < SMALL_DIFFERENCE
        near = int(np.count_nonzero(small))
        dropped = int(np.count_nonzero(np.abs(dout[small]) >= SMALL_DIFFERENCE)) if near else 0
        m_in, m_out = self.measure.multiplier(source, sent), self.measure.multiplier(result, arrived)
        return _largest_secant(m_in, m_out), near, dropped


def _maker(wire: Wire) -> int | None:
    """The call that made a wire, or what it is a view of; None for the model's inputs."""
    while wire.parent is not None:
        wire = wire.parent
    return wire.producer


def _largest_secant(m_in: Tensor | None, m_out: Tensor | None) -> float:
    """The largest |m_in / m_out| where m_in is finite and m_out is not 0; NaN where there is none."""
    if m_in is None or m_out is None or m_in.numbers is None or m_out.numbers is None:
        return float("nan")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.abs(m_in.numbers / m_out.numbers)
    largest = float(ratio.max(initial=0.0))
    if not np.isfinite(largest):
        ratio = ratio[(m_out.numbers != 0) & np.isfinite(m_in.numbers)]
        largest = float(ratio.max()) if ratio.size else float("nan")
    return largest if ratio.size else float("nan")


def _visit(
    row: _Row, parent: int | None, depth: int, order: list[tuple[_Row, int | None, int]], ends: dict[int, int]
) -> None:
    """Append `row` and what is below it to `order`, in preorder, and note where each subtree ends."""
    number = len(order)
    order.append((row, parent, depth))
    for child in row.children:
        _visit(child, number, depth + 1, order, ends)
    ends[number] = len(order)


def _merged(named: list[tuple[str, Wire]]) -> list[tuple[str, Wire]]:
    """Each wire once: `attention(h, h, h)` takes one tensor under the names "0, 1, 2", and sends one sum back to it."""
    names: dict[Wire, list[str]] = defaultdict(list)
    for name, wire in named:
        names[wire].append(name)
    return [(", ".join(of_wire), wire) for wire, of_wire in names.items()]


def _sum(tensors: list[torch.Tensor]) -> torch.Tensor | None:
    if len(tensors) <= 1:
        return tensors[0] if tensors else None
    return torch.stack(tensors).sum(0)


def _gain(edges: Iterable[Edge]) -> float:
    """‖m_in‖₂ / ‖m_out‖₂ over all edges; NaN where no multiplier arrived."""
    norms = {"in": 0.0, "out": 0.0}
    for edge in edges:
        if edge.multiplier_statistics is not None:
            norms[edge.direction] += edge.multiplier_statistics.norm**2
    return (norms["in"] / norms["out"]) ** 0.5 if norms["out"] else float("nan")
