"""Paired evaluation: run the reference, run the input, then one backward pass gives DeepLIFT's multipliers.

The first pass keeps, in call order, the operands of every op that is not linear. In the second each such op is one
autograd node with its true value, whose backward is the multiplier of its rule, made from both passes. Everything
linear is plain autograd. No batch is doubled, so nothing depends on an axis, and the two runs may have different masks
and positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace as replace_fields
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tracer.errors import ObservationError
from tracer.exact.call_site import call_site
from tracer.exact.choices import dispatch, experts
from tracer.exact.choices.context import Choices
from tracer.exact.in_place import out_of_place, written_argument
from tracer.exact.inverse_scales import InverseScales
from tracer.exact.notes import RuleNote
from tracer.exact.replacement import Replacement, replace
from tracer.exact.tape import KeptOperands, Tape
from tracer.exact.treatment import Treatment, treatment
from tracer.exact.unseen import unseen
from tracer.exact.varying import (
    differing_elements,
    has_gradient,
    in_transform,
    is_differentiable,
    is_varying,
    needed_operands,
    refuse_transformed,
)
from tracer.model import torch_functions
from tracer.model.held import HeldTensors
from tracer.model.hooks import module_paths
from tracer.model.process import custom_functions, no_fast_path, uncompiled
from tracer.model.process import experts as experts_run_by
from tracer.model.source import source_line
from tracer.model.undo import Mode, saved_tensors, undoing
from tracer.op_call import OpCall
from tracer.records import NoteKind
from tracer.rules.call import BoundCall
from tracer.rules.rulebook import EXACT, Rulebook
from tracer.rules.table import approximate, bind_exact, rescale, times_inverse_scale


class PairedEvaluation(Mode):
    """Evaluates `model` twice so that `torch.autograd.grad` of the second output gives multipliers.

        engine = PairedEvaluation(model)
        with engine.reference_pass():
            output_reference = model(*reference_args)
        with engine.input_pass():
            output = model(*args)          # args require grad where multipliers are wanted
        torch.autograd.grad(output_selected, args)

    `notes` lists what is not exact; leaks in it are known after the backward pass. `names` maps modules to paths.
    `decided` are the choices that numbers make, with the flow that went into each.
    `all_places`: of a mask that the input decides, `nonzero` gives all places (`tracer.exact.choices.twins.AllPlaces`).
    `unused` are the rulebook's overrides that no call has matched, `ruled` the modules whose gradient a rule replaces.
    """

    def __init__(
        self,
        model: nn.Module,
        rulebook: Rulebook = EXACT,
        names: Mapping[nn.Module, str] | None = None,
        all_places: bool = True,
    ) -> None:
        super().__init__()
        self.model = model
        self.rulebook = rulebook
        self.names = module_paths(model) if names is None else names
        self.notes: list[RuleNote] = []
        self.decided: list[RuleNote] = []
        self.ruled: dict[nn.Module, str] = {}
        self.unused = set(rulebook.overrides)
        self._tape = Tape()
        self._held = HeldTensors()
        wanted = "exact" in (rulebook.default, *(override.rule for override in rulebook.overrides))
        self._choices = Choices(self, wanted, all_places)
        self._inverse_scales = InverseScales()
        self._running = False

    @contextmanager
    def reference_pass(self) -> Iterator[None]:
        """Run the reference inside. Nothing is kept for a backward pass but the operands of non-linear ops.

        Gradients stay enabled so that the model takes the same path (fused ops, checks of `requires_grad`) as in the
        input pass; the tensors that autograd would save are dropped.
        """
        self._tape.write()
        with self._conditions(), saved_tensors(lambda _tensor: None, _never):
            yield
        self._held.clear()

    @contextmanager
    def input_pass(self) -> Iterator[None]:
        """Run the input inside; the graph of its output carries the multipliers."""
        self._tape.read()
        self.notes.extend(
            RuleNote(path, type(module).__name__, "?", "gradient", "unseen", float("nan"))
            for module, path in self.names.items()
            if isinstance(module, torch.jit.ScriptModule)
        )
        with self._conditions():
            yield
        self._held.clear()
        self._tape.check_read_to_the_end()

    @property
    def took_all_places(self) -> bool:
        """Whether a mask was taken at all its places, which is right only where the model then computes the same."""
        return self._choices.took_all_places

    def note_unseen(self, output: Tensor, inputs: Sequence[Tensor]) -> None:
        """Note non-linear nodes of the graph from `inputs` to `output` that no rule replaced.

        Not under a rulebook with other than exact rules, which asks for plain gradients.
        """
        if self.rulebook.default != "exact" or any(o.rule in ("gradient", "captum") for o in self.rulebook.overrides):
            return
        custom, others = unseen(output, inputs)
        if any(note.what == "unseen" for note in self.notes):
            others = []  # a TorchScript module's own nodes, which its note accounts for
        self.notes.extend(
            RuleNote(f"/{name}", name, "?", "gradient", "unseen", float("nan")) for name in custom + others
        )

    @contextmanager
    def _conditions(self) -> Iterator[None]:
        trained = [p for p in self.model.parameters() if p.requires_grad]
        grad = partial(torch.set_grad_enabled, torch.is_grad_enabled())
        stopped = partial(setattr, self, "_running", False)
        with undoing(partial(_require_grad, trained, True)), undoing(grad), undoing(stopped), no_fast_path.on():
            self._running = True
            _require_grad(trained, False)
            torch.set_grad_enabled(True)
            self._forget_provenance()
            with uncompiled(), custom_functions(self._custom), experts_run_by(experts.run), self:
                yield
            self._forget_provenance()

    def _forget_provenance(self) -> None:
        self._choices.twins.clear()
        self._inverse_scales.clear()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one torch function by its treatment."""
        if not self._running:  # after Ctrl-C torch may put the mode back once the run is over
            return func(*args, **(kwargs or {}))
        if in_transform() and self.rulebook.default in ("exact", "rescale"):
            refuse_transformed(OpCall(func, args, kwargs or {}))
        how = treatment(func)
        kwargs = kwargs or {}
        call = OpCall(func, args, kwargs)
        if dispatch.concern(self._choices, how.name):
            found = dispatch.run(self._choices, how, call)
            if found is not NotImplemented:
                return found
        plain = how.kind == "plain" or (how.kind == "shape" and torch.is_grad_enabled())
        value = func(*args, **kwargs) if plain else self.treated(how, call)
        if not self._tape.writing:
            self._inverse_scales.look_at(how.name, call, value)
        return value

    def treated(self, how: Treatment, call: OpCall) -> Any:
        """Run a call that may compute something."""
        func, args, kwargs = call
        if how.kind == "enter":
            with self:
                if torch_functions.describe(func).role == "composite":
                    return torch_functions.run_composite(how.name, call)
                return torch_functions.body(func)(*args, **kwargs)
        if not torch.is_grad_enabled() or how.kind == "cut":
            self.note_cut(how, call)
            return func(*args, **kwargs)
        written = written_argument(how, call)
        stepped = False
        if how.kind != "linear":
            stepped, replacement = self._replacement(how, call, written is not None)
            if replacement is not None:
                value = replace(replacement, replacement.call.operands)
                if written is None:
                    return value
                self._held.copy_before_write(written)
                return written.copy_(value)
        if written is not None:
            self._held.copy_before_write(written)
        value = func(*args, **kwargs)
        if not stepped and has_gradient(value if written is None else written):
            self._step(how.name)
        return value

    def _custom(self, name: str, apply: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Run a custom `torch.autograd.Function`, which no function mode sees, as an op without a rule."""
        how = Treatment(name, "unknown", False, None, apply)
        call = OpCall(apply, args, {})
        with torch._C.DisableTorchFunction():
            if not torch.is_grad_enabled():
                self.note_cut(how, call)
                return apply(*args)
            stepped, replacement = self._replacement(how, call, False)
            if replacement is not None:
                return replace(replacement, replacement.call.operands)
            value = apply(*args)
            if not stepped and has_gradient(value):
                self._step(name)
            return value

    def _replacement(self, how: Treatment, call: OpCall, in_place: bool) -> tuple[bool, Replacement | None]:
        """Whether the call took a step on the tape, and what replaces it; None: autograd is exact as it is."""
        varying = [t for _name, t in torch_functions.arguments(call) if is_varying(t)]
        if not varying:
            return False, None
        rule = self._rule(how.name)
        if rule in ("gradient", "captum"):
            return False, None
        if in_place:
            call = out_of_place(how, call)
        bound = bind_exact(how.name, call)
        if bound is not None and any(all(t is not o for o in bound.operands) for t in varying):
            bound = approximate(call)
        if bound is not None and how.name == "mul" and len(bound.operands) == 2:
            inverse = [t in self._inverse_scales for t in bound.operands]
            if inverse[0] != inverse[1]:
                bound = times_inverse_scale(bound, int(inverse[1]))
        if bound is not None and rule == "rescale":
            bound = self._rescaled(bound)
        if bound is None:
            return False, None
        if how.kind == "unknown":
            value = bound.forward(*bound.operands)
            if not has_gradient(value):  # an index, a mask, or an op that PyTorch cannot differentiate
                if is_differentiable(value):
                    self.note_cut(how, call)
                return False, None
        return True, self._pair(how.name, rule, bound)

    def _pair(self, name: str, rule: str, call: BoundCall) -> Replacement | None:
        """The call with the reference's operands beside its own; None where autograd is exact as it is."""
        operands = call.operands
        needed = needed_operands(call)
        kept = [t.detach() if need else None for t, need in zip(operands, needed, strict=True)]
        if self._tape.writing:
            self._hold(kept)
            self._step(name, kept)
            return None
        references = self._step(name, kept)
        if not all(needed):
            differing = differing_elements(kept, references)
            if not differing:
                return None
            self._note(
                name, rule, "discrete choice" if call.linear == "same choice" else "differing constant", differing
            )
        else:
            self._note_differing_constants(name, rule, operands, references)
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

    def _note_differing_constants(
        self, name: str, rule: str, operands: Sequence[Tensor], references: KeptOperands
    ) -> None:
        """Note the operands that differ between the runs though no gradient leads back from them."""
        constants = [None if is_varying(t) or isinstance(t, nn.Parameter) else t for t in operands]
        if any(t is not None for t in constants) and (differing := differing_elements(constants, references)):
            self._note(name, rule, "differing constant", differing)

    # --- what the choices ask for -------------------------------------------------------------------------------------

    def node(self, name: str, bound: BoundCall, decides: bool = False) -> Tensor:
        """The value of a call between the model's own, with its multipliers; in the reference's run one that varies.

        `decides`: it is a choice that numbers make; Σ |flow| into it is the amount of a note in `decided`.
        """
        with torch._C.DisableTorchFunction():
            replacement = self._pair(name, "exact", bound)
            if self._tape.writing:
                value: Tensor = bound.forward(*(t.detach() for t in bound.operands))
                return value.requires_grad_().clone()
            assert replacement is not None
            if decides:
                replacement.call = self._counted(name, bound)
            value = replace(replacement, bound.operands)
            return value

    def _counted(self, name: str, bound: BoundCall) -> BoundCall:
        note = self._note(name, "exact", "decided", 0.0)
        self.decided.append(self.notes.pop())

        def multipliers(gs: Any, xs: Any, x_refs: Any, needs: Any) -> Any:
            if gs[0] is not None:
                note.amount += float((gs[0] * (bound.forward(*xs) - bound.forward(*x_refs))).abs().sum())
            return bound.multipliers(gs, xs, x_refs, needs)

        return replace_fields(bound, multipliers=multipliers)

    def step(self, name: str, operands: KeptOperands) -> KeptOperands | None:
        """Keep in the reference's run what an op holds, and give None; in the input's run, what it held there."""
        if self._tape.writing:
            self._hold(operands)
        found = self._step(name, operands)
        return None if self._tape.writing else found

    def both(self, part: Callable[[Tensor], Tensor], x: Tensor, x_ref: Tensor) -> tuple[Tensor, Tensor]:
        """What a part of the model makes of both runs' values, in the input's run; the first with multipliers."""
        outer, self._tape = self._tape, Tape()
        try:
            self._tape.write()
            with self:
                y_ref = part(x_ref.detach().requires_grad_()).detach()
            self._tape.read()
            with self:
                return part(x), y_ref
        finally:
            self._tape = outer

    def replaced(self, bound: BoundCall, x_refs: list[Tensor]) -> Tensor:
        """An op's value with its multipliers behind it, the reference's operands being at hand."""
        value: Tensor = replace(Replacement(bound, [t.detach() for t in bound.operands], x_refs), bound.operands)
        return value

    def keep_value(self, written: Tensor) -> None:
        """Copy what is held in the memory of a tensor that is about to be written to."""
        self._held.copy_before_write(written)

    def rule_of(self, name: str) -> str:
        """The rule that the rulebook has for an op that is about to run."""
        return self._rule(name)

    # ------------------------------------------------------------------------------------------------------------------

    def _hold(self, tensors: Sequence[Tensor | None]) -> None:
        for i, tensor in enumerate(tensors):
            if tensor is not None:
                self._held.hold(tensors, i)

    def _step(self, name: str, operands: KeptOperands | None = None) -> KeptOperands:
        """Write a step to the tape, or read what the reference kept at it."""
        return self._tape.step(name, operands)

    def _rescaled(self, call: BoundCall) -> BoundCall | None:
        if call.linear != "never" or len(call.operands) != 1:
            return None
        value = call.forward(*(t.detach() for t in call.operands))
        return rescale(call) if isinstance(value, Tensor) and value.shape == call.operands[0].shape else None

    def _rule(self, name: str) -> str:
        if not self.rulebook.overrides:
            return self.rulebook.default
        module, path, within = call_site(self.names)
        return self._chosen(name, path, "" if module is None else type(module).__name__, within)

    def _chosen(self, op: str, path: str, module_type: str, within: str = "") -> str:
        override = self.rulebook.override(op, path, module_type, within)
        if override is None:
            return self.rulebook.default
        self.unused.discard(override)
        return override.rule

    def _note(self, name: str, rule: str, what: NoteKind, amount: float) -> RuleNote:
        path = call_site(self.names).path_of(name)
        note = RuleNote(path, name, source_line() or "?", rule, what, amount)
        self.notes.append(note)
        return note

    def note_cut(self, how: Treatment, call: OpCall) -> None:
        """Note that a value goes on without a gradient."""
        if not self._tape.writing and any(is_varying(t) for _name, t in torch_functions.arguments(call)):
            self._note(how.name, "gradient", "cut", float("nan"))


def _require_grad(parameters: Sequence[nn.Parameter], required: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(required)


def _never(_packed: object) -> Tensor:
    raise ObservationError("the reference run cannot be differentiated; attribute through the input run")
