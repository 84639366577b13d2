"""The ledger's rows: every call with its leak, so that the whole convergence delta, signed, is handed out.

    flow(wire) = Σ m·Δ                leak(call) = Σ flow(arguments) − Σ flow(results)

m is the multiplier, Δ = value − reference, and the sum runs over the elements of one example. The flow of a wire stands
once as the result of the call that made it, and in parts, one for each use, as an argument of the calls that take it.
So it cancels in the sum over all calls:

    Σ leak(leaf calls) + Σ lost(wires) = Σ m_x·Δx − (f(x) − f(x')) = the convergence delta

for any multipliers, right or wrong. lost(wire) = flow at the call that made it − Σ flows of its uses: not zero where a
hook overwrote the gradient of a tensor that several calls take. Each such wire gets a row of its own. What then remains
(rounding, and calls that could not be observed) is the self leak of the model's own row.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from tracer.ledger.settling import CallFigures, Settling
from tracer.ledger.wires import ObservedCall, Wire
from tracer.records import Edge, Floats, Node

_BY_SLOT = attrgetter("direction", "slot")


@dataclass(eq=False, slots=True)
class _Row:
    """A call, or a wire with an overwritten gradient, before it becomes a `Node`. `own` is its self leak."""

    call: ObservedCall | None
    lost: Wire | None
    own: Floats
    children: list[_Row] = field(default_factory=list)
    leak: Floats = field(init=False)

    def add_up(self) -> Floats:
        """Set `leak` here and below: the self leak plus the leaks of the children."""
        inside: Floats | None = None
        for child in self.children:
            inside = child.add_up() if inside is None else inside + child.add_up()
        self.leak = self.own if inside is None else self.own + inside
        return self.leak


def rows(settling: Settling) -> Iterator[tuple[Node, tuple[Edge, ...]]]:
    """Every call of a finished settling as a node with its edges, in preorder.

    The row of a wire with an overwritten gradient follows the call that made it.
    """
    calls = settling.observation.calls
    made = [_Row(call, None, figures.into - figures.out) for call, figures in zip(calls, settling.calls, strict=True)]
    children: dict[int | None, list[_Row]] = defaultdict(list)
    lost: dict[int | None, list[_Row]] = defaultdict(list)
    for wire in sorted(settling.lost, key=lambda wire: wire.index):
        lost[wire.base.producer].append(_Row(None, wire, settling.lost[wire][0]))
    for row, call in zip(made, calls, strict=True):
        children[call.parent] += [row, *lost[call.index]]
    for row, call in zip(made, calls, strict=True):
        row.children = children[call.index]
    root = made[0]
    root.children = lost[None] + root.children
    root.own = root.own + settling.delta - root.add_up()
    root.leak = settling.delta
    return _numbered(root, settling)


def _numbered(root: _Row, settling: Settling) -> Iterator[tuple[Node, tuple[Edge, ...]]]:
    order: list[tuple[_Row, int | None, int]] = []
    ends: dict[int, int] = {}
    _visit(root, None, 0, order, ends)
    numbers = {id(row): number for number, (row, _parent, _depth) in enumerate(order)}
    losses: dict[str, int] = defaultdict(int)
    for number, (row, parent, depth) in enumerate(order):
        place: dict[str, Any] = {
            "id": number,
            "parent": parent,
            "end": ends[number],
            "depth": depth,
            "children": tuple(numbers[id(child)] for child in row.children),
        }
        if row.call is not None:
            yield _node(row, row.call, settling.calls[row.call.index], place)
        else:
            assert row.lost is not None
            yield _lost_node(row, row.lost, settling, place, losses)


def _lost_node(
    row: _Row, wire: Wire, settling: Settling, place: dict[str, Any], losses: dict[str, int]
) -> tuple[Node, tuple[Edge, ...]]:
    index = wire.base.producer
    path = f"{'' if index is None else settling.observation.calls[index].path}/lost path"
    number, losses[path] = losses[path], losses[path] + 1
    node = Node(
        path=path, call=number, kind="lost", type=f"{settling.consumers(wire)} consumers, gradient overwritten",
        source=None, rule="none",
        leak=row.own, self_leak=row.own, gain=float("nan"), relative_leak=float("nan"),
        largest_secant=float("nan"), small_differences=0, dropped_differences=0, nonfinite=0, seconds=0.0,
        **place,
    )  # fmt: skip
    return node, (settling.lost[wire][1],)


def _node(row: _Row, call: ObservedCall, figures: CallFigures, place: dict[str, Any]) -> tuple[Node, tuple[Edge, ...]]:
    edges = tuple(sorted(figures.edges, key=_BY_SLOT))
    magnitude, total = figures.magnitude, abs(sum(row.leak.tolist()))
    node = Node(
        path=call.path, call=call.number, kind=call.kind, type=call.type, source=call.source, rule=call.rule,
        leak=row.leak, self_leak=row.own, gain=_gain(edges),
        relative_leak=total / magnitude if magnitude else (0.0 if total == 0 else float("inf")),
        largest_secant=figures.secants.largest, small_differences=figures.secants.small,
        dropped_differences=figures.secants.dropped,
        nonfinite=sum([edge.multiplier_statistics.nonfinite for edge in edges if edge.multiplier_statistics]),
        seconds=call.seconds,
        **place,
    )  # fmt: skip
    return node, edges


def _visit(
    row: _Row, parent: int | None, depth: int, order: list[tuple[_Row, int | None, int]], ends: dict[int, int]
) -> None:
    """Append `row` and the rows below it to `order`, in preorder, and set in `ends` where each subtree ends."""
    number = len(order)
    order.append((row, parent, depth))
    for child in row.children:
        _visit(child, number, depth + 1, order, ends)
    ends[number] = len(order)


def _gain(edges: Iterable[Edge]) -> float:
    """‖m_in‖₂ / ‖m_out‖₂ over all edges; NaN where ‖m_out‖₂ is 0 or unknown."""
    norms = {"in": 0.0, "out": 0.0}
    for edge in edges:
        if edge.multiplier_statistics is not None:
            norms[edge.direction] = math.hypot(norms[edge.direction], edge.multiplier_statistics.norm)
    return norms["in"] / norms["out"] if norms["out"] else float("nan")
