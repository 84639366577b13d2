"""The whole state that a run may touch: a model, the user's tensors, and what belongs to the process."""

from __future__ import annotations

import logging
import random
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from captum.attr import LayerDeepLift
from captum.attr._core import deep_lift
from torch import nn
from torch.nn.modules import module as module_globals
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

_PLAIN = (bool, int, float, str, bytes, type(None), torch.dtype, torch.device)


class _Same:
    """An object that equals itself alone, kept alive so that no other one takes its address."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self.value).__name__} {getattr(self.value, '__qualname__', '')} {id(self.value):#x}"


@dataclass(frozen=True, slots=True)
class State:
    """Named facts: of each module, parameter, buffer and given tensor, and of the process."""

    facts: Mapping[str, Any]

    def difference(self, other: State, ignoring: tuple[str, ...] = ()) -> list[str]:
        """What is other in `other`, a line each: "relu._forward_hooks: was [], is [hook]". Empty where both agree."""
        lines = []
        for name in dict.fromkeys([*self.facts, *other.facts]):
            was, now = self.facts.get(name, "absent"), other.facts.get(name, "absent")
            if was != now and not any(word in name for word in ignoring):
                lines.append(f"{name}: was {_shown(was)}, is {_shown(now)}")
        return lines


def state_of(model: nn.Module, *given: Any) -> State:
    """The state of `model`, of the tensors in `given` and of this process and thread."""
    facts: dict[str, Any] = dict(_process())
    for path, module in model.named_modules(remove_duplicate=False):
        facts.update((f"{path or '(model)'}.{name}", fact) for name, fact in _module(module))
    for number, tensor in enumerate(given):
        facts.update((f"given {number}.{name}", fact) for name, fact in _tensor(tensor))
    return State(facts)


def _module(module: nn.Module) -> Iterator[tuple[str, Any]]:
    yield "(class)", type(module)
    yield "(keys)", sorted(vars(module))
    yield "forward", _Same(getattr(module.forward, "__func__", module.forward))
    for name, value in vars(module).items():
        if isinstance(value, dict):  # children, parameters, buffers, and every table of hooks
            yield name, [(key, _plain(item)) for key, item in value.items()]
        else:
            yield name, _plain(value)
    for name, tensor in {**module._parameters, **module._buffers}.items():
        if tensor is not None:
            yield from ((f"{name}.{key}", fact) for key, fact in _tensor(tensor))
    config = getattr(module, "config", None)
    if config is not None:
        yield "config", {key: repr(value) for key, value in vars(config).items()}


def _tensor(tensor: torch.Tensor) -> Iterator[tuple[str, Any]]:
    yield "(identity)", _Same(tensor)
    yield "place", (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.device)
    yield "bytes", _bytes(tensor)
    yield "requires_grad", tensor.requires_grad
    yield "grad", None if not tensor.is_leaf or tensor.grad is None else (_Same(tensor.grad), _bytes(tensor.grad))
    yield "grad_fn", _Same(tensor.grad_fn)
    yield "(keys)", sorted(vars(tensor))
    yield "hooks", [_plain(hook) for hook in (tensor._backward_hooks or {}).values()]
    yield "accumulating", [_plain(hook) for hook in (tensor._post_accumulate_grad_hooks or {}).values()]


def _process() -> Iterator[tuple[str, Any]]:
    yield "torch's random numbers", torch.random.get_rng_state().numpy().tobytes()
    yield "python's random numbers", random.getstate()
    yield "numpy's random numbers", repr(np.random.get_state(legacy=False))
    yield "default dtype", torch.get_default_dtype()
    yield "default device", torch.get_default_device()
    yield "grad mode", (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"))
    yield "anomaly mode", torch.is_anomaly_enabled()
    yield (
        "deterministic",
        (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
        ),
    )
    yield "threads", torch.get_num_threads()
    modes = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    yield "function modes", [_Same(mode) for mode in modes]
    yield "dispatch modes", [_Same(mode) for mode in _get_current_dispatch_mode_stack()]  # type: ignore[no-untyped-call]
    yield "torch functions", torch._C._is_torch_function_enabled()
    yield "saved tensor hooks", _plain(torch._C._autograd._top_saved_tensors_default_hooks(True))
    yield "fast path", torch.backends.mha.get_fastpath_enabled()
    yield "autograd.Function.apply", _Same(torch.autograd.Function.__dict__["apply"])
    yield "compiler's stance", _stance()
    for name, value in vars(module_globals).items():
        if name.startswith("_global_") and isinstance(value, dict):
            yield f"module.{name}", [(key, _plain(item)) for key, item in value.items()]
    yield "captum's table", [(kind, _Same(rule)) for kind, rule in deep_lift.SUPPORTED_NON_LINEAR.items()]
    for kind in (deep_lift.DeepLift, LayerDeepLift):
        yield f"captum's {kind.__name__}", [(name, _plain(method)) for name, method in vars(kind).items()]
    yield "warnings' filters", list(warnings.filters)
    yield "warnings shown by", _Same(warnings.showwarning)
    yield "Ctrl-C", _Same(signal.getsignal(signal.SIGINT))
    yield "streams", (_Same(sys.stdout), _Same(sys.stderr))
    yield "log", (logging.getLogger().level, list(map(_Same, logging.getLogger().handlers)))
    if "transformers" in sys.modules:
        yield from _transformers()


def _transformers() -> Iterator[tuple[str, Any]]:
    from transformers import masking_utils, modeling_utils
    from transformers.activations import ACT2CLS
    from transformers.utils import logging as settings

    tables = {
        "attention functions": modeling_utils.ALL_ATTENTION_FUNCTIONS,
        "mask functions": masking_utils.ALL_MASK_ATTENTION_FUNCTIONS,
    }
    for name, table in tables.items():
        for part in ("_global_mapping", "_local_mapping"):
            yield f"transformers' {name}{part}", [(key, _Same(item)) for key, item in getattr(table, part).items()]
    yield "transformers' activations", [(key, _plain(item)) for key, item in ACT2CLS.items()]
    yield "transformers' log", (settings.get_verbosity(), settings.is_progress_bar_enabled())


def _stance() -> Any:
    frames = sys.modules.get("torch._dynamo.eval_frame")
    return None if frames is None else repr(getattr(frames, "_stance", None))


def _plain(value: Any) -> Any:
    return value if isinstance(value, _PLAIN) else _Same(value)


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _shown(fact: Any) -> str:
    text = f"{len(fact)} bytes" if isinstance(fact, bytes) else repr(fact)
    return text if len(text) < 200 else f"{text[:200]}…"
