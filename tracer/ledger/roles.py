"""Which wires are a call's arguments and which its results, each wire once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from tracer.ledger.wires import Observation, ObservedCall, Wire
from tracer.records import Direction


class WireRole(NamedTuple):
    """What a wire is to a call: argument or result number `slot`. `passed`: an argument that the call also returns."""

    call: ObservedCall
    direction: Direction
    slot: int
    name: str
    passed: bool


def roles(
    observation: Observation,
) -> Iterator[tuple[ObservedCall, list[tuple[Wire, WireRole]], list[tuple[Wire, WireRole]]]]:
    """Each call in execution order, with the wires that it took and those that it returned.

    What an op used without being given it, from a closure or as the base of a view, is an argument named "captured".
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
    """Each wire with its names: `attention(h, h, h)` takes one tensor, named "0, 1, 2", and sends it one sum back."""
    names: dict[Wire, str] = {}
    for name, wire in named:
        names[wire] = f"{names[wire]}, {name}" if wire in names else name
    return names
