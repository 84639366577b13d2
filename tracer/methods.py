"""`tracer.record`: run an attribution method on a model and record it as a trace."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from os import PathLike
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from tracer.errors import InputError, ObservationError, TracerError
from tracer.logits import unwrapping
from tracer.records import Floats, HookReport, Panel
from tracer.trace import Trace
from tracer.watching import Capture, Details, watch

Method = Literal["captum", "exact", "gradient"]
Tensors = torch.Tensor | tuple[torch.Tensor, ...]
PanelMaker = Callable[[tuple[torch.Tensor, ...], Floats, HookReport | None], Panel]


def record(
    model: nn.Module,
    inputs: Tensors,
    baselines: Any = None,
    *,
    target: Any = None,
    method: Method = "captum",
    path: str | PathLike[str] | None = None,
    capture: Capture = "tensors",
    additional_forward_args: Any = None,
    force: bool = False,
    details: Details | None = None,
    panel: PanelMaker | None = None,
) -> Trace:
    """A trace of one attribution of `model` at `inputs` against `baselines` (None: zeros), by `method`.

    `inputs` is a floating-point tensor (E, ...) or a tuple of them, `baselines` the same or anything that broadcasts to it (a number,
    a tensor with one example); `target`, `additional_forward_args` are as in captum. `path` is the file to write (None: kept in
    memory), `capture` "tensors" or "summary". The model is left as it was. Outputs that are no tensors are unwrapped to `logits`.
    Raises `TracerError`s: `InputError` for inputs that do not fit, `ObservationError` where the method itself fails;
    the calls up to the failure are then kept in `path`.
    """
    details = details or Details(target="" if target is None else str(target))
    for tensor in inputs if isinstance(inputs, tuple) else (inputs,):
        if not tensor.is_floating_point():
            raise InputError(
                f"the input has dtype {str(tensor.dtype).removeprefix('torch.')}; DeepLIFT needs floating point: "
                "attribute to the output of the embedding layer instead of to token ids"
            )
    if method != "captum":
        raise InputError(f"unknown method {method!r}; expected 'captum', 'exact' or 'gradient'")
    with unwrapping(model):
        return _record_captum(
            model, inputs, baselines, target, additional_forward_args, path, capture, force, details, panel
        )


def _record_captum(
    model: nn.Module,
    inputs: Tensors,
    baselines: Any,
    target: Any,
    additional_forward_args: Any,
    path: str | PathLike[str] | None,
    capture: Capture,
    force: bool,
    details: Details,
    panel: PanelMaker | None,
) -> Trace:
    from captum.attr import DeepLift

    watching = watch(model, path, capture, force=force, details=details)
    with watching:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # captum announces its hooks and its gradients at every call
                attributions, delta = DeepLift(model).attribute(
                    inputs, baselines, target, additional_forward_args, return_convergence_delta=True
                )
        except TracerError:
            raise
        except Exception as error:
            raise ObservationError(
                f"captum's DeepLift ended with {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            ) from error
        watching.outcome.attributions = tuple(
            tensor.detach() for tensor in (attributions if isinstance(attributions, tuple) else (attributions,))
        )
        watching.outcome.delta = np.asarray(delta.detach().double().cpu().numpy(), dtype=np.float64)
        watching.outcome.panel_maker = panel
    return watching.trace
