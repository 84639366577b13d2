"""Which tensors of a run are the inverse of a scale, by where they come from.

A normalisation that is written out multiplies by 1/s: `x * torch.rsqrt(variance + eps)`. To the product rule that is a
product like any other; the rule of scales needs to know which factor is the inverse. It came out of a negative power,
or a constant divided by what varies, possibly by way of casts, views and constant factors.
"""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor

from tracer import ops
from tracer.exact.varying import is_varying
from tracer.op_call import OpCall

_INVERT = frozenset({"rsqrt", "reciprocal", "rdiv"})
_PASS_ON = ops.FLOAT_CASTS | ops.MOVES | {"clamp"}
_MAY = _INVERT | {"pow", "float_power", "div"}


class InverseScales:
    """The inverse scales among the tensors of a run that is under way."""

    def __init__(self) -> None:
        self._kept: dict[int, weakref.ref[Tensor]] = {}

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()

    def __contains__(self, value: Any) -> bool:
        found = self._kept.get(id(value)) if self._kept and isinstance(value, Tensor) else None
        return found is not None and found() is value

    def look_at(self, name: str, call: OpCall, value: Any) -> None:
        """Take up what a call of op `name` gave, if it is an inverse scale."""
        if (self._kept or name in _MAY) and isinstance(value, Tensor) and self._gives(name, call):
            self._kept[id(value)] = weakref.ref(value)

    def _gives(self, name: str, call: OpCall) -> bool:
        first, second = call.value(0, "input"), call.value(1, "other", call.kwargs.get("exponent"))
        if name in _INVERT:
            return True
        if name in ("pow", "float_power"):
            return isinstance(second, (int, float)) and second < 0
        if name == "div" and isinstance(second, Tensor) and is_varying(second):
            return not (isinstance(first, Tensor) and is_varying(first))
        if name in _PASS_ON:
            return first in self
        if name in ("mul", "div"):
            others = [item for item in (first, second) if item not in self]
            return len(others) == 1 and not (isinstance(others[0], Tensor) and is_varying(others[0]))
        return False
