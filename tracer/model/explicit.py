"""Functional softmax and GELU turned into modules for a while, so that captum, which rules modules only, sees them.

The two forks of captum issue #519 (softmax as an `nn.Softmax`, GELU as an `nn.GELU` that captum knows), for any model
and without a fork.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tracer.errors import InputError, ModelError
from tracer.model.activations import shared_activations_separated, written_out_gelus_replaced
from tracer.model.direct_calls import ModuleCall, Routing, calls_followed
from tracer.model.eager_attention import eager_attention
from tracer.model.exclusive import in_use
from tracer.model.process import captum_rules_gelu, no_fast_path
from tracer.model.restore import restoring_buffers, restoring_random_numbers
from tracer.model.tensors import copied
from tracer.model.undo import restoring_modes, undoing
from tracer.op_call import KEYWORD_ONLY, OpCall

KINDS = ("softmax", "gelu")
_MODULES: dict[str, type[nn.Module]] = {"softmax": nn.Softmax, "gelu": nn.GELU}

Plan = dict[nn.Module, list[tuple[str, nn.Module]]]
"""For each module that calls wanted functions itself, the (kind, new module) of its calls in order."""


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
            stack.enter_context(written_out_gelus_replaced(model))
        stack.enter_context(shared_activations_separated(model, tuple(_MODULES[kind] for kind in wanted)))
        plan = _discover(model, wanted, args, dict(kwargs or {}))
        stack.enter_context(_routed(model, plan))
        yield f"{' and '.join('GELU' if kind == 'gelu' else kind for kind in wanted)} explicit"


def _discover(model: nn.Module, kinds: list[str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    """The plan for `kinds`, from one run of the model in evaluation mode.

    A module called several times makes the same calls each time: the longest list counts.
    """
    stack: list[ModuleCall] = []
    plan: Plan = {}
    fused: list[str] = []
    exact = tuple(_MODULES[kind] for kind in kinds)

    def note(call: ModuleCall, kind: str | None, op_call: OpCall) -> Any:
        if kind is None:
            fused.append(type(call.module).__name__)
        elif kind in kinds and type(call.module) not in exact and "out" not in op_call.kwargs:
            children = plan.setdefault(call.module, [])
            if call.next_index() == len(children):
                children.append((kind, _as_module(kind, op_call)))
        return op_call.run()

    training = [module for module in model.modules() if module.training]
    with (
        undoing(partial(_train, training, True)),
        no_fast_path.on(),
        restoring_buffers(model),
        restoring_random_numbers(model),
    ):
        _train(training, False)  # a dry run must neither draw random numbers nor move batch statistics
        with torch.no_grad(), calls_followed(model, stack), Routing(stack, None, note):
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


def _as_module(kind: str, op_call: OpCall) -> nn.Module:
    if kind == "gelu":
        return nn.GELU(approximate=op_call.value(KEYWORD_ONLY, "approximate", "none"))
    return nn.Softmax(dim=op_call.value(1, "dim"))


@contextmanager
def _routed(model: nn.Module, plan: Plan) -> Iterator[None]:
    """The planned modules added to the model and fed with what was a function's input."""
    stack: list[ModuleCall] = []
    added: list[tuple[nn.Module, str]] = []

    def route(call: ModuleCall, kind: str | None, op_call: OpCall) -> Any:
        children = plan[call.module]
        if kind not in wanted or "out" in op_call.kwargs:
            return op_call.run()
        index = call.next_index()
        if index >= len(children) or children[index][0] != kind:
            return op_call.run()
        child, values = children[index][1], op_call.value(0, "input")
        if isinstance(child, nn.GELU):
            same = op_call.value(KEYWORD_ONLY, "approximate", "none") == child.approximate
            return child(values) if same else op_call.run()
        if not isinstance(child, nn.Softmax) or op_call.value(1, "dim") != child.dim:
            return op_call.run()
        # `F.softmax` has `_stacklevel` between dim and dtype.
        dtype = op_call.value(3 if op_call.function is F.softmax else 2, "dtype")
        return child(values if dtype is None or dtype == values.dtype else values.to(dtype))

    def begin(call: ModuleCall) -> None:
        if call.module in plan:
            # Entered inside the call, so it lies on top of any mode entered around the model, as an observer's.
            call.mode = Routing(stack, call, route)
            call.mode.__enter__()

    def end(call: ModuleCall) -> None:
        if call.mode is not None:
            call.mode.__exit__(None, None, None)

    wanted = {kind for children in plan.values() for kind, _child in children}

    def undo() -> None:
        # torch calls no `always_call` hook after a KeyboardInterrupt or SystemExit: those calls are still open.
        while stack:
            end(stack.pop())
        for module, name in reversed(added):
            module._modules.pop(name, None)

    with restoring_modes(), undoing(undo), calls_followed(model, stack, begin, end):
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
