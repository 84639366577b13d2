"""The calls of the reference run beside the same calls of the input run: what each held, its rule and its notes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace as replace_fields
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tracer.exact.call_site import call_site
from tracer.exact.notes import RuleNote
from tracer.exact.replacement import Replacement
from tracer.exact.tape import KeptOperands, Tape
from tracer.exact.treatment import Treatment
from tracer.exact.varying import check_shapes, differing_elements, is_varying, needed_operands
from tracer.model import torch_functions
from tracer.model.held import HeldTensors
from tracer.model.source import source_line
from tracer.op_call import OpCall
from tracer.records import NoteKind
from tracer.rules.call import BoundCall
from tracer.rules.rulebook import Rulebook

PLACES = " places"
"""Ends the name of the step that gives the one-hot of an op's indices, beside the step that gives its values."""


class Pairing:
    """Pairs each call of the input run with that of the reference run, and gives it its rule.

    `names` maps modules to paths. `notes` lists what is not exact, `decided` the choices that numbers make, with the
    flow that went into each. `unused` are the rulebook's overrides that no call has matched.
    """

    def __init__(self, rulebook: Rulebook, names: Mapping[nn.Module, str]) -> None:
        self.rulebook = rulebook
        self.names = names
        self.notes: list[RuleNote] = []
        self.decided: list[RuleNote] = []
        self.unused = set(rulebook.overrides)
        self.tape = Tape()
        self._held = HeldTensors()
        self._all_exact = False

    def forget_memory(self) -> None:
        """A run is over, so nothing is written to what it held any more."""
        self._held.clear()

    def rule_of(self, op: str) -> str:
        """The rule that the rulebook has for an op that is about to run."""
        if self._all_exact:
            return "exact"
        if not self.rulebook.overrides:
            return self.rulebook.default
        module, path, within = call_site(self.names)
        return self.rule_at(op, path, "" if module is None else type(module).__name__, within)

    def rule_at(self, op: str, path: str, module_type: str, within: str = "") -> str:
        """The rule that the rulebook has for an op at this place of the model."""
        override = self.rulebook.override(op, path, module_type, within)
        if override is None:
            return self.rulebook.default
        self.unused.discard(override)
        return override.rule

    def step(self, name: str, operands: KeptOperands) -> list[Any] | None:
        """Keep in the reference's run what an op holds, and give None; in the input's run, what it held there."""
        if self.tape.writing:
            self._hold(operands)
        found = self.tape.step(name, operands)
        return None if self.tape.writing else found

    def pair(self, name: str, rule: str, call: BoundCall) -> Replacement | None:
        """The call with the reference's operands beside its own; None where autograd is exact as it is."""
        operands = call.operands
        needed = needed_operands(call)
        kept = [t.detach() if need else None for t, need in zip(operands, needed, strict=True)]
        references = self.step(name, kept)
        if references is None:
            return None
        if not all(needed):
            differing = differing_elements(kept, references)
            if not differing:
                return None
            self.note(
                name, rule, "discrete choice" if call.linear == "same choice" else "differing constant", differing
            )
        else:
            self._note_differing_constants(name, rule, operands, references)
        xs = [t.detach() if ours is None else ours for t, ours in zip(operands, kept, strict=True)]
        x_refs = [x if r is None else r for x, r in zip(xs, references, strict=True)]
        chosen = call.choices if call.linear == "same choice" else 0
        check_shapes(name, xs[chosen:], x_refs[chosen:])
        self._hold(xs)
        report = None
        if call.inexact and all(needed):
            report = partial(setattr, self.note(name, rule, call.inexact, 0.0), "amount")
        return Replacement(call, xs, x_refs, call.inexact or rule, report, operands)

    def _note_differing_constants(
        self, name: str, rule: str, operands: Sequence[Tensor], references: KeptOperands
    ) -> None:
        """Note the operands that differ between the runs though no gradient leads back from them."""
        constants = [None if is_varying(t) or isinstance(t, nn.Parameter) else t for t in operands]
        if any(t is not None for t in constants) and (differing := differing_elements(constants, references)):
            self.note(name, rule, "differing constant", differing)

    def node(self, name: str, bound: BoundCall, decides: bool = False) -> Tensor:
        """The value of a call between the model's own, with its multipliers; in the reference's run one that varies.

        `decides`: it is a choice that numbers make; Σ |flow| into it is the amount of a note in `decided`.
        """
        with torch._C.DisableTorchFunction():
            replacement = self.pair(name, "exact", bound)
            if self.tape.writing:
                value: Tensor = bound.forward(*(t.detach() for t in bound.operands))
                return value.requires_grad_().clone()
            assert replacement is not None
            if decides:
                replacement.call = self._counted(name, bound)
            value = replacement.value()
            return value

    def _counted(self, name: str, bound: BoundCall) -> BoundCall:
        note = self.note(name.removesuffix(PLACES), "exact", "decided", 0.0)
        self.decided.append(self.notes.pop())

        def multipliers(gs: Any, xs: Any, x_refs: Any, needs: Any) -> Any:
            if gs[0] is not None:
                note.amount += float((gs[0] * (bound.forward(*xs) - bound.forward(*x_refs))).abs().sum())
            return bound.multipliers(gs, xs, x_refs, needs)

        return replace_fields(bound, multipliers=multipliers)

    def replaced(self, bound: BoundCall, x_refs: list[Tensor]) -> Tensor:
        """An op's value with its multipliers behind it, the reference's operands being at hand."""
        xs = [t.detach() for t in bound.operands]
        value: Tensor = Replacement(bound, xs, x_refs, operands=bound.operands).value()
        return value

    @contextmanager
    def apart(self) -> Iterator[Tape]:
        """While this lasts, steps go to a tape of its own."""
        outer, self.tape = self.tape, Tape()
        try:
            yield self.tape
        finally:
            self.tape = outer

    @contextmanager
    def all_exact(self) -> Iterator[None]:
        """While this lasts, parts of an op whose rule is exact have that rule too."""
        before, self._all_exact = self._all_exact, True
        try:
            yield
        finally:
            self._all_exact = before

    def keep_value(self, written: Tensor) -> None:
        """Copy what is held in the memory of a tensor that is about to be written to."""
        self._held.copy_before_write(written)

    def note_cut(self, how: Treatment, call: OpCall) -> None:
        """Note that a value goes on without a gradient."""
        if not self.tape.writing and any(is_varying(t) for _name, t in torch_functions.arguments(call)):
            self.note(how.name, "gradient", "cut", float("nan"))

    def note(self, name: str, rule: str, kind: NoteKind, amount: float) -> RuleNote:
        """Note something about the call that is under way."""
        path = call_site(self.names).path_of(name)
        note = RuleNote(path, name, source_line() or "?", rule, kind, amount)
        self.notes.append(note)
        return note

    def note_once(self, name: str, kind: NoteKind) -> None:
        """Note what may happen at every other call of a model, at the first one of each op."""
        if not any(note.op == name and note.kind == kind for note in self.notes) and self.rule_of(name) == "exact":
            self.note(name, "exact", kind, float("nan"))

    def held(self, tensors: list[Tensor]) -> list[Tensor]:
        """The tensors, which a copy takes the place of before the model writes to them."""
        self._hold(tensors)
        return tensors

    def _hold(self, tensors: Sequence[Tensor | None]) -> None:
        for i, tensor in enumerate(tensors):
            if tensor is not None:
                self._held.hold(tensors, i)
