"""Paired evaluation: run the reference, run the input, then one backward pass gives DeepLIFT's multipliers.

The first pass keeps, in call order, the operands of every op that is not linear. In the second each such op is one
autograd node with its true value, whose backward is the multiplier of its rule, made from both passes. Everything
linear is plain autograd. No batch is doubled, so nothing depends on an axis, and the two runs may differ in masks and
positions.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import _functorch

from tracer.errors import InputError, ObservationError
from tracer.exact.replacement import Replacement, replace
from tracer.exact.treatment import Treatment, treatment
from tracer.exact.unseen import unseen
from tracer.model import torch_functions as ops
from tracer.model.hooks import is_atomic, module_paths
from tracer.model.process import custom_functions, no_fast_path, uncompiled
from tracer.model.source import source_line
from tracer.model.tensors import memory_of
from tracer.model.undo import Mode, saved_tensors, undoing
from tracer.op_call import OpCall
from tracer.records import NoteKind
from tracer.rules.call import BoundCall
from tracer.rules.rulebook import EXACT, Rulebook
from tracer.rules.table import approximate, bind_exact, rescale

_MODULE_CALL = nn.Module._call_impl.__code__
_COMPOSITE = ops.run_composite.__code__
Held = list[Tensor | None]


@dataclass(slots=True)
class Note:
    """Something about one call that a reader of the attributions must know.

    `what`: "approximated" (no rule: average Jacobian), "discrete choice" (mask, index or order differs between the
    runs), "differing constant" (an operand that is not attributed to differs between the runs), "cut" (the value goes
    on without a gradient), "unseen" (TorchScript and other code that no function mode sees). `amount` is the leak
    Σ m·Δx − Σ g·Δy where the operands of both runs are at hand, else the number of elements that differ.
    """

    path: str
    op: str
    source: str
    rule: str
    what: NoteKind
    amount: float


@dataclass(slots=True)
class _Step:
    """One op of the reference run: its name, its source line, and the operands that its rule needs."""

    name: str
    source: str
    held: Held


class PairedEvaluation(Mode):
    """Evaluates `model` twice so that `torch.autograd.grad` of the second output gives multipliers.

        engine = PairedEvaluation(model)
        with engine.reference_pass():
            output_reference = model(*reference_args)
        with engine.input_pass():
            output = model(*args)          # args require grad where multipliers are wanted
        torch.autograd.grad(output_selected, args)

    `notes` lists what is not exact; leaks in it are known after the backward pass. `names` maps modules to paths.
    `unused` are the rulebook's overrides that no call has matched, `ruled` the modules whose gradient a rule replaces.
    """

    def __init__(
        self, model: nn.Module, rulebook: Rulebook = EXACT, names: Mapping[nn.Module, str] | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.rulebook = rulebook
        self.names = module_paths(model) if names is None else names
        self.notes: list[Note] = []
        self.ruled: dict[nn.Module, str] = {}
        self.unused = set(rulebook.overrides)
        self._tape: list[_Step] = []
        self._position = 0
        self._recording = False
        self._running = False
        self._by_storage: dict[int, list[tuple[list[Any], int]]] = defaultdict(list)

    @contextmanager
    def reference_pass(self) -> Iterator[None]:
        """Run the reference inside. Nothing is kept for a backward pass but the operands of non-linear ops.

        Gradients stay enabled so that the model takes the same ways (fused paths, checks of `requires_grad`) as in the
        input pass; the tensors that autograd would save are dropped.
        """
        self._tape.clear()
        self._recording = True
        with self._conditions(), saved_tensors(lambda _tensor: None, _never):
            yield
        self._by_storage.clear()

    @contextmanager
    def input_pass(self) -> Iterator[None]:
        """Run the input inside; the graph of its output carries the multipliers."""
        self._position = 0
        self._recording = False
        self.notes.extend(
            Note(path, type(module).__name__, "?", "gradient", "unseen", float("nan"))
            for module, path in self.names.items()
            if isinstance(module, torch.jit.ScriptModule)
        )
        with self._conditions():
            yield
        self._by_storage.clear()
        if self._position < len(self._tape):
            step = self._tape[self._position]
            raise ObservationError(
                f"the reference run went on with {step.name} at {step.source}, the input run ended before it; "
                "exact rules need both runs to take one way through the model"
            )
        self._tape.clear()

    def note_unseen(self, output: Tensor, inputs: Sequence[Tensor]) -> None:
        """Note what the graph from `inputs` to `output` holds that neither a rule nor the user's choice accounts for.

        Under other rules than the exact ones plain gradients are what was asked for.
        """
        if self.rulebook.default != "exact" or any(o.rule in ("gradient", "captum") for o in self.rulebook.overrides):
            return
        custom, others = unseen(output, inputs)
        if any(note.what == "unseen" for note in self.notes):
            others = []  # a TorchScript module's own nodes, which its note accounts for
        self.notes.extend(Note(f"/{name}", name, "?", "gradient", "unseen", float("nan")) for name in custom + others)

    @contextmanager
    def _conditions(self) -> Iterator[None]:
        trained = [p for p in self.model.parameters() if p.requires_grad]
        grad = partial(torch.set_grad_enabled, torch.is_grad_enabled())
        stopped = partial(setattr, self, "_running", False)
        with undoing(partial(_require_grad, trained, True)), undoing(grad), undoing(stopped), no_fast_path.on():
            self._running = True
            _require_grad(trained, False)
            torch.set_grad_enabled(True)
            with uncompiled(), custom_functions(self._custom), self:
                yield

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one torch function by its treatment."""
        if not self._running:  # torch itself enters a mode again, late, where Ctrl-C came as it left it for a moment
            return func(*args, **(kwargs or {}))
        if _functorch.peek_interpreter_stack() is not None and self.rulebook.default in ("exact", "rescale"):
            _refuse_transformed(OpCall(func, args, kwargs or {}))
        how = treatment(func)
        kwargs = kwargs or {}
        if how.kind == "plain":
            return func(*args, **kwargs)
        call = OpCall(func, args, kwargs)
        if how.kind == "enter":
            with self:
                if ops.describe(func).role == "composite":
                    return ops.run_composite(how.name, call)
                return ops.body(func)(*args, **kwargs)
        if not torch.is_grad_enabled() or how.kind == "cut":
            self._note_cut(how, call)
            return func(*args, **kwargs)
        written = _written(how, call)
        stepped = False
        if how.kind != "linear":
            stepped, replacement = self._replacement(how, call, written is not None)
            if replacement is not None:
                value = replace(replacement, replacement.call.operands)
                if written is None:
                    return value
                self._keep_value(written)
                return written.copy_(value)
        if written is not None:
            self._keep_value(written)
        value = func(*args, **kwargs)
        if not stepped and _varies(value if written is None else written):
            self._step(how.name)
        return value

    def _custom(self, name: str, apply: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Run a custom `torch.autograd.Function`, which no function mode sees, as an op without a rule."""
        how = Treatment(name, "unknown", False, None, apply)
        call = OpCall(apply, args, {})
        with torch._C.DisableTorchFunction():
            if not torch.is_grad_enabled():
                self._note_cut(how, call)
                return apply(*args)
            stepped, replacement = self._replacement(how, call, False)
            if replacement is not None:
                return replace(replacement, replacement.call.operands)
            value = apply(*args)
            if not stepped and _varies(value):
                self._step(name)
            return value

    def _replacement(self, how: Treatment, call: OpCall, in_place: bool) -> tuple[bool, Replacement | None]:
        """Whether the call took a step on the tape, and what replaces it; None: autograd is exact as it is."""
        varying = [t for _name, t in ops.arguments(call) if _is_varying(t)]
        if not varying:
            return False, None
        rule = self._rule(how.name)
        if rule in ("gradient", "captum"):
            return False, None
        if in_place:
            call = _out_of_place(how, call)
        bound = bind_exact(how.name, call)
        if bound is not None and any(all(t is not o for o in bound.operands) for t in varying):
            bound = approximate(call)
        if bound is not None and rule == "rescale":
            bound = self._rescaled(bound)
        if bound is None:
            return False, None
        if how.kind == "unknown":
            value = bound.forward(*bound.operands)
            if not _varies(value):  # an index, a mask, or an op that PyTorch cannot differentiate
                if _is_real(value):
                    self._note_cut(how, call)
                return False, None
        return True, self._pair(how.name, rule, bound)

    def _pair(self, name: str, rule: str, call: BoundCall) -> Replacement | None:
        """The call with the reference's operands beside its own; None where autograd is exact as it is."""
        operands = call.operands
        needed = _needed(call)
        held = [t.detach() if need else None for t, need in zip(operands, needed, strict=True)]
        if self._recording:
            self._hold(held)
            self._step(name, held)
            return None
        references = self._step(name, held)
        if not all(needed):
            differing = self._differing(held, references)
            if not differing:
                return None
            self._note(
                name, rule, "discrete choice" if call.linear == "same choice" else "differing constant", differing
            )
        xs: list[Tensor] = [t.detach() for t in operands]
        x_refs = [x if r is None else r for x, r in zip(xs, references, strict=True)]
        chosen = call.choices if call.linear == "same choice" else 0
        for x, x_ref in zip(xs[chosen:], x_refs[chosen:], strict=True):
            if x.shape != x_ref.shape:
                raise ObservationError(
                    f"{name} at {source_line()} has an operand of shape {tuple(x.shape)} in the input run and of "
                    f"{tuple(x_ref.shape)} in the reference run; pad both to one length"
                )
        self._hold(xs)
        report = None
        if call.inexact and all(needed):
            note = self._note(name, rule, call.inexact, 0.0)

            def report(leak: float) -> None:
                note.amount = leak

        return Replacement(call, xs, x_refs, call.inexact or rule, report)

    def _step(self, name: str, held: Held | None = None) -> Held:
        """Append to the tape, or advance along it and hand out what the reference held there."""
        if self._recording:
            self._tape.append(_Step(name, source_line() or "?", [] if held is None else held))
            return []
        if self._position >= len(self._tape):
            raise ObservationError(
                f"the input run goes on with {name} at {source_line()}, the reference run ended before it; "
                "exact rules need both runs to take one way through the model"
            )
        step = self._tape[self._position]
        if step.name != name or (held is not None and len(step.held) != len(held)):
            raise ObservationError(
                f"input and reference take different ways through the model: the reference ran {step.name} at "
                f"{step.source}, the input {name} at {source_line()}"
            )
        self._position += 1
        found, step.held = step.held, []
        return found

    def _differing(self, held: Held, references: Held) -> int:
        """How many elements of the constants that both passes held differ between them."""
        count = 0
        for ours, theirs in zip(held, references, strict=True):
            if ours is None or theirs is None or (ours.data_ptr() == theirs.data_ptr() and ours.shape == theirs.shape):
                continue
            if ours.shape != theirs.shape:
                count += max(ours.numel(), theirs.numel())
            elif not torch.equal(ours, theirs):
                count += int((ours != theirs).sum())
        return count

    def _rescaled(self, call: BoundCall) -> BoundCall | None:
        if call.linear != "never" or len(call.operands) != 1:
            return None
        value = call.forward(*(t.detach() for t in call.operands))
        return rescale(call) if isinstance(value, Tensor) and value.shape == call.operands[0].shape else None

    def _rule(self, name: str) -> str:
        if not self.rulebook.overrides:
            return self.rulebook.default
        module, path, within = self._place()
        return self._chosen(name, path, "" if module is None else type(module).__name__, within)

    def _chosen(self, op: str, path: str, module_type: str, within: str = "") -> str:
        override = self.rulebook.override(op, path, module_type, within)
        if override is None:
            return self.rulebook.default
        self.unused.discard(override)
        return override.rule

    def _place(self) -> tuple[nn.Module | None, str, str]:
        """The innermost module of the model that is being called, its path, and the composite ops under way in it,
        "outer/inner". Read off the Python stack: the recorder's mode may enter composite ops before this one."""
        within: list[str] = []
        frame = sys._getframe(2)
        while frame is not None:
            if frame.f_code is _COMPOSITE:
                within.insert(0, frame.f_locals["name"])
            elif frame.f_code is _MODULE_CALL:
                module = frame.f_locals["self"]
                if module in self.names:
                    return module, self.names[module], "/".join(within)
            frame = frame.f_back  # type: ignore[assignment]
        return None, "", "/".join(within)

    def _note(self, name: str, rule: str, what: NoteKind, amount: float) -> Note:
        module, path, within = self._place()
        inner = f"{path}/{within}" if within else path
        shown = path if module is not None and is_atomic(module) else f"{inner}/{name}"
        note = Note(shown, name, source_line() or "?", rule, what, amount)
        self.notes.append(note)
        return note

    def _note_cut(self, how: Treatment, call: OpCall) -> None:
        if not self._recording and any(_is_varying(t) for _name, t in ops.arguments(call)):
            self._note(how.name, "gradient", "cut", float("nan"))

    def _hold(self, tensors: list[Any]) -> None:
        for i, tensor in enumerate(tensors):
            if tensor is not None:
                self._by_storage[memory_of(tensor)].append((tensors, i))

    def _keep_value(self, written: Any) -> None:
        """Copy held tensors in the memory that an in-place op is about to write to."""
        if isinstance(written, Tensor):
            for tensors, i in self._by_storage.pop(memory_of(written), ()):
                tensors[i] = tensors[i].clone()


def _require_grad(parameters: Sequence[nn.Parameter], required: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(required)


def _never(_packed: object) -> Tensor:
    raise ObservationError("the reference run cannot be differentiated; attribute through the input run")


def _is_varying(tensor: Tensor) -> bool:
    """Whether a tensor may differ between the runs; parameters do not, whoever owns them."""
    return tensor.requires_grad and not isinstance(tensor, nn.Parameter)


def _refuse_transformed(call: OpCall) -> None:
    """torch.func hides whether a tensor varies; transforms of constants, as in the making of masks, may stay."""
    for _name, tensor in ops.arguments(call):
        wrapped = _functorch.is_functorch_wrapped_tensor(tensor)
        while _functorch.is_functorch_wrapped_tensor(tensor):
            tensor = _functorch.get_unwrapped(tensor)
        if wrapped and tensor.requires_grad:
            raise InputError(
                f"the model calls torch.func (vmap, grad, jvp) at {source_line()}, which exact rules cannot see into; "
                "write the loop out, or use method 'gradient'"
            )


def _varies(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.requires_grad
    return isinstance(value, (tuple, list)) and any(_varies(item) for item in value)


def _written(how: Treatment, call: OpCall) -> Tensor | None:
    """The tensor that this call overwrites, if any."""
    asked = call.value(how.inplace_position, "inplace", False)
    if not (how.in_place or asked):
        return None
    target = call.value(0, "input")
    return target if isinstance(target, Tensor) else None


def _is_real(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.is_floating_point() or value.is_complex()
    return isinstance(value, (tuple, list)) and any(_is_real(item) for item in value)


def _needed(call: BoundCall) -> list[bool]:
    """Which operands the rule needs of the reference run: all, or those that must be equal for autograd to be exact."""
    operands = call.operands
    if call.linear == "same choice":
        return [i < call.choices for i in range(len(operands))]
    if call.linear == "one varying":
        varying = [_is_varying(t) for t in operands]
        if sum(varying) == 1:
            return [not v and not isinstance(t, nn.Parameter) for v, t in zip(varying, operands, strict=True)]
    return [True] * len(operands)


def _out_of_place(how: Treatment, call: OpCall) -> OpCall:
    """The call that computes the same without writing to its argument."""
    if how.in_place:
        return OpCall(how.outside, call.args, call.kwargs)
    place = call.place(how.inplace_position, "inplace")
    assert place is not None
    return call.replaced([(place, False)])
