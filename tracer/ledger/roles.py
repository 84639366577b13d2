"""What wires are to calls: their arguments and results, each wire once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from tracer.ledger.wires import Observation, ObservedCall, Wire
from tracer.records import Direction


class WireRole(NamedTuple):
    """What a wire is to a call: its argument or result number `slot`; `passed`: an argument that it also returns."""

    call: ObservedCall
    direction: Direction
    slot: int
    name: str
    passed: bool


def roles(
    observation: Observation,
) -> Iterator[tuple[ObservedCall, list[tuple[Wire, WireRole]], list[tuple[Wire, WireRole]]]]:
    """Each call in their order, with the wires that it took and those that it gave.

    What an op took past its arguments, from a closure or as the base of a view, is an argument named "captured".
    """
    captured: dict[int, dict[Wire, None]] = defaultdict(dict)
    for use in observation.uses:
        if use.name == "captured":
            captured[use.call][use.wire] = None
    for call in observation.calls:
        into, out = _merged(call.arguments), _merged(call.results)
        for wire in captured.get(call.index, ()):
            into.setdefault(wire, "captured")
        taken = [
            (wire, WireRole(call, "in", slot, name, wire in out)) for slot, (wire, name) in enumerate(into.items())
        ]
        given = [(wire, WireRole(call, "out", slot, name, False)) for slot, (wire, name) in enumerate(out.items())]
        yield call, taken, given


def _merged(named: list[tuple[str, Wire]]) -> dict[Wire, str]:
    """Each wire once: `attention(h, h, h)` takes one tensor under the names "0, 1, 2", and sends one sum back to it."""
    names: dict[Wire, str] = {}
    for name, wire in named:
        names[wire] = f"{names[wire]}, {name}" if wire in names else name
    return names
