"""Notes on what no figure shows: the settings of modules, how they are called, and what the model returns.

The recorder asks for some while the model runs (`at_call`, `of_op`, `of_output`); the rest is read off the finished
observation (`after_run`). Only modules and ops that ran in the recorded calls count.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from tracer import ops
from tracer.ledger.settling import Settling
from tracer.ledger.wires import Observation, ObservedCall, Wire
from tracer.model.tensors import tensors_in
from tracer.op_call import OpCall
from tracer.recording.captum import CaptumResult, captum_table
from tracer.recording.decided import halves_differ
from tracer.records import Floats, Note, NoteKind
from tracer.text import dtype_name, figure

_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_POOL_SETTINGS = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_ROUNDING = 1e-5  # of f, what two ways of computing a delta may differ by
# Under captum's rules for these an example's multipliers depend on the other examples of its batch.
_COUPLING = (nn.Softmax, *_POOLS)


def at_call(path: str, number: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Note | None:
    """A note on a call in which captum's hooks will fail: they see only the first positional argument."""
    kind = type(module).__name__
    if not args:
        names = ", ".join(f"{name}=..." for name in kwargs)
        return Note("keyword call", path, number, f"{kind} called with {names} and no positional argument")
    if isinstance(args[0], torch.Tensor) and not args[0].requires_grad:
        where = "under torch.no_grad()" if not torch.is_grad_enabled() else "on a tensor that needs no gradient"
        return Note("no-grad call", path, number, f"{kind} runs {where}")
    return None


def of_op(name: str, path: str, number: int, call: OpCall) -> Note | None:
    """A note on a functional op that runs in training mode: dropout, batch norm, attention with dropout."""
    if name == "scaled_dot_product_attention":
        rate = call.value(4, "dropout_p", 0.0)
        return Note("training mode", path, number, f"{name} with dropout {rate:g}") if rate else None
    op = ops.find(name)
    if op is None or not op.training_at:
        return None
    by_default = name.startswith("dropout")
    training = call.value(op.training_at, "training", call.kwargs.get("train", by_default))
    rate = call.value(1, "p", 0.5) if "dropout" in name else 1.0
    if not training or not rate:
        return None
    return Note("training mode", path, number, f"{name} with p={rate:g}" if "dropout" in name else name)


def of_constants(name: str, path: str, number: int, call: OpCall, rows: int) -> Note | None:
    """A note on an op that picks the same elements for both halves of the batch, but takes numbers that differ.

    Of tensors without a gradient, along their first axis. Where the choice differs too, that is the fault.
    """
    constants = [t for _name, t in tensors_in((call.args, call.kwargs)) if not t.requires_grad and t.dim()]
    differing = [t for t in constants if halves_differ(t, rows)]
    if not differing or not all(t.is_floating_point() for t in differing):
        return None
    return Note("differing constant", path, number, f"{name}, rule autograd")


def of_output(output: Any) -> Note | None:
    """A note on a model output that is not a tensor, with the names in it."""
    if isinstance(output, torch.Tensor):
        return None
    names = list(output) if isinstance(output, Mapping) else []
    shown = f" of {', '.join(str(name) for name in names[:6])}" if names else ""
    return Note("non-tensor output", detail=f"{type(output).__name__}{shown}")


def integer_input(dtype: torch.dtype, modules: Mapping[str, nn.Module]) -> Note:
    """A note on an input of integers, which have no gradient; it says what to attribute to instead."""
    embedding = next((path for path, module in modules.items() if isinstance(module, nn.Embedding)), None)
    where = "the output of the embedding layer" if embedding is None else f"the output of {embedding}"
    return Note("integer input", detail=f"dtype {dtype_name(dtype)}; attribute to {where}")


def after_run(observation: Observation, modules: Mapping[str, nn.Module]) -> Iterator[Note]:
    """Notes read off a finished run; `modules` by path."""
    for wire in observation.inputs[:1]:
        if not wire.value.is_floating_point():
            yield integer_input(wire.value.dtype, modules)
    called: dict[str, list[ObservedCall]] = defaultdict(list)
    for call in observation.calls:
        if call.kind == "module" and call.path in modules:
            called[call.path].append(call)
    table = captum_table() if observation.doubled else {}
    for path, calls in called.items():
        module = modules[path]
        if (detail := _training(module)) is not None:
            yield Note("training mode", path, detail=detail)
        if calls[0].rule == "captum":
            yield from _ruled(path, module, calls)
        elif type(module) in table:
            if module._backward_hooks:
                yield Note("hook skipped", path, detail=f"{type(module).__name__} has {_hook_names(module)}")
        elif (base := next((kind for kind in type(module).__mro__ if kind in table), None)) is not None:
            yield Note("subclass ignored", path, detail=f"{type(module).__name__} is a {base.__name__}")
    if any(call.rule == "captum" for call in observation.calls):
        yield from _overwriting(observation, modules)


def of_result(result: CaptumResult, settling: Settling, noted: Collection[NoteKind]) -> Iterator[Note]:
    """Notes on what captum gave: numbers of another meaning, or a delta of another function than it explained.

    `noted` are the kinds of the other notes: some say already why captum's delta is another.
    """
    delta, ours = result.delta, settling.delta
    if result.how:
        pairs = zip(result.attributions, settling.attributions, strict=False)
        if all(one.shape == other.shape and torch.allclose(one.cpu(), other, rtol=1e-3) for one, other in pairs):
            return  # the function says what captum does by default
        said = ""
        if delta is not None:
            said = f"; captum's own delta is {_figures(delta)}, that of multipliers × differences {_figures(ours)}"
        amount = math.nan if delta is None else float(delta.sum())
        yield Note("multipliers returned", detail=result.how + said, amount=amount)
    elif (
        delta is not None and delta.shape == ours.shape and not {"training mode", "in-place input"}.intersection(noted)
    ):
        numbers = (delta, settling.output, settling.output_reference)
        if np.abs(delta - ours).sum() > _ROUNDING * sum(float(np.abs(each).sum()) for each in numbers):
            apart, eps = result.without_grad(), torch.finfo(result.attributions[0].dtype).eps
            if apart > 8 * eps * (np.abs(numbers[1]).sum() + np.abs(numbers[2]).sum()):
                yield Note("other without grad", detail="captum's delta is of runs without gradients", amount=apart)


def _figures(values: Floats) -> str:
    shown = ", ".join(figure(value) for value in values[:4].tolist())
    return f"{shown} and {len(values) - 4} more" if len(values) > 4 else shown


def may_couple(observation: Observation, modules: Mapping[str, nn.Module]) -> bool:
    """Whether captum's rules, or batch statistics, may make one example's attributions depend on another's.

    False under dropout, where two runs differ anyway.
    """
    ran = [(modules[call.path], call) for call in observation.calls if call.kind == "module" and call.path in modules]
    if any(note.kind == "training mode" and "dropout" in note.detail.lower() for note in observation.notes):
        return False
    if any(isinstance(module, nn.modules.dropout._DropoutNd) and _training(module) for module, _call in ran):
        return False
    return any(
        (call.rule == "captum" and isinstance(module, _COUPLING))
        or (isinstance(module, nn.modules.batchnorm._BatchNorm) and _training(module) is not None)
        for module, call in ran
    )


def _training(module: nn.Module) -> str | None:
    """Why a module's results depend on more than its input (its mode, the rest of the batch); None if they do not."""
    kind = type(module).__name__
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        if module.running_mean is None:
            return f"{kind} without running statistics"
        return kind if module.training else None
    if not module.training:
        return None
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return f"{kind} with p={module.p:g}" if module.p else None
    if isinstance(module, nn.RNNBase):
        return f"{kind} with dropout={module.dropout:g}" if module.dropout and module.num_layers > 1 else None
    return kind if isinstance(module, nn.RReLU) else None


def _ruled(path: str, module: nn.Module, calls: list[ObservedCall]) -> Iterator[Note]:
    if len(calls) > 1:
        yield Note("reused module", path, detail=type(module).__name__, amount=float(len(calls)))
    if isinstance(module, _POOLS):
        settings = {name: getattr(module, name) for name in _POOL_SETTINGS}
        detail = ", ".join(f"{name}={value}" for name, value in settings.items())
        if module.return_indices:
            detail += ", return_indices=True"
        overlap = _overlapping(module.kernel_size, module.stride, module.dilation)
        yield Note("pool settings", path, detail=detail, amount=float(overlap))


def _overlapping(kernel: Any, stride: Any, dilation: Any) -> bool:
    """Whether two windows share an element: two places of the kernel are a multiple of the stride apart."""
    axes = max((len(value) for value in (kernel, stride, dilation) if isinstance(value, tuple)), default=1)
    sizes = [value if isinstance(value, tuple) else (value,) * axes for value in (kernel, stride, dilation)]
    return any(
        any(apart * spread % step == 0 for apart in range(1, width)) for width, step, spread in zip(*sizes, strict=True)
    )


def _hook_names(module: nn.Module) -> str:
    names = [getattr(hook, "__qualname__", type(hook).__name__) for hook in module._backward_hooks.values()]
    return f"the backward hook{'s' * (len(names) > 1)} {', '.join(names)}"


def _overwriting(observation: Observation, modules: Mapping[str, nn.Module]) -> Iterator[Note]:
    """Modules that captum rules and that overwrite a tensor which is read again: under captum they overwrite a copy."""
    readers: dict[Wire, int] = {}  # the last call that takes a tensor, or a view of it
    for use in observation.uses:
        if not use.reshaping:
            readers[use.wire.base] = max(use.call, readers.get(use.wire.base, 0))
    for wire in observation.outputs:
        readers[wire.base] = len(observation.calls)
    for call in observation.calls:
        if call.rule == "captum" and call.overwrote and readers.get(call.arguments[0][1].base, 0) >= call.end > 0:
            yield Note("in-place input", call.path, call.number, f"{type(modules[call.path]).__name__}(inplace=True)")
