"""What a recording reads off captum: its table of rules, the modules that it hooked, the inputs that it was given."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from tracer.errors import ObservationError
from tracer.ledger.wires import AttributedInputs, Observation
from tracer.model.unsupported import check_tensors
from tracer.records import HookReport


def captum_table() -> Mapping[type[nn.Module], Any]:
    """captum's table of the module types that it has a rule for; empty if captum is not loaded."""
    captum = sys.modules.get("captum.attr._core.deep_lift")
    return {} if captum is None else captum.SUPPORTED_NON_LINEAR


def captum_rule(module: nn.Module) -> str | None:
    """ "captum" if a captum DeepLift object has hooked the module, and so replaces its gradient; else None.

    Raises `ObservationError` for captum's attributions to a layer.
    """
    for hook in module._forward_pre_hooks.values():
        owner = getattr(hook, "__self__", None)
        if owner is None or not type(owner).__module__.startswith("captum.attr"):
            continue
        if not type(owner).__name__.startswith("DeepLift"):
            raise ObservationError(
                f"{type(owner).__name__} attributes to a layer, which a trace does not show: "
                "watch captum.attr.DeepLift, whose trace has every layer"
            )
        return "captum"
    return None


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
