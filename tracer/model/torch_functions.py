"""What a torch function is: its common name, and whether it computes, only reshapes, or is none of the ledger's
business.

One op has many doors (`torch.softmax`, `F.softmax`, `Tensor.softmax`, `x @ y`, `x += y`); all lead to one name.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch

from tracer import ops
from tracer.op_call import OpCall

Role = Literal["compute", "shape", "composite", "ignore"]

# What torch calls an op → its common name.
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
class Op:
    """A torch function's common `name`, its `role`, and whether it writes to its first argument."""

    name: str
    role: Role
    in_place: bool


@cache
def describe(function: Callable[..., Any]) -> Op:
    """What `function`, as a `TorchFunctionMode` receives it, is to the ledger.

    "compute": a row of the ledger. "shape": moves or repeats elements and creates no delta. "composite": Python code
    around several ops, entered rather than recorded. "ignore": no floating-point computation, or bookkeeping.
    """
    if isinstance(function, types.MethodWrapperType):  # property reads: Tensor.shape.__get__ and the like
        owner = getattr(function.__self__, "__name__", "")
        return Op(owner, "shape" if owner in {"T", "mT", "H", "mH", "real"} else "ignore", False)
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
    if role in ("ignore", "composite"):
        in_place = False
    return Op(name, "compute" if in_place else role, in_place)


def written_tensor(op: Op, call: OpCall) -> torch.Tensor | None:
    """The tensor that this call changes in place (`add_`, `+=`, `relu(inplace=True)`); None if it changes none.

    Of a view it is the base: autograd moves the view's history there, and the view gets a new one.
    """
    if not (op.in_place or call.kwargs.get("inplace", False)) or not call.args:
        return None
    target = call.args[0]
    if not isinstance(target, torch.Tensor):
        return None
    return target if target._base is None else target._base


def arguments(call: OpCall) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors among an op's arguments with their names ("0", "1.2", "mask"), one level of lists and tuples deep."""
    for index, value in enumerate(call.args):
        if isinstance(value, torch.Tensor):
            yield str(index), value
        elif isinstance(value, (list, tuple)):
            for place, item in enumerate(value):
                if isinstance(item, torch.Tensor):
                    yield f"{index}.{place}", item
    for name, value in call.kwargs.items():
        if isinstance(value, torch.Tensor):
            yield name, value


def run_composite(name: str, call: OpCall) -> Any:
    """The result of a composite op whose inner ops a mode is to see; its frame on the stack tells them their `name`."""
    return body(call.function)(*call.args, **call.kwargs)


@cache
def body(function: types.FunctionType) -> types.FunctionType:
    """`function` of torch's Python code without its own override check: called under a mode, its inner ops are seen.

    Such a function first asks `has_torch_function(...)` and hands itself to the mode, so calling it again from the mode
    would never get past the question.
    """
    no = {name: lambda *_tensors: False for name in function.__globals__ if name.startswith("has_torch_function")}
    copy = types.FunctionType(
        function.__code__,
        {**function.__globals__, **no},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
