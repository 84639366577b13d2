"""Paired evaluation: run the reference, run the input, then one backward pass gives DeepLIFT's multipliers.

The first pass keeps, in call order, the operands of every op that is not linear. In the second each such op is one
autograd node with its true value, whose backward is the multiplier of its rule, made from both passes. Everything
linear is plain autograd. No batch is doubled, so nothing depends on an axis, and the two runs may have different masks
and positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tracer.errors import ObservationError
from tracer.exact.choices import dispatch, experts
from tracer.exact.choices.context import Choices
from tracer.exact.composed import Made, composed
from tracer.exact.in_place import out_of_place, written_argument
from tracer.exact.inverse_scales import InverseScales
from tracer.exact.notes import RuleNote
from tracer.exact.pairing import Pairing
from tracer.exact.replacement import Replacement
from tracer.exact.treatment import Treatment, treatment
from tracer.exact.unseen import unseen
from tracer.exact.varying import (
    CASTS,
    has_gradient,
    in_transform,
    is_differentiable,
    is_varying,
    narrows,
    refuse_transformed,
    whole_rows,
)
from tracer.model import torch_functions
from tracer.model.hooks import module_paths
from tracer.model.process import custom_functions, no_fast_path, uncompiled
from tracer.model.process import experts as experts_run_by
from tracer.model.undo import Mode, active_modes, saved_tensors, undoing
from tracer.op_call import OpCall
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

    `notes`, `decided` and `unused` are those of its `Pairing`; leaks in `notes` are known after the backward pass.
    `all_places`: of a mask that the input decides, `nonzero` gives all places (`tracer.exact.choices.twins.AllPlaces`).
    `ruled` are the modules whose gradient a rule replaces.
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
        self.pairing = Pairing(rulebook, self.names)
        self.notes = self.pairing.notes
        self.decided = self.pairing.decided
        self.unused = self.pairing.unused
        self.ruled: dict[nn.Module, str] = {}
        self._choices = Choices(self, self.pairing, "exact" in rulebook.rules, all_places)
        self._inverse_scales = InverseScales()
        self._running = False
        self.input_dtype: torch.dtype | None = None  # casts to one of fewer digits are noted

    @contextmanager
    def reference_pass(self) -> Iterator[None]:
        """Run the reference inside. Nothing is kept for a backward pass but the operands of non-linear ops.

        Gradients stay enabled so that the model takes the same path (fused ops, checks of `requires_grad`) as in the
        input pass; the tensors that autograd would save are dropped.
        """
        self.pairing.tape.write()
        with self._conditions(), saved_tensors(lambda _tensor: None, _never):
            yield
        self.pairing.forget_memory()

    @contextmanager
    def input_pass(self) -> Iterator[None]:
        """Run the input inside; the graph of its output carries the multipliers."""
        self.pairing.tape.read()
        self.notes.extend(
            RuleNote(path, type(module).__name__, "?", "gradient", "unseen", float("nan"))
            for module, path in self.names.items()
            if isinstance(module, torch.jit.ScriptModule)
        )
        with self._conditions():
            yield
        self.pairing.forget_memory()
        self.pairing.tape.check_read_to_the_end()

    def twin_of(self, tensor: Tensor) -> Tensor | None:
        """The tensor with a graph that stands for a mask, count or index which the input decides; None for others."""
        return self._choices.twins.tensor(tensor)

    @property
    def took_all_places(self) -> bool:
        """Whether a mask was taken at all its places, which is right only where the model then computes the same."""
        return self._choices.took_all_places

    def note_unseen(self, output: Tensor, inputs: Sequence[Tensor]) -> None:
        """Note non-linear nodes of the graph from `inputs` to `output` that no rule replaced.

        Not under a rulebook with other than exact rules, which asks for plain gradients.
        """
        if self.rulebook.default != "exact" or self.rulebook.rules & {"gradient", "captum"}:
            return
        custom, others = unseen(output, inputs)
        if any(note.kind == "unseen" for note in self.notes):
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
        kwargs = kwargs or {}
        if not self._running:  # after Ctrl-C torch may put the mode back once the run is over
            return func(*args, **kwargs)
        call = OpCall(func, args, kwargs)
        if in_transform() and self.rulebook.default in ("exact", "rescale"):
            refuse_transformed(call)
        how = treatment(func)
        if dispatch.concern(self._choices, how.name):
            found = dispatch.run(self._choices, how, call)
            if found is not NotImplemented:
                return found
        plain = how.kind == "plain" or (how.kind == "shape" and torch.is_grad_enabled())
        value = func(*args, **kwargs) if plain else self.treated(how, call)
        if not self.pairing.tape.writing:
            self._inverse_scales.look_at(how.name, call, value)
        return value

    def treated(self, how: Treatment, call: OpCall) -> Any:
        """Run a call that may compute something."""
        if how.kind == "enter":
            with self:
                return torch_functions.run_composite(how.name, call)
        if not torch.is_grad_enabled() or how.kind == "cut":
            self.pairing.note_cut(how, call)
            return call.run()
        written = written_argument(how, call)
        stepped = False
        if how.kind != "linear":
            stepped, replacement = self._replacement(how, call, written is not None)
            if replacement is not None:
                value = replacement.value()
                if written is None:
                    return value
                self.pairing.keep_value(written)
                return written.copy_(value)
        if written is not None:
            self.pairing.keep_value(written)
        if how.name == "embedding":
            call = whole_rows(call)
        value = call.run()
        if not stepped and has_gradient(value if written is None else written):
            self._step(how.name)
        if how.name in CASTS and not self.pairing.tape.writing and narrows(call, value, self.input_dtype):
            self.pairing.note_once(how.name, "approximated")
        return value

    def _custom(self, name: str, apply: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Run a custom `torch.autograd.Function`, which no function mode sees, as an op without a rule.

        One inside an op that runs as a whole belongs to that op.
        """
        if self not in active_modes():
            return apply(*args)
        how = Treatment(name, "unknown", False, None, apply)
        call = OpCall(apply, args, {})
        with torch._C.DisableTorchFunction():
            if not torch.is_grad_enabled():
                self.pairing.note_cut(how, call)
                return call.run()
            stepped, replacement = self._replacement(how, call, False)
            if replacement is not None:
                return replacement.value()
            value = call.run()
            if not stepped and has_gradient(value):
                self._step(name)
            return value

    def _replacement(self, how: Treatment, call: OpCall, in_place: bool) -> tuple[bool, Replacement | Made | None]:
        """Whether the call took a step on the tape, and what replaces it; None: autograd is exact as it is."""
        varying = [t for _name, t in torch_functions.arguments(call) if is_varying(t)]
        if not varying:
            return False, None
        rule = self.pairing.rule_of(how.name)
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
            bound = _rescaled(bound)
        if bound is None:
            return False, None
        if bound.composition is not None and rule == "exact":
            return True, composed(self, self.pairing, how.name, call, bound)
        if how.kind == "unknown" or bound.inexact == "approximated":
            value = bound.forward(*bound.operands)
            if not has_gradient(value):  # an index, a mask, or an op that PyTorch cannot differentiate
                if is_differentiable(value):
                    self.pairing.note_cut(how, call)
                return False, None
            bound.differentiable = None if isinstance(value, Tensor) else tuple(map(has_gradient, value))
        return True, self.pairing.pair(how.name, rule, bound)

    def _step(self, name: str) -> None:
        """Take the step of an op that autograd does as it is: both runs must take it."""
        self.pairing.tape.step(name)


def _rescaled(call: BoundCall) -> BoundCall | None:
    if call.linear != "never" or len(call.operands) != 1:
        return None
    value = call.forward(*(t.detach() for t in call.operands))
    return rescale(call) if isinstance(value, Tensor) and value.shape == call.operands[0].shape else None


def _require_grad(parameters: Sequence[nn.Parameter], required: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(required)


def _never(_packed: object) -> Tensor:
    raise ObservationError("the reference run cannot be differentiated; attribute through the input run")
