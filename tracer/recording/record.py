"""`tracer.record`: runs an attribution method on a model and records it as a trace."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from os import PathLike
from typing import Any, Literal, NoReturn

import numpy as np
from torch import Tensor, nn

from tracer.errors import InputError, TracerError
from tracer.exact.deeplift import DeepLift
from tracer.exact.notes import RuleNote
from tracer.ledger.wires import Observation
from tracer.model.exclusive import in_use
from tracer.model.hooks import module_paths
from tracer.model.output import unwrapping
from tracer.model.process import no_warnings
from tracer.model.restore import captum_leftovers, restoring_buffers, restoring_random_numbers
from tracer.model.tensors import as_floats, as_tuple, copied
from tracer.model.undo import undoing, undoing_all
from tracer.model.unsupported import check_inputs
from tracer.recording.exact_observer import RunObserver
from tracer.recording.failure import failed, said
from tracer.recording.notes import integer_input, may_couple
from tracer.recording.options import Capture, Details, PanelMaker, StorageOptions
from tracer.recording.preconditions import check_request, refuse_nesting
from tracer.recording.probe import batch_note, extras_note
from tracer.recording.run import Outcome, TraceRecording
from tracer.recording.watch import Watching
from tracer.records import Floats, Note, Panel
from tracer.rules.rulebook import Rulebook
from tracer.tracefile.trace import Trace

Method = Literal["captum", "exact", "gradient"]


@undoing_all
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
    baseline_forward_args: Any = None,
    force: bool = False,
    details: Details | None = None,
    panel: PanelMaker | None = None,
    max_bytes: int | None = None,
) -> Trace:
    """A trace of one attribution of `model` at `inputs` against `baselines` (None: zeros), by `method`.

    `method`: "captum" observes the installed captum's own DeepLift; "exact" and "gradient" run the rulebooks of that
    name. `rules` ("PATTERN=RULE") override the rulebook for the calls that match; with "captum" the installed captum
    is then emulated, since captum itself cannot be given other rules. `inputs` is a floating-point tensor (E, ...) or a
    tuple of them, `baselines` the same or anything that broadcasts to it (a number, a tensor with one example);
    `target` and `additional_forward_args` are as in captum. `baseline_forward_args` replace the latter in the
    reference's run, for a mask and positions of its own; captum cannot use them, so a note says how much f(x') differs.
    `path` is the file to write (None: kept in memory), `capture` "tensors" or "summary"; `max_bytes` bounds the stored
    tensors, the rest is kept as figures.

    The model and the inputs are left as they were, also after errors and Ctrl-C; what captum leaves on them is removed.
    torch's random numbers continue as after captum's own run, with other methods as if nothing had run. Two threads
    cannot record one model at once; with "captum", no other thread may run it meanwhile.

    Outputs that are not tensors are unwrapped to their logits; a note says so. Raises `TracerError`s: `InputError` for
    inputs that do not fit, `ObservationError` if the method itself fails, which names the fault if it is known. The
    calls up to the failure are a trace of status "failed": in `path`, and in the error's `trace`.
    """
    details = details or Details(target="" if target is None else str(target))
    check_request(model, capture)
    tensors = check_inputs(inputs, baselines)
    if method not in ("captum", "exact", "gradient"):
        raise InputError(f"unknown method {method!r}; expected 'captum', 'exact' or 'gradient'")
    # Copies: captum sets `requires_grad` on the tensors that it is given, also when it fails, and the model may write
    # to them.
    own = tuple(tensor.detach().clone() for tensor in tensors)
    call = (own if isinstance(inputs, tuple) else own[0], copied(baselines), target, copied(additional_forward_args))
    storage = StorageOptions(path, capture, force, max_bytes, details)
    request = _Request(call, baseline_forward_args, storage, panel)
    refuse_nesting()
    for tensor in tensors:
        if not tensor.is_floating_point():
            _refuse_integers(model, tensor, request, method)
    with in_use(model), restoring_buffers(model):
        if method == "captum" and not rules:
            return _record_captum(model, request)
        rulebook = Rulebook.parse(method, [rules] if isinstance(rules, str) else rules)
        with restoring_random_numbers(model):
            return _record_rulebook(model, request, rulebook, method)


@dataclass(frozen=True, slots=True)
class _Request:
    """What to attribute (`call`: the first four arguments of captum's `attribute`), and what to store of it."""

    call: tuple[Any, Any, Any, Any]
    baseline_forward_args: Any
    storage: StorageOptions
    panel: PanelMaker | None


def _record_captum(model: nn.Module, request: _Request) -> Trace:
    from captum.attr import DeepLift as CaptumDeepLift

    watching = Watching(model, request.storage)
    try:
        with unwrapping(model), watching, undoing(captum_leftovers(model)):
            with no_warnings.on():  # captum warns of its hooks and of `requires_grad` at every call
                attributions, delta = CaptumDeepLift(model).attribute(*request.call, return_convergence_delta=True)
            found = tuple(tensor.detach() for tensor in as_tuple(attributions))
            watching.outcome.attributions = found
            watching.outcome.delta = as_floats(delta)
            watching.outcome.panel_maker = None if request.panel is None else partial(_panel, model, request.panel)
            watching.outcome.probe = partial(_probe, model, request, found)
    except TracerError as error:
        error.trace = watching.partial
        raise
    except Exception as error:
        raise failed("captum's DeepLift", error, watching.partial, request.storage.path) from error
    training = [note for note in watching.trace.notes if note.kind == "training mode"]
    if training:
        names = ", ".join(dict.fromkeys(f"{note.path} ({note.detail})" for note in training[:5]))
        warnings.warn(f"the model is in training mode: {names}; call model.eval() first", stacklevel=4)
    return watching.trace


def _panel(model: nn.Module, panel: PanelMaker, *seen: Any) -> Panel:
    with restoring_random_numbers(model):
        return panel(*seen)


def _probe(
    model: nn.Module, request: _Request, attributions: tuple[Tensor, ...], observation: Observation
) -> Iterator[Note]:
    """Notes on a finished captum recording that take another run of the model."""
    modules = {path: module for module, path in (request.storage.details.names or module_paths(model)).items()}
    with restoring_random_numbers(model), undoing(captum_leftovers(model)):
        if observation.examples > 1 and may_couple(observation, modules):
            note = batch_note(model, request.call, attributions)
            if note is not None:
                yield note
        if request.baseline_forward_args is not None:
            yield extras_note(model, request.call, request.baseline_forward_args)


def _record_rulebook(model: nn.Module, request: _Request, rulebook: Rulebook, method: Method) -> Trace:
    inputs, baselines, target, extras = request.call
    lift = DeepLift(model, rulebook=rulebook)
    with TraceRecording(model, request.storage, method, str(rulebook)) as recording:
        observer = RunObserver(model, recording)
        try:
            attributions, delta = lift.attribute(
                inputs, baselines, target, extras, return_convergence_delta=True,
                baseline_forward_args=request.baseline_forward_args, observer=observer,
            )  # fmt: skip
        except InputError:  # the caller's mistake: a trace would show nothing
            recording.discard()
            raise
        except (Exception, KeyboardInterrupt) as error:
            trace = None
            observation = observer.abandoned()
            if observation is None:  # nothing ran
                recording.discard()
            else:
                message = said(error) + " (in the reference's run)" * (observer.recorder is None)
                with suppress(Exception):  # the run's own error says more
                    trace = recording.finish(observation, Outcome(status="failed", message=message))
            if isinstance(error, KeyboardInterrupt):
                raise
            if isinstance(error, TracerError):
                error.trace = trace
                raise
            raise failed("the attribution", error, trace, request.storage.path) from error
        observation = observer.observation
        outcome = Outcome(
            delta=np.atleast_1d(as_floats(delta)),
            output=_outputs(lift, observation.examples),
            attributions=as_tuple(attributions),
            panel_maker=request.panel,
            notes=[_noted(note) for note in _for_the_trace(lift)],
            message=_in_words(lift.notes),
        )
        if rulebook.doubled and request.baseline_forward_args is not None:
            outcome.probe = lambda _observation: [extras_note(model, request.call, request.baseline_forward_args)]
        return recording.finish(observation, outcome)


def _outputs(lift: DeepLift, examples: int) -> tuple[Floats, Floats] | None:
    """f(x) and f(x'), each (E,); None if the output does not have one number for each example."""
    if lift.outputs is None or any(tensor.shape != (examples,) for tensor in lift.outputs):
        return None
    output, reference = lift.outputs
    return as_floats(output), as_floats(reference)


def _for_the_trace(lift: DeepLift) -> Iterator[RuleNote]:
    """The notes of an attribution; what the model gives is noted by the recorder too."""
    yield from (note for note in (*lift.notes, *lift.decided) if note.kind != "non-tensor output")


def _noted(note: RuleNote) -> Note:
    """A note of the exact rules in the form of the trace."""
    source = None if note.source == "?" else note.source
    return Note(note.kind, note.path, None, f"{note.op}, rule {note.rule}", note.amount, source)


def _refuse_integers(model: nn.Module, tensor: Tensor, request: _Request, method: Method) -> NoReturn:
    """Raise the error for an input of integers, with a trace that says so."""
    details = request.storage.details
    paths = details.names or module_paths(model)
    note = integer_input(tensor.dtype, {path: module for module, path in paths.items()})
    error = InputError(
        f"the input has {note.detail.partition('; ')[0]}; DeepLIFT needs floating point: "
        f"{note.detail.partition('; ')[2]} instead of to token ids"
    )
    observation = Observation.of_root(details.type or type(model).__name__, tensor.shape[0], method == "captum")
    observation.notes.append(note)
    with TraceRecording(model, request.storage, method) as recording:
        outcome = Outcome(status="failed", message=f"InputError: {error}")
        error.trace = recording.finish(observation, outcome)
    raise error


def _in_words(notes: Sequence[RuleNote]) -> str:
    """What was not exact, each op once: "approximated: erfcx (net/erfcx, net.py:3 forward)"; "" if all was."""
    found = dict.fromkeys(f"{note.kind}: {note.op} ({note.path}, {note.source})" for note in notes)
    shown = "; ".join(list(found)[:5])
    return shown if len(found) <= 5 else f"{shown}; and {len(found) - 5} more"
