"""What a recording reads off captum: its table of rules, what it hooked, what it was given and what it gave."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from inspect import getclosurevars
from types import FunctionType
from typing import Any

import torch
from torch import nn

from tracer.ledger.wires import AttributedInputs, Border, Observation
from tracer.model.captum_runs import is_deep_lift
from tracer.model.hooks import module_paths, modules_of
from tracer.model.tensors import as_floats, as_tuple
from tracer.model.unsupported import check_tensors
from tracer.recording.probe import apart_without_grad
from tracer.records import Floats, HookReport, Note


def captum_table() -> Mapping[type[nn.Module], Any]:
    """captum's table of the module types that it has a rule for; empty if captum is not loaded."""
    captum = sys.modules.get("captum.attr._core.deep_lift")
    return {} if captum is None else captum.SUPPORTED_NON_LINEAR


def captum_rule(module: nn.Module) -> str | None:
    """ "captum" if a DeepLift object of captum's, or of a subclass, has hooked the module and so replaces its gradient;
    else None."""
    hooks = module._forward_pre_hooks.values()
    return "captum" if any(is_deep_lift(getattr(hook, "__self__", None)) for hook in hooks) else None


def border_of(lift: Any, arguments: Mapping[str, Any]) -> Border | None:
    """Where captum's attribution to a layer begins, or that to a neuron ends; None for others.

    `arguments` are those of `attribute`, by name.
    """
    if is_of_layer(lift):
        return Border(lift.layer, bool(arguments.get("attribute_to_layer_input")), begins=True)
    if not isinstance(lift.gradient_func, FunctionType):
        return None
    given = getclosurevars(lift.gradient_func).nonlocals  # captum has no other place for them
    layer = given.get("layer")
    if not isinstance(layer, nn.Module):
        return None
    return Border(layer, bool(given.get("attribute_to_neuron_input")), begins=False)


def is_of_layer(lift: Any) -> bool:
    """Whether a DeepLift object attributes to a layer."""
    return any(kind.__module__.startswith("captum.attr._core.layer.") for kind in type(lift).__mro__)


def is_related(watched: nn.Module, given: Any) -> bool:
    """Whether what a DeepLift object was given is the watched model, holds it, is a part of it, or is not a module."""
    if given is watched or not isinstance(given, nn.Module):
        return True
    return watched in modules_of(given) or given in modules_of(watched)


def given_notes(watched: nn.Module, given: Any) -> Iterator[Note]:
    """A note where DeepLift was given something else than the watched model."""
    if not isinstance(given, nn.Module):
        name = getattr(given, "__name__", "")
        yield Note("no module", detail=f"{type(given).__name__} {name}".rstrip())
    elif given is not watched:
        outer, inner = (given, watched) if watched in modules_of(given) else (watched, given)
        where = "holds" if outer is given else "is in"
        detail = f"{type(given).__name__}, which {where} the watched {type(watched).__name__}"
        yield Note("other module", detail=f"{detail}, as {module_paths(outer)[inner]}")


@dataclass(frozen=True, slots=True)
class CaptumResult:
    """What captum's `attribute` gave. `how` says why these are not attributions by the default logic ("" if they are).

    `without_grad()` runs the model again and gives Σ |f without gradients − f with them| over input and reference.
    """

    how: str
    attributions: tuple[torch.Tensor, ...]
    delta: Floats | None
    without_grad: Callable[[], float]


def result_of(lift: Any, arguments: Mapping[str, Any], result: Any) -> CaptumResult:
    """What `lift.attribute` gave for these arguments."""
    how = ""
    if arguments["custom_attribution_func"] is not None:
        how = "a custom_attribution_func"
    elif not lift.multiplies_by_inputs:
        how = "multiply_by_inputs=False"
    attributions, delta = result if arguments["return_convergence_delta"] else (result, None)
    return CaptumResult(
        how,
        tuple(tensor.detach() for tensor in as_tuple(attributions)),
        None if delta is None else as_floats(delta),
        partial(apart_without_grad, lift.model, arguments),
    )


def captum_inputs(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> AttributedInputs | None:
    """Inputs and baselines if captum's DeepLift makes this call of the model to attribute: it passes both as tuples."""
    if not torch.is_grad_enabled() or len(args) < 2:
        return None
    inputs, baselines = args[0], args[1]
    if not (isinstance(inputs, tuple) and isinstance(baselines, tuple) and len(inputs) == len(baselines) > 0):
        return None
    if not all(isinstance(tensor, torch.Tensor) for tensor in (*inputs, *baselines)):
        return None
    check_tensors("input", inputs)
    check_tensors("baseline", baselines)
    return AttributedInputs(list(inputs), list(baselines), inputs[0].shape[0], doubled=True, joined_later=True)


def hook_report(observation: Observation, version: str) -> HookReport:
    """The non-linear calls of a captum run, counted by type: those that captum ruled and those it took for linear."""
    hooked: Counter[str] = Counter()
    unhooked: Counter[str] = Counter()
    for call in observation.calls:
        if call.rule == "captum":
            hooked[call.type] += 1
        elif call.leaf and not call.is_linear:
            unhooked[call.type] += 1
    captum = sys.modules.get("captum")
    place = "" if captum is None else str(next(iter(captum.__path__), ""))
    return HookReport(version, place, dict(hooked), dict(unhooked))
