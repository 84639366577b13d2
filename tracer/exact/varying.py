"""Which tensors may differ between the two runs, and which of them a rule needs from the reference run."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import _functorch

from tracer.errors import InputError, ObservationError
from tracer.exact.tape import KeptOperands
from tracer.model import torch_functions
from tracer.model.source import source_line
from tracer.op_call import OpCall
from tracer.rules.call import BoundCall


def is_varying(tensor: Tensor) -> bool:
    """Whether a tensor may differ between the runs; parameters do not, whoever owns them."""
    return tensor.requires_grad and not isinstance(tensor, nn.Parameter)


def has_gradient(value: Any) -> bool:
    """Whether an op's result, or a tensor in it, needs a gradient."""
    if isinstance(value, Tensor):
        return value.requires_grad
    return isinstance(value, (tuple, list)) and any(has_gradient(item) for item in value)


def is_differentiable(value: Any) -> bool:
    """Whether an op's result is, or holds, a tensor of real or complex numbers."""
    if isinstance(value, Tensor):
        return value.is_floating_point() or value.is_complex()
    return isinstance(value, (tuple, list)) and any(is_differentiable(item) for item in value)


def needed_operands(call: BoundCall) -> list[bool]:
    """Which operands the rule needs of the reference run: all, or those that must be equal for autograd to be exact."""
    operands = call.operands
    if call.linear == "same choice":
        return [i < call.choices for i in range(len(operands))]
    if call.linear == "one varying":
        varying = [is_varying(t) for t in operands]
        if sum(varying) == 1:
            return [not v and not isinstance(t, nn.Parameter) for v, t in zip(varying, operands, strict=True)]
    return [True] * len(operands)


def differing_elements(ours: KeptOperands, theirs: KeptOperands) -> int:
    """How many elements differ between the operands that both runs kept."""
    count = 0
    for our, their in zip(ours, theirs, strict=True):
        if our is None or their is None or (our.data_ptr() == their.data_ptr() and our.shape == their.shape):
            continue
        if our.shape != their.shape:
            count += max(our.numel(), their.numel())
        elif not torch.equal(our, their):
            count += int((our != their).sum())
    return count


def whole_rows(call: OpCall) -> OpCall:
    """A look-up in a table that varies, without the settings by which some of its rows get no gradient."""
    first, second = call.value(0, "input"), call.value(1, "weight")
    table, index = (second, first) if isinstance(call.function, types.FunctionType) else (first, second)
    if not isinstance(table, Tensor) or not is_varying(table) or call.value(3, "max_norm") not in (None, False, True):
        return call
    return OpCall(torch.embedding, (table, index), {})


CASTS = frozenset({"to", "type", "type_as", "float", "half", "bfloat16", "cfloat", "chalf"})


def narrows(call: OpCall, value: Any, inputs: torch.dtype | None) -> bool:
    """Whether a cast rounds what varies, to fewer digits than the inputs have: a linear rule cannot tell how."""
    source = call.args[0] if call.args else None
    if not (isinstance(source, Tensor) and isinstance(value, Tensor) and is_varying(source)):
        return False
    if inputs is None or not (is_differentiable(source) and is_differentiable(value)):
        return False
    return torch.finfo(value.dtype).eps > max(torch.finfo(source.dtype).eps, torch.finfo(inputs).eps)


def check_shapes(name: str, xs: Sequence[Tensor], x_refs: Sequence[Tensor]) -> None:
    """`ObservationError` for an operand that has another shape in the reference run."""
    for x, x_ref in zip(xs, x_refs, strict=True):
        if x.shape != x_ref.shape:
            raise ObservationError(
                f"{name} at {source_line()} has an operand of shape {tuple(x.shape)} in the input run and of "
                f"{tuple(x_ref.shape)} in the reference run; pad both to one length"
            )


def in_transform() -> bool:
    """Whether a transform of torch.func (vmap, grad, jvp) is under way."""
    return _functorch.peek_interpreter_stack() is not None


def refuse_transformed(call: OpCall) -> None:
    """`InputError` for a varying tensor under torch.func, which hides whether a tensor varies.

    Transforms of constants, as in the making of masks, may stay.
    """
    for _name, tensor in torch_functions.arguments(call):
        wrapped = _functorch.is_functorch_wrapped_tensor(tensor)
        while _functorch.is_functorch_wrapped_tensor(tensor):
            tensor = _functorch.get_unwrapped(tensor)
        if wrapped and tensor.requires_grad:
            raise InputError(
                f"the model calls torch.func (vmap, grad, jvp) at {source_line()}, which exact rules cannot see into; "
                "write the loop out, or use method 'gradient'"
            )
