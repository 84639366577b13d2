"""Functional softmax and GELU turned into modules for a while, so that captum, which rules modules only, sees them.

The two forks of captum issue #519 (softmax as an `nn.Softmax`, GELU as an `nn.GELU` that captum knows), for any model
and without a fork.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tracer.errors import InputError, ModelError
from tracer.model import torch_functions as ops
from tracer.model.exclusive import in_use
from tracer.model.hooks import remove_hooks
from tracer.model.process import captum_rules_gelu, no_fast_path, quiet
from tracer.model.restore import restoring_buffers, restoring_random_numbers
from tracer.model.tensors import copied
from tracer.model.undo import Mode, restoring_modes, undoing

Function = Callable[..., Any]
KINDS = ("softmax", "gelu")
_MODULES: dict[str, type[nn.Module]] = {"softmax": nn.Softmax, "gelu": nn.GELU}
_FUNCTIONS: dict[Function, str] = {
    F.softmax: "softmax",
    torch.softmax: "softmax",
    torch.Tensor.softmax: "softmax",
    torch.special.softmax: "softmax",
    F.gelu: "gelu",
}
# GELUs of transformers.activations that are written out as products, with the `approximate` they amount to.
_WRITTEN_OUT = {"NewGELUActivation": "tanh", "FastGELUActivation": "tanh", "AccurateGELUActivation": "tanh"}
_WRITTEN_OUT_METHODS = {"_gelu_python": "none", "_gelu_tanh_python": "tanh"}


@contextmanager
def explicit(
    model: nn.Module,
    kinds: Collection[str],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
) -> Iterator[str]:
    """The variant's name, and while the context lasts the functional ops of `kinds` ("softmax", "gelu") are modules.

    One dry run of `model(*args, **kwargs)` finds the modules that call them; each gets its own child for each of its
    calls: `softmax`, `softmax_1`, ... The model computes the same. Attention of transformers models is switched to
    "eager". With "gelu", captum's table gains `nn.GELU`. On leaving, whatever happened, all is undone.
    """
    wanted = [kind for kind in KINDS if kind in kinds]
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise InputError(f"cannot make {', '.join(map(repr, unknown))} explicit: choose among {', '.join(KINDS)}")
    if not wanted:
        yield "as shipped"
        return
    with ExitStack() as stack:
        stack.enter_context(in_use(model))
        if "softmax" in wanted:
            stack.enter_context(eager_attention(model))
        if "gelu" in wanted:
            stack.enter_context(captum_rules_gelu.on())
            stack.enter_context(_written_out_gelus_replaced(model))
        stack.enter_context(_shared_activations_separated(model, wanted))
        plan = _discover(model, wanted, args, dict(kwargs or {}))
        stack.enter_context(_routed(model, plan))
        yield f"{' and '.join('GELU' if kind == 'gelu' else kind for kind in wanted)} explicit"


@contextmanager
def eager_attention(model: nn.Module) -> Iterator[None]:
    """Attention of the transformers models in `model` computed op by op, not fused, while the context lasts."""
    pretrained: list[Any] = [module for module in model.modules() if hasattr(module, "set_attn_implementation")]
    configs: list[Any] = []
    for module in pretrained:
        parts = [module.config]
        while parts:
            config = parts.pop()
            configs.append(config)
            names = getattr(config, "sub_configs", None) or ()
            parts.extend(part for name in names if (part := getattr(config, name, None)) is not None)
    if not pretrained:
        yield
        return
    before = [(config, config.__dict__.get("_attn_implementation_internal")) for config in configs]

    def undo() -> None:
        for config, implementation in before:
            config._attn_implementation_internal = implementation

    with undoing(undo):
        with quiet():
            pretrained[0].set_attn_implementation("eager")
        yield


@contextmanager
def _children_replaced(replacements: list[tuple[nn.Module, str, nn.Module]]) -> Iterator[None]:
    """Other children under the same names; each entry is (parent, name, new child)."""
    before = [(parent, name, parent._modules[name]) for parent, name, _child in replacements]

    def undo() -> None:
        for parent, name, old in reversed(before):
            parent._modules[name] = old

    with undoing(undo):
        for parent, name, child in replacements:
            parent._modules[name] = child
        yield


def _written_out_gelus_replaced(model: nn.Module) -> Any:
    found: list[tuple[nn.Module, str, nn.Module]] = []
    for parent, name, child in _slots(model):
        if type(child).__module__ != "transformers.activations":
            continue
        method = getattr(getattr(child, "act", None), "__name__", "")
        approximate = _WRITTEN_OUT.get(type(child).__name__) or _WRITTEN_OUT_METHODS.get(method)
        if approximate is not None:
            found.append((parent, name, nn.GELU(approximate=approximate).train(child.training)))
    return _children_replaced(found)


def _shared_activations_separated(model: nn.Module, kinds: list[str]) -> Any:
    """An own copy of an activation for each place it stands in: captum refuses a module that runs twice."""
    exact = tuple(_MODULES[kind] for kind in kinds)
    seen: set[nn.Module] = set()
    copies: list[tuple[nn.Module, str, nn.Module]] = []
    for parent, name, child in _slots(model):
        if type(child) not in exact and type(child).__module__ != "transformers.activations":
            continue
        if child in seen:
            copies.append((parent, name, copy.deepcopy(child)))
        seen.add(child)
    return _children_replaced(copies)


def _slots(model: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    """(parent, name, child) for every place in the model where a module stands; one module may stand in several."""
    return [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent._modules.items()
        if child is not None
    ]


@dataclass(slots=True)
class _Call:
    """One module call that is under way, with the number of its direct calls of wanted functions so far."""

    module: nn.Module
    count: int = 0
    mode: Mode | None = None

    def next_index(self) -> int:
        self.count += 1
        return self.count - 1


Plan = dict[nn.Module, list[tuple[str, nn.Module]]]


class _Routing(Mode):
    """Hands softmax, GELU and fused attention that the innermost module calls itself to `route(call, kind, func, ...)`.

    With an `owner`, only those of this one call: a module that runs inside it is not its business.
    """

    def __init__(self, stack: list[_Call], owner: _Call | None, route: Function) -> None:
        super().__init__()
        self._stack = stack
        self._owner = owner
        self._route = route

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        top = self._stack[-1] if self._stack else None
        if top is None or (self._owner is not None and top is not self._owner):
            return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            with self:  # the mode is off in here, and the softmax sits inside this function
                return ops.body(func)(*args, **kwargs)
        kind = _FUNCTIONS.get(func)
        if kind is None and func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        return self._route(top, kind, func, args, kwargs)


@contextmanager
def _calls_followed(model: nn.Module, stack: list[_Call], begin: Function, end: Function) -> Iterator[None]:
    """Keeps the stack of module calls under way; `begin(call)` and `end(call)` are told of each."""

    thread = threading.get_ident()
    modules = list(model.modules())

    def before(module: nn.Module, _args: Any) -> None:
        if threading.get_ident() == thread:
            call = _Call(module)
            stack.append(call)
            begin(call)

    def after(module: nn.Module, _args: Any, _output: Any) -> None:
        # An earlier hook that failed may have kept `before` from running: then the top is not this module's call.
        if threading.get_ident() == thread and stack and stack[-1].module is module:
            end(stack.pop())

    with undoing(lambda: remove_hooks(modules, lambda hook: hook is before or hook is after)):
        for module in modules:
            module.register_forward_pre_hook(before)
            module.register_forward_hook(after, always_call=True)
        yield


def _discover(model: nn.Module, kinds: list[str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    """For each module that calls wanted functions itself, the (kind, new module) of its calls in order.

    A module called several times makes the same calls each time: the longest list counts.
    """
    stack: list[_Call] = []
    plan: Plan = {}
    fused: list[str] = []
    exact = tuple(_MODULES[kind] for kind in kinds)

    def note(call: _Call, kind: str | None, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kind is None:
            fused.append(type(call.module).__name__)
        elif kind in kinds and type(call.module) not in exact and "out" not in kwargs:
            children = plan.setdefault(call.module, [])
            if call.next_index() == len(children):
                children.append((kind, _as_module(kind, func, args, kwargs)))
        return func(*args, **kwargs)

    training = [module for module in model.modules() if module.training]
    with (
        undoing(partial(_train, training, True)),
        no_fast_path.on(),
        restoring_buffers(model),
        restoring_random_numbers(model),
    ):
        _train(training, False)  # a dry run must neither draw random numbers nor move batch statistics
        followed = _calls_followed(model, stack, lambda _call: None, lambda _call: None)
        with torch.no_grad(), followed, _Routing(stack, None, note):
            model(*copied(args), **{name: copied(value) for name, value in kwargs.items()})
    found = {kind for children in plan.values() for kind, _child in children}
    found |= {kind for kind in kinds if any(type(module) is _MODULES[kind] for module in model.modules())}
    if "softmax" in kinds and fused:
        raise ModelError(
            f"{fused[0]} computes attention in one fused op, scaled_dot_product_attention, that hides its softmax: "
            "use a model with eager attention, or leave softmax as it is"
        )
    missing = [kind for kind in kinds if kind not in found]
    if missing:
        left = [kind for kind in kinds if kind in found]
        what = f"{left[0]} can be made explicit: --explicit {left[0]}" if left else "there is nothing to make explicit"
        raise ModelError(f"the model calls no {' and no '.join(missing)}{'; ' if left else ': '}{what}")
    return plan


def _train(modules: list[nn.Module], training: bool) -> None:
    for module in modules:
        module.training = training


def _as_module(kind: str, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> nn.Module:
    if kind == "gelu":
        return nn.GELU(approximate=kwargs.get("approximate", "none"))
    return nn.Softmax(dim=_softmax_arguments(func, args, kwargs)[1])


def _softmax_arguments(func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.Tensor, Any, Any]:
    """(input, dim, dtype) of any of the softmax functions; `F.softmax` has `_stacklevel` between dim and dtype."""
    names = ("input", "dim", "_stacklevel", "dtype") if func is F.softmax else ("input", "dim", "dtype")
    given = dict(zip(names, args, strict=False)) | kwargs
    return given["input"], given.get("dim"), given.get("dtype")


@contextmanager
def _routed(model: nn.Module, plan: Plan) -> Iterator[None]:
    """The planned modules added to the model and fed with what was a function's input."""
    stack: list[_Call] = []
    added: list[tuple[nn.Module, str]] = []

    def route(call: _Call, kind: str | None, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        children = plan[call.module]
        if kind not in wanted or "out" in kwargs:
            return func(*args, **kwargs)
        index = call.next_index()
        if index >= len(children) or children[index][0] != kind:
            return func(*args, **kwargs)
        child = children[index][1]
        if isinstance(child, nn.GELU):
            same = kwargs.get("approximate", "none") == child.approximate
            return child(args[0] if args else kwargs["input"]) if same else func(*args, **kwargs)
        values, dim, dtype = _softmax_arguments(func, args, kwargs)
        if not isinstance(child, nn.Softmax) or dim != child.dim:
            return func(*args, **kwargs)
        return child(values if dtype is None or dtype == values.dtype else values.to(dtype))

    def begin(call: _Call) -> None:
        if call.module in plan:
            # Entered inside the call, so it lies on top of any mode entered around the model, as an observer's.
            call.mode = _Routing(stack, call, route)
            call.mode.__enter__()

    def end(call: _Call) -> None:
        if call.mode is not None:
            call.mode.__exit__(None, None, None)

    wanted = {kind for children in plan.values() for kind, _child in children}

    def undo() -> None:
        # torch calls no `always_call` hook after a KeyboardInterrupt or SystemExit: those calls are still open.
        while stack:
            end(stack.pop())
        for module, name in reversed(added):
            module._modules.pop(name, None)

    with restoring_modes(), undoing(undo), _calls_followed(model, stack, begin, end):
        for module, children in plan.items():
            for kind, child in children:
                name = _free_name(module, kind)
                added.append((module, name))
                module.add_module(name, child.train(module.training))
        yield


def _free_name(module: nn.Module, kind: str) -> str:
    name, number = kind, 0
    while hasattr(module, name):
        number += 1
        name = f"{kind}_{number}"
    return name
