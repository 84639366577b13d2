"""What cannot be traced, and why: models, inputs, and tensors that a model makes.

`..._fault` gives the reason in words, "" if there is none; `check_...` raise it. Each says what was seen and what to do
instead, so that nobody has to read an error from inside PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tracer.errors import InputError, ModelError
from tracer.model.hooks import modules_of
from tracer.text import dtype_name

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_SHARDED = {"FullyShardedDataParallel", "FSDPModule"}
_QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.ao.nn.sparse.quantized")
# Words in PyTorch's errors, and what they mean here.
_EXPLAINED = (
    (
        "torch.utils.checkpoint",
        "gradient checkpointing runs parts of the model again, without the rules: turn it off "
        "(model.gradient_checkpointing_disable())",
    ),
    (
        "appears to not have been used in the graph",
        "no gradient leads from the output back to an input: the model does not use it, or cuts the gradient (detach, "
        "no_grad, rounding, integers, quantised or nested tensors); leave that input out, or remove the cut",
    ),
    (
        "don't yet support saved tensor hooks",
        "the model calls torch.func.grad or another derivative of torch.func inside, which cannot be traced; write the "
        "derivative out, or take it with torch.autograd.grad",
    ),
)


def _type_fault(kind: type[nn.Module], seen_through: bool) -> str:
    """Why calls of a type of modules cannot be observed; "" if they can."""
    name, bases = kind.__name__, kind.__mro__
    if issubclass(kind, _PARALLEL):
        return f"it is {name}: pass the module inside it, model.module"
    if any(base.__name__ in _SHARDED for base in bases):
        return "its parameters are sharded (FSDP): pass the model as it was before sharding"
    if any(base.__module__.startswith(_QUANTISED) for base in bases):
        return f"it is a quantised {name}, which has no gradient: pass the model as it was before quantisation"
    if any(base.__module__.startswith("torch.export.") for base in bases):
        return "it came out of torch.export: pass the Python module it was made from"
    if not seen_through and issubclass(kind, torch.jit.ScriptModule):
        return "it is a TorchScript module: pass the Python module it was made from"
    if not seen_through and name == "OptimizedModule":
        return "it is torch.compile'd: pass the module it was made from, ._orig_mod"
    return ""


def _contents_fault(module: nn.Module) -> str:
    """Why a module with these parameters and buffers cannot be observed; "" if it can."""
    for own, value in (*module._parameters.items(), *module._buffers.items()):
        if value is not None and (fault := _parameter_fault(value)):
            return f"its {own} {fault}"
    return ""


def _parameter_fault(tensor: Tensor) -> str:
    if is_lazy(tensor):
        return "has no shape yet: run the model once before"
    if tensor.is_meta:
        return "is on the meta device, without values: load the weights before"
    if tensor.is_quantized:
        return f"has the quantised dtype {dtype_name(tensor.dtype)}: pass the model as it was before quantisation"
    return ""


def check_model(model: object, *, seen_through: bool = False) -> None:
    """Raise `ModelError` for anything but a module, and for the first module inside that cannot be observed.

    `seen_through`: TorchScript and compiled modules are allowed, as for an attribution that needs no ledger.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"the model is {type(model).__name__}; expected a torch.nn.Module")
    modules = modules_of(model)
    faults = {kind: _type_fault(kind, seen_through) for kind in set(map(type, modules))}
    if any(faults[type(module)] or _contents_fault(module) for module in modules):
        for path, module in model.named_modules():  # the first in the model's own order
            if fault := faults[type(module)] or _contents_fault(module):
                raise ModelError(f"{path or 'the model'} cannot be traced: {fault}")


def tensor_fault(tensor: Tensor) -> str:
    """Why a tensor can be no input, baseline or further argument; "" if it can."""
    if tensor.is_nested:
        return "is a nested tensor: pad its parts to one shape, as with torch.nested.to_padded_tensor(x, 0.0)"
    if tensor.is_quantized:
        return f"has the quantised dtype {dtype_name(tensor.dtype)}: give x.dequantize()"
    if tensor.layout != torch.strided:
        return f"is sparse or packed ({str(tensor.layout).removeprefix('torch.')}): give x.to_dense()"
    if tensor.is_meta:
        return "is on the meta device, without values: give a tensor with values"
    if tensor.is_complex():
        return (
            f"has dtype {dtype_name(tensor.dtype)}, and DeepLIFT shares out differences of real numbers: "
            "give torch.view_as_real(x), and call torch.view_as_complex in the model"
        )
    return ""


def check_inputs(inputs: Any, baselines: Any = None) -> tuple[Tensor, ...]:
    """The inputs as a tuple; `InputError` for an input or baseline that has no differences to share out.

    Integers pass here, since what to attribute to instead depends on the model; so do numbers as baselines.
    """
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    if not tensors:
        raise InputError("there are no inputs: give a floating-point tensor, or a tuple of them, examples first")
    check_tensors("input", tensors)
    given = baselines if isinstance(baselines, tuple) else (baselines,)
    if baselines is not None and len(given) == len(tensors):
        for (name, baseline), tensor in zip(_numbered("baseline", given), tensors, strict=True):
            _check_baseline(name, baseline, tensor)
    return tensors


def check_tensors(kind: str, tensors: Sequence[Any]) -> None:
    """Raise `InputError` for the first of the inputs or baselines (`kind`) that cannot be attributed to."""
    for name, tensor in _numbered(kind, tensors):
        if not isinstance(tensor, Tensor):
            seen = f"{'an' if kind == 'input' else 'a'} {kind} is {type(tensor).__name__}"
            raise InputError(f"{seen}, not a tensor: expected floating point, examples first")
        if fault := tensor_fault(tensor):
            raise InputError(f"the {name} {fault}")
        if not tensor.dim():
            raise InputError(f"the {name} is one number without axes: expected examples first, as in x.reshape(1, 1)")
        if not tensor.shape[0]:
            raise InputError(f"the {name} holds no example: its first axis has length 0")


def _numbered(kind: str, values: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Each value with its name, "input" if there is one, else "input 0", ..."""
    return ((f"{kind} {i}" if len(values) > 1 else kind, value) for i, value in enumerate(values))


def _check_baseline(name: str, baseline: Any, tensor: Tensor) -> None:
    if isinstance(baseline, (int, float)):
        return
    if not isinstance(baseline, Tensor):
        raise InputError(f"the {name} is {type(baseline).__name__}, not a tensor or a number")
    if fault := tensor_fault(baseline):
        raise InputError(f"the {name} {fault}")
    if baseline.shape not in (tensor.shape, (1, *tensor.shape[1:])):
        raise InputError(
            f"the {name} has shape {tuple(baseline.shape)}, its input {tuple(tensor.shape)}: give the same shape, or "
            "one example for all"
        )
    if baseline.device != tensor.device:
        raise InputError(f"the {name} is on {baseline.device}, its input on {tensor.device}: give baseline.to(input)")
    if baseline.dtype != tensor.dtype and tensor.is_floating_point():
        raise InputError(
            f"the {name} has dtype {dtype_name(baseline.dtype)}, its input {dtype_name(tensor.dtype)}: "
            "give baseline.to(input)"
        )


def explained(error: BaseException) -> str:
    """What an error of PyTorch means for an attribution, in one line; "" for all others."""
    return next((meaning for words, meaning in _EXPLAINED if words in str(error)), "")
