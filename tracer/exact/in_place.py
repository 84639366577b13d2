"""Calls that write to their argument: which tensor they write to, and the same call without writing."""

from __future__ import annotations

from torch import Tensor

from tracer.exact.treatment import Treatment
from tracer.op_call import OpCall


def written_argument(how: Treatment, call: OpCall) -> Tensor | None:
    """The tensor that this call overwrites; None where it overwrites none."""
    if not (how.in_place or call.value(how.inplace_position, "inplace", False)):
        return None
    target = call.value(0, "input")
    return target if isinstance(target, Tensor) else None


def out_of_place(how: Treatment, call: OpCall) -> OpCall:
    """The call that computes the same and writes to nothing."""
    if how.in_place:
        return OpCall(how.outside, call.args, call.kwargs)
    place = call.place(how.inplace_position, "inplace")
    assert place is not None
    return call.replaced([(place, False)])
