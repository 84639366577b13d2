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

from tracer.op_call import OpCall

Role = Literal["compute", "shape", "composite", "ignore"]

_OPERATORS = {
    "radd": "add", "iadd": "add", "subtract": "sub", "isub": "sub", "rmul": "mul", "multiply": "mul", "imul": "mul",
    "truediv": "div", "rtruediv": "rdiv", "rdiv": "rdiv", "itruediv": "div", "idiv": "div", "divide": "div",
    "true_divide": "div", "rpow": "rpow", "ipow": "pow", "rmatmul": "rmatmul", "imatmul": "matmul", "negative": "neg",
    "absolute": "abs", "concat": "cat", "concatenate": "cat", "arctan": "atan", "swapdims": "transpose", "swapaxes":
    "transpose", "special_expit": "sigmoid", "special_erf": "erf", "special_softmax": "softmax",
    "special_log_softmax": "log_softmax", "special_logsumexp": "logsumexp", "clip": "clamp", "rsub": "rsub",
    "_softmax": "softmax", "_log_softmax": "log_softmax", "conj": "ignore",
}  # fmt: skip

_SHAPE = {
    "view", "reshape", "view_as", "reshape_as", "transpose", "permute", "t", "T", "mT", "H", "mH", "movedim",
    "moveaxis", "flatten", "unflatten", "squeeze", "unsqueeze", "contiguous", "clone", "alias", "narrow", "select",
    "getitem", "chunk", "split", "unbind", "tensor_split", "expand", "expand_as", "broadcast_to", "unfold_view",
    "diagonal", "flip", "roll", "adjoint", "unsafe_chunk", "unsafe_split", "split_with_sizes", "hsplit", "vsplit",
    "dsplit", "atleast_1d", "atleast_2d", "atleast_3d", "ravel", "as_strided", "repeat_interleave", "tile", "repeat",
    "index_select", "real", "pixel_shuffle", "pixel_unshuffle", "swapaxes",
}  # fmt: skip

# Python functions of torch that hold several ops; a reader wants to see into them.
_COMPOSITES = {"multi_head_attention_forward", "normalize", "tensordot", "cosine_embedding_loss"}

_IGNORED = {
    "detach", "detach_", "requires_grad_", "register_hook", "register_post_accumulate_grad_hook", "retain_grad",
    "backward", "size", "dim", "numel", "stride", "storage_offset", "data_ptr", "is_contiguous", "is_floating_point",
    "is_complex", "is_same_size", "element_size", "get_device", "item", "tolist", "numpy", "len", "bool", "hash",
    "repr", "format", "storage", "untyped_storage", "type", "nelement", "ndimension", "int", "float_", "index",
    "contains", "iter", "array", "_set_grad_enabled", "set_grad_enabled", "is_inference", "ignore", "allclose",
    "equal", "result_type", "can_cast", "zeros_like", "ones_like", "empty_like", "full_like", "rand_like",
    "randn_like", "new_zeros", "new_ones", "new_empty", "new_full", "new_tensor", "argmax", "argmin", "argsort", "eq",
    "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "isfinite", "any", "all", "logical_and", "logical_or",
    "logical_not", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_not", "bitwise_xor", "nonzero",
    "count_nonzero", "searchsorted", "bucketize", "sign", "has_names", "is_nonzero", "deepcopy", "reduce_ex",
    "setstate", "dlpack", "share_memory_", "cpu", "cuda", "pin_memory", "is_shared", "record_stream", "get", "set",
    "delete", "isin", "dtype", "shape", "device",
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
    in_place = raw == "__setitem__" or (raw.startswith("__i") and raw.strip("_") in _OPERATORS)
    name = raw
    if raw.startswith("__") and raw.endswith("__"):
        name = raw.strip("_")
    elif raw.endswith("_") and not raw.startswith("_"):
        name, in_place = raw[:-1], raw not in _IGNORED
    name = _OPERATORS.get(name, name)
    if name.startswith("boolean_dispatch") or name == "fn":  # max_pool2d and its kin, with and without indices
        name = getattr(function, "__qualname__", name)
    if raw in _IGNORED or name in _IGNORED:
        return Op(name, "ignore", False)
    if name in _COMPOSITES:
        return Op(name, "composite", False)
    return Op(name, "shape" if name in _SHAPE and not in_place else "compute", in_place)


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
