"""The common name of each torch function, and whether the ledger shows, enters or ignores a call of it.

One op has several functions (`torch.softmax`, `F.softmax`, `Tensor.softmax`; `x + y`, `x += y`), all of one name.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any, Literal

import torch
from torch._jit_internal import boolean_dispatched

from tracer import ops
from tracer.op_call import OpCall

Role = Literal["compute", "shape", "composite", "ignore"]

# torch's name of an op → the common one.
_ALIASES = {
    "radd": "add", "iadd": "add", "subtract": "sub", "isub": "sub", "rmul": "mul", "multiply": "mul", "imul": "mul",
    "truediv": "div", "rtruediv": "rdiv", "itruediv": "div", "idiv": "div", "divide": "div", "true_divide": "div",
    "ipow": "pow", "imatmul": "matmul", "negative": "neg", "absolute": "abs", "concat": "cat", "concatenate": "cat",
    "arctan": "atan", "swapdims": "transpose", "swapaxes": "transpose", "special_expit": "sigmoid",
    "special_erf": "erf", "special_softmax": "softmax", "special_log_softmax": "log_softmax",
    "special_logsumexp": "logsumexp", "clip": "clamp", "_softmax": "softmax", "_log_softmax": "log_softmax",
    "_threshold": "threshold",
}  # fmt: skip
_ROLES: dict[ops.Kind, Role] = {
    "shape": "shape", "index": "shape", "composite": "composite", "ignored": "ignore",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TorchFunction:
    """A function's common `name`, its `role` in the ledger, and whether it writes to its first argument."""

    name: str
    role: Role
    in_place: bool


@cache
def describe(function: Callable[..., Any]) -> TorchFunction:
    """The name and role of `function`, as a `TorchFunctionMode` receives it.

    "compute": its calls are rows of the ledger. "shape": it moves or repeats elements, and creates no delta.
    "composite": Python code that calls several ops, which are shown. "ignore": it computes no floating-point numbers.
    """
    if isinstance(function, types.MethodWrapperType):  # property reads: Tensor.shape.__get__ and the like
        owner = getattr(function.__self__, "__name__", "")
        return TorchFunction(owner, "shape" if owner in {"T", "mT", "H", "mH", "real"} else "ignore", False)
    raw = getattr(function, "__name__", type(function).__name__)
    if isinstance(function, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        raw = raw.split(".")[0].removeprefix("_")  # "_softmax.default"
    in_place = raw == "__setitem__" or (raw.startswith("__i") and raw.strip("_") in _ALIASES)
    name = raw
    if raw.startswith("__") and raw.endswith("__"):
        name = raw.strip("_")
    elif raw.endswith("_") and not raw.startswith("_"):
        name, in_place = raw[:-1], True
    name = _ALIASES.get(name, name)
    if name.startswith("boolean_dispatch") or name == "fn":  # max_pool2d and its kin, with and without indices
        name = getattr(function, "__qualname__", name)
    known = ops.TABLE.get(name)
    role = "compute" if known is None else _ROLES.get(known.kind, "compute")
    if role == "composite" and not isinstance(function, types.FunctionType):
        role = "compute"  # the compiled one that the Python code of that name ends in
    if role in ("ignore", "composite"):
        in_place = False
    return TorchFunction(name, "compute" if in_place else role, in_place)


def written_tensor(op: TorchFunction, call: OpCall) -> torch.Tensor | None:
    """The tensor that this call changes in place (`add_`, `+=`, `relu(inplace=True)`); None if it changes none.

    For a view it is the base, since autograd moves the view's history there and gives the view a new one.
    """
    if not (op.in_place or call.kwargs.get("inplace", False)) or not call.args:
        return None
    target = call.args[0]
    if not isinstance(target, torch.Tensor):
        return None
    return target if target._base is None else target._base


def arguments(call: OpCall) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors among an op's arguments and in lists and tuples there, with names: "0", "1.2", "mask"."""
    named = chain(((str(index), value) for index, value in enumerate(call.args)), call.kwargs.items())
    for name, value in named:
        if isinstance(value, torch.Tensor):
            yield name, value
        elif isinstance(value, (list, tuple)):
            for place, item in enumerate(value):
                if isinstance(item, torch.Tensor):
                    yield f"{name}.{place}", item


def run_composite(name: str, call: OpCall) -> Any:
    """The result of a composite op, run so that a mode sees its inner ops.

    They find its `name` in this function's frame on the stack.
    """
    return body(call.function)(*call.args, **call.kwargs)


@cache
def body(function: types.FunctionType) -> types.FunctionType:
    """A Python function of torch's without its check for overrides, so that a mode sees the ops that it calls.

    Such a function first asks `has_torch_function(...)` and hands itself to the mode: called from there, it would do so
    again without end.
    """
    never: dict[str, Any] = _never_overridden(function.__globals__)
    if "overrides" in function.__code__.co_names:  # the few that ask by the module's name
        names = vars(torch.overrides)
        never["overrides"] = types.SimpleNamespace(**{**names, **_never_overridden(names)})
    closure = function.__closure__
    if function in boolean_dispatched:  # it hands itself on from one of two functions that it holds
        closure = tuple(
            types.CellType(body(held) if isinstance(held, types.FunctionType) else held)
            for held in (cell.cell_contents for cell in closure or ())
        )
    copy = types.FunctionType(
        function.__code__,
        {**function.__globals__, **never},
        function.__name__,
        function.__defaults__,
        closure,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _never_overridden(names: Mapping[str, Any]) -> dict[str, Callable[..., bool]]:
    return {name: lambda *_tensors: False for name in names if name.startswith("has_torch_function")}
