"""How the paired evaluation treats a torch function: leave it, enter it, or replace it by a rule."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch.nn import functional as F

from tracer import ops
from tracer.model import torch_functions
from tracer.rules.bindings.composed import PYTHON
from tracer.rules.table import RULES

TreatmentKind = Literal["plain", "shape", "linear", "enter", "rule", "unknown", "cut"]


@dataclass(frozen=True, slots=True)
class Treatment:
    """What to do with every call of one function.

    "plain": nothing to attribute (bookkeeping, comparisons). "shape": moves elements. "linear": run as it is, but a
    step of the tape. "enter": Python code around other ops. "rule": bound by the table of exact rules. "unknown": no
    rule. "cut": the value goes on without a gradient. `outside` is the function that does the same without writing to
    its argument.
    """

    name: str
    kind: TreatmentKind
    in_place: bool
    inplace_position: int | None
    outside: Callable[..., Any]


@cache
def treatment(function: Callable[..., Any]) -> Treatment:
    """The treatment of `function`, as a `TorchFunctionMode` receives it."""
    op = torch_functions.describe(function)
    position = None
    if isinstance(function, types.FunctionType):
        names = list(inspect.signature(function, follow_wrapped=False).parameters)
        position = names.index("inplace") if "inplace" in names else None
    return Treatment(op.name, _kind(function, op), op.in_place, position, _outside(function, op))


def _kind(function: Callable[..., Any], op: torch_functions.TorchFunction) -> TreatmentKind:
    name = op.name
    if name in ("detach", "data"):
        return "cut"
    if op.role == "ignore" or getattr(function, "__module__", "") == "torch.nn.init":  # of a layer made in forward
        return "plain"
    if name in RULES and not (name in PYTHON and isinstance(function, types.FunctionType)):
        return "rule"
    if op.role == "composite":
        return "enter"
    kind = ops.kind(name)
    if kind == "shape":
        return "linear" if op.in_place else "shape"
    if kind == "linear":
        return "linear"
    if isinstance(function, types.MethodWrapperType):
        return "plain"
    if isinstance(function, types.FunctionType):
        return "enter"
    return "unknown"


def _outside(function: Callable[..., Any], op: torch_functions.TorchFunction) -> Callable[..., Any]:
    if not op.in_place or op.name == "setitem":
        return function
    for home in (torch.Tensor, torch, F):
        found = getattr(home, op.name, None)
        if callable(found):
            return found  # type: ignore[no-any-return]
    return function
