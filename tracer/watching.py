"""`tracer.watch`: observe somebody's own captum call, and `finish_trace`, which makes an observation a trace."""

from __future__ import annotations

import importlib.metadata
import platform
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from torch import nn

from tracer.errors import InputError, ModelError, ObservationError
from tracer.hooked import hook_report
from tracer.hooks import listening, module_paths
from tracer.ledger import Ledger
from tracer.measure import Measure
from tracer.observation import Attributed, Observation
from tracer.recorder import Recorder
from tracer.records import Floats, HookReport, Panel, Run, Status
from tracer.store import TraceWriter
from tracer.trace import Trace

Capture = Literal["summary", "tensors"]
PanelMaker = Callable[[tuple[torch.Tensor, ...], Floats, HookReport | None], Panel]
_PACKAGES = ("torch", "captum", "transformers", "numpy", "deeplift-tracer")


@dataclass(frozen=True, slots=True)
class Details:
    """What only the caller knows about a run and the trace should say: names, texts, tokens. All optional.

    `type` is the model's type where a wrapper stands for it, `names` the paths of the modules to observe.
    """

    model: str = ""
    type: str = ""
    variant: str = "as shipped"
    target: str = ""
    text: str = ""
    reference: str = ""
    tokens: tuple[tuple[str, ...], ...] = ()
    reference_tokens: tuple[tuple[str, ...], ...] = ()
    names: Mapping[nn.Module, str] | None = None


@dataclass(slots=True)
class Outcome:
    """What the method itself reported; None where it was not asked."""

    delta: Floats | None = None
    attributions: tuple[torch.Tensor, ...] | None = None
    panel_maker: PanelMaker | None = None
    status: Status = "complete"
    message: str = ""


@cache
def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that a figure can depend on."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def started_now() -> str:
    """The time in UTC, ISO 8601, in seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def check(model: nn.Module, capture: Capture) -> None:
    """Raise `ModelError` for modules whose calls cannot be observed, `InputError` for an unknown capture level."""
    if capture not in get_args(Capture):
        raise InputError(f"capture is {capture!r}; expected 'summary' or 'tensors'")
    if not isinstance(model, nn.Module):
        raise ModelError(f"the model is {type(model).__name__}; expected a torch.nn.Module")
    for path, module in model.named_modules():
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            raise ModelError(f"{type(module).__name__} cannot be traced: pass the module inside it, model.module")
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelError(f"{path or 'the model'} is a TorchScript module: trace the Python module it was made from")
        if type(module).__name__ == "OptimizedModule":
            raise ModelError(f"{path or 'the model'} is torch.compile'd: trace the module it was made from, ._orig_mod")


def captum_rule(module: nn.Module) -> str | None:
    """ "captum" where a captum DeepLift object has hooked the module, and so replaces its gradient."""
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


def captum_inputs(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Attributed | None:
    """Inputs and baselines where captum's DeepLift calls the model for its attribution: it passes both as tuples."""
    if not torch.is_grad_enabled() or len(args) < 2:
        return None
    inputs, baselines = args[0], args[1]
    if not (isinstance(inputs, tuple) and isinstance(baselines, tuple) and len(inputs) == len(baselines) > 0):
        return None
    if not all(isinstance(tensor, torch.Tensor) for tensor in (*inputs, *baselines)):
        return None
    return Attributed(list(inputs), list(baselines), inputs[0].shape[0], doubled=True, joined_later=True)


class Watching:
    """The context that `watch` returns; after it, `trace` is the trace of the observed attribution."""

    def __init__(
        self, model: nn.Module, path: str | PathLike[str] | None, capture: Capture, force: bool, details: Details
    ) -> None:
        self.outcome = Outcome()
        self._details = details
        self._path = path
        self._force = force
        self._capture: Capture = capture
        self._trace: Trace | None = None
        self._started = started_now()
        self._clock = time.perf_counter()
        self._recorder = Recorder(model, captum_inputs, rule_of=captum_rule, root_type=details.type)
        self._paths = details.names or module_paths(model)
        self._model = model

    @property
    def trace(self) -> Trace:
        """The trace; `ObservationError` while the context is still open."""
        if self._trace is None:
            raise ObservationError("the trace is made when the `with` block ends: read it after the block")
        return self._trace

    def __enter__(self) -> Self:
        self._writer = TraceWriter(self._path, force=self._force)
        self._contexts = ExitStack()
        self._contexts.enter_context(listening(self._paths, self._recorder))
        self._contexts.enter_context(self._recorder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._contexts.close()
        observation = self._recorder.observation
        if observation is None or not observation.calls:
            self._writer.close()
            if error is None:
                raise ObservationError(
                    "no captum DeepLift attribution of this model was seen inside the `with` block: "
                    "watch the very module that DeepLift was given, and call .attribute(...) inside the block"
                )
            return
        if self._recorder.later_runs:
            warnings.warn(
                f"{self._recorder.later_runs + 1} attributions ran inside one `with` block: the trace is of the first; "
                "open a block for each",
                stacklevel=2,
            )
        if error is not None:
            self._recorder.abandon()
            self.outcome.status = "failed"
            interrupted = isinstance(error, KeyboardInterrupt)
            self.outcome.message = "interrupted" if interrupted else f"{type(error).__name__}: {error}"
        try:
            self._trace = finish_trace(
                observation, self._writer, self.outcome, self._details, "captum", self._capture, self._started,
                time.perf_counter() - self._clock, type(self._model).__name__,
            )  # fmt: skip
        except BaseException:
            self._writer.close()
            if error is None:  # the user's own error says more
                raise


def watch(
    model: nn.Module,
    path: str | PathLike[str] | None = None,
    capture: Capture = "tensors",
    *,
    force: bool = False,
    details: Details | None = None,
) -> Watching:
    """A context in which one `captum.attr.DeepLift(model).attribute(...)` call is observed; its `.trace` has the
    result.

    `path` is the trace file to write (None: kept in memory), `capture` "tensors" or "summary" (figures only). An
    existing file is refused unless `force`. The attribution itself comes out bit for bit as without observation. If it
    raises, the calls so far are kept in a trace of status "failed" and the exception goes on.
    """
    check(model, capture)
    return Watching(model, path, capture, force, details or Details())


def finish_trace(
    observation: Observation,
    writer: TraceWriter,
    outcome: Outcome,
    details: Details,
    method: str,
    capture: Capture,
    started: str,
    seconds: float,
    model_name: str,
    rulebook: str = "",
) -> Trace:
    """The trace of an observation, written with `writer`: the ledger's rows, then the head of the run."""
    ledger = Ledger(observation, writer if capture == "tensors" else None)
    output, output_reference = ledger.output
    delta = ledger.delta if outcome.delta is None else outcome.delta
    hooks = hook_report(observation, installed_versions().get("captum", "")) if method == "captum" else None
    attributions = outcome.attributions or ledger.attributions
    if outcome.panel_maker is not None and outcome.status == "complete":
        panel = outcome.panel_maker(attributions, delta, hooks)
    else:
        panel = Panel(hooks=hooks)
    run = Run(
        model=details.model or model_name, method=method, variant=details.variant, status=outcome.status,
        message=outcome.message, started=started, seconds=seconds, capture=capture, rulebook=rulebook,
        versions=dict(installed_versions()), target=details.target, text=details.text,
        reference=details.reference, tokens=details.tokens, reference_tokens=details.reference_tokens, output=output,
        output_reference=output_reference, delta=np.asarray(delta, dtype=np.float64), panel=panel,
    )  # fmt: skip
    writer.begin(run)
    for node, edges in ledger.rows():
        writer.add(node, edges)
    measure = Measure(observation, writer)
    writer.set_attributions([ref for tensor in attributions if (ref := measure.store(tensor)) is not None])
    writer.finish(run)
    return writer.trace()
