"""`tracer.record`: run an attribution method on a model and record it as a trace."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn
from torch.autograd.graph import Node

from tracer.deeplift import DeepLift
from tracer.errors import InputError, ObservationError, TracerError
from tracer.hooks import listening, module_paths
from tracer.logits import unwrapping
from tracer.observation import Attributed
from tracer.paired import Note, PairedEvaluation
from tracer.recorder import Recorder
from tracer.reference_log import ReferenceLog
from tracer.rulebook import Rulebook
from tracer.store import TraceWriter
from tracer.trace import Trace
from tracer.watching import (
    Capture,
    Details,
    Outcome,
    PanelMaker,
    Watching,
    check,
    finish_trace,
    started_now,
)

Method = Literal["captum", "exact", "gradient"]


def record(
    model: nn.Module,
    inputs: Tensor | tuple[Tensor, ...],
    baselines: Any = None,
    *,
    target: Any = None,
    method: Method = "captum",
    rules: Sequence[str] = (),
    path: str | PathLike[str] | None = None,
    capture: Capture = "tensors",
    additional_forward_args: Any = None,
    force: bool = False,
    details: Details | None = None,
    panel: PanelMaker | None = None,
) -> Trace:
    """A trace of one attribution of `model` at `inputs` against `baselines` (None: zeros), by `method`.

    `method`: "captum" observes the installed captum's own DeepLift; "exact" and "gradient" run the rulebooks of that
    name. `rules` ("PATTERN=RULE") override the rulebook for the calls that match; with "captum" the installed captum
    is then emulated, since only its emulation can be told to differ. `inputs` is a floating-point tensor (E, ...) or a
    tuple of them, `baselines` the same or anything that broadcasts to it (a number, a tensor with one example);
    `target` and `additional_forward_args` are as in captum. `path` is the file to write (None: kept in memory),
    `capture` "tensors" or "summary".

    The model is left as it was. Outputs that are no tensors are unwrapped to their logits. Raises `TracerError`s:
    `InputError` for inputs that do not fit, `ObservationError` where the method itself fails; captum's calls up to the
    failure are kept in `path`.
    """
    details = details or Details(target="" if target is None else str(target))
    check(model, capture)
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    if not tensors:
        raise InputError("there are no inputs: give a floating-point tensor, or a tuple of them, examples first")
    for tensor in tensors:
        if not isinstance(tensor, Tensor) or not tensor.dim():
            raise InputError(f"an input is {type(tensor).__name__}; expected a floating-point tensor, examples first")
        if not tensor.shape[0]:
            raise InputError("the input holds no example: its first axis has length 0")
        if not tensor.is_floating_point():
            raise InputError(
                f"the input has dtype {str(tensor.dtype).removeprefix('torch.')}; DeepLIFT needs floating point: "
                "attribute to the output of the embedding layer instead of to token ids"
            )
    if method not in ("captum", "exact", "gradient"):
        raise InputError(f"unknown method {method!r}; expected 'captum', 'exact' or 'gradient'")
    # Detached: captum asks for gradients on the tensors that it is given, and leaves that so when it fails.
    own = tuple(tensor.detach() for tensor in tensors)
    call = (own if isinstance(inputs, tuple) else own[0], baselines, target, additional_forward_args)
    request = _Request(call, path, capture, force, details, panel)
    if method == "captum" and not rules:
        return _record_captum(model, request)
    rulebook = Rulebook.parse(method, [rules] if isinstance(rules, str) else rules)
    return _record_rulebook(model, request, rulebook, method)


@dataclass(frozen=True, slots=True)
class _Request:
    """What to attribute, as the first four arguments of captum's `attribute`, and what to make of it."""

    call: tuple[Any, Any, Any, Any]
    path: str | PathLike[str] | None
    capture: Capture
    force: bool
    details: Details
    panel: PanelMaker | None


def _record_captum(model: nn.Module, request: _Request) -> Trace:
    from captum.attr import DeepLift as CaptumDeepLift

    watching = Watching(model, request.path, request.capture, request.force, request.details)
    with unwrapping(model), watching:
        kept = "" if request.path is None else f" (its calls so far are in {request.path})"
        with _failing("captum's DeepLift", kept), _without_captums_traces(model), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # captum announces its hooks and its gradients at every call
            attributions, delta = CaptumDeepLift(model).attribute(*request.call, return_convergence_delta=True)
        watching.outcome.attributions = tuple(
            tensor.detach() for tensor in (attributions if isinstance(attributions, tuple) else (attributions,))
        )
        watching.outcome.delta = np.asarray(delta.detach().double().cpu().numpy(), dtype=np.float64)
        watching.outcome.panel_maker = request.panel
    return watching.trace


def _record_rulebook(model: nn.Module, request: _Request, rulebook: Rulebook, method: Method) -> Trace:
    started, clock = started_now(), time.perf_counter()
    with TraceWriter(request.path, force=request.force) as writer:
        recording = _Recording(model, request.details)
        inputs, baselines, target, extras = request.call
        with _failing("the attribution"):
            lift = DeepLift(model, rulebook=rulebook)
            attributions, delta = lift.attribute(
                inputs, baselines, target, extras, return_convergence_delta=True, observer=recording
            )
        assert recording.recorder is not None
        assert recording.recorder.observation is not None
        outcome = Outcome(
            delta=np.atleast_1d(delta.double().cpu().numpy()),
            attributions=attributions if isinstance(attributions, tuple) else (attributions,),
            panel_maker=request.panel,
            message=_in_words(lift.notes),
        )
        return finish_trace(
            recording.recorder.observation, writer, outcome, request.details, method, request.capture, started,
            time.perf_counter() - clock, type(model).__name__, str(rulebook),
        )  # fmt: skip


def _in_words(notes: Sequence[Note]) -> str:
    """What was not exact, each op once: "approximated: erfcx (net/erfcx, net.py:3 forward)"; "" where all was exact."""
    found = dict.fromkeys(f"{note.what}: {note.op} ({note.path}, {note.source})" for note in notes)
    shown = "; ".join(list(found)[:5])
    return shown if len(found) <= 5 else f"{shown}; and {len(found) - 5} more"


@contextmanager
def _failing(what: str, kept: str = "") -> Iterator[None]:
    """Say in one line what ended `what`, and what is `kept` of it: a model, and captum, can fail in any way."""
    try:
        yield
    except TracerError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ObservationError(f"{what} ended with {type(error).__name__}: {reason}{kept}") from error


@contextmanager
def _without_captums_traces(model: nn.Module) -> Iterator[None]:
    """Take away the `input` and `output` that captum writes on modules, and leaves there when it fails."""
    before = {module: {"input", "output"} & vars(module).keys() for module in model.modules()}
    try:
        yield
    finally:
        for module, names in before.items():
            for name in ({"input", "output"} & vars(module).keys()) - names:
                delattr(module, name)


class _Recording:
    """Looks on at the runs of `tracer.DeepLift`: logs the reference's, records the input's."""

    def __init__(self, model: nn.Module, details: Details) -> None:
        self.model = model
        self.names: Mapping[nn.Module, str] | None = details.names or module_paths(model)
        self.root_type = details.type
        self.log: ReferenceLog | None = None
        self.recorder: Recorder | None = None
        self._references: tuple[Tensor, ...] = ()

    @contextmanager
    def reference_run(self, references: tuple[Tensor, ...]) -> Iterator[None]:
        """Keep what the reference's run computes."""
        self._references = tuple(reference.detach() for reference in references)
        self.log = ReferenceLog(self.model)
        with listening(self.names or {}, self.log), self.log:
            yield

    @contextmanager
    def input_run(self, engine: PairedEvaluation, inputs: int) -> Iterator[None]:
        """Record the input's run, or that of the doubled batch."""

        def attributed(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Attributed:
            rows = args[0].shape[0]
            if self.log is None:
                return Attributed(list(args[:inputs]), None, rows // 2, doubled=True)
            return Attributed(list(args[:inputs]), list(self._references), rows, doubled=False)

        self.recorder = Recorder(
            self.model,
            attributed,
            rule_of=lambda module: "captum" if module in engine.ruled else None,
            rule_of_node=_rule_of_node,
            log=self.log,
            root_type=self.root_type,
        )
        with listening(self.names or {}, self.recorder), self.recorder:
            yield


def _rule_of_node(node: Node) -> str | None:
    """The rule behind a graph node of the paired evaluation's; None for autograd's own."""
    replacement = getattr(node, "replacement", None)
    return None if replacement is None else str(replacement.rule)
