"""DeepLIFT with exact rules on unmodified models, behind captum's signature."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tracer.errors import InputError
from tracer.exact.layers import LayerContributions
from tracer.exact.notes import RuleNote
from tracer.exact.paired import PairedEvaluation
from tracer.model.example_reach import reach_one_another
from tracer.model.exclusive import in_use
from tracer.model.hooks import listening, module_paths, modules_of
from tracer.model.output import Target, logits_of, select
from tracer.model.restore import restoring_buffers, restoring_random_numbers
from tracer.model.tensors import as_tuple, copied, tensors_in
from tracer.model.undo import undoing_all
from tracer.model.unsupported import check_inputs, check_model
from tracer.rules.formulas.infinity import finite
from tracer.rules.rulebook import EXACT, Rulebook
from tracer.text import dtype_name

Tensors = tuple[Tensor, ...]
Baseline = Tensor | int | float
Baselines = Baseline | tuple[Baseline, ...] | None


_ROUNDING = 1e-4
"""Of Σ |attributions| of an example, what its delta may be without a look at the other examples."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Both runs and the multipliers between them: everything per input tensor in a tuple.

    `flows` are multipliers·(inputs − references). `output` and `output_reference` are the selected numbers, (E,) or a
    single number without an axis. `layers` maps a module's path to Σ m·Δ of its output for each call, float64 (E,);
    `mixed` has the shapes of outputs in which several examples cannot be told apart. `decided` are the choices that
    numbers make, with Σ |flow| into each.
    """

    multipliers: Tensors
    flows: Tensors
    output: Tensor
    output_reference: Tensor
    notes: tuple[RuleNote, ...]
    layers: dict[str, list[Tensor]]
    mixed: dict[str, tuple[int, ...]] = field(default_factory=dict)
    decided: tuple[RuleNote, ...] = ()


class Observer(Protocol):
    """Observes the runs; `tracer.recording.record` records traces this way."""

    names: Mapping[nn.Module, str] | None
    """The modules' paths, for patterns of the rulebook; None: as in `named_modules()`."""

    def reference_run(self, engine: PairedEvaluation, references: Tensors) -> AbstractContextManager[None]:
        """Around the reference's own run; not entered if both runs share a batch."""

    def input_run(self, engine: PairedEvaluation, inputs: int, examples: int) -> AbstractContextManager[None]:
        """Around the input's run, or that of the doubled batch.

        The model's first `inputs` arguments are attributed to.
        """


@dataclass(slots=True)
class Unobserved:
    """An observer that records nothing; it only names the modules for the patterns of rules."""

    names: Mapping[nn.Module, str] | None = None

    def reference_run(self, engine: PairedEvaluation, references: Tensors) -> AbstractContextManager[None]:
        return nullcontext()

    def input_run(self, engine: PairedEvaluation, inputs: int, examples: int) -> AbstractContextManager[None]:
        return nullcontext()


class DeepLift:
    """Attributions that sum to f(x) − f(x'), for any PyTorch model as it is.

    `attribute` takes what `captum.attr.DeepLift.attribute` takes and gives back what it gives. captum's `eps` is
    absent: no exact rule divides by a small number. `rulebook` chooses other rules; `notes` holds what the last call
    could not do exactly, `decided` the choices (masks, orders, experts) through which a part of the change went, with
    Σ |flow| into each, `outputs` its f(x) and f(x'), float64 (E,).
    """

    def __init__(self, model: nn.Module, multiply_by_inputs: bool = True, rulebook: Rulebook = EXACT) -> None:
        check_model(model, seen_through=True)
        self.model = model
        self.multiplies_by_inputs = multiply_by_inputs
        self.rulebook = rulebook
        self.notes: tuple[RuleNote, ...] = ()
        self.decided: tuple[RuleNote, ...] = ()
        self.outputs: tuple[Tensor, Tensor] | None = None

    def has_convergence_delta(self) -> bool:
        """True: the attributions can be compared with f(x) − f(x')."""
        return True

    def attribute(
        self,
        inputs: Tensor | Tensors,
        baselines: Baselines = None,
        target: Target = None,
        additional_forward_args: Any = None,
        return_convergence_delta: bool = False,
        custom_attribution_func: Callable[..., Tensors] | None = None,
        *,
        baseline_forward_args: Any = None,
        observer: Observer | None = None,
    ) -> Any:
        """Attributions of the shape of `inputs` (tensor or tuple), with `return_convergence_delta` a pair with (E,)
        deltas.

        `baselines`: tensor, number or tuple of these; None is zero; one example serves all. `target` selects one number
        an example (`tracer.model.output.select`). `additional_forward_args` follow the inputs in the call and are not
        attributed to; `baseline_forward_args` stand in for them in the reference's run (its own mask and positions).
        `custom_attribution_func` takes (multipliers[, inputs[, baselines]]) and replaces multipliers·(inputs −
        baselines). Law: Σ attributions = f(x) − f(x') per example.
        """
        xs, refs = formatted(inputs, baselines)
        found = self.evaluate(xs, refs, target, additional_forward_args, baseline_forward_args, observer=observer)
        attributions: Tensors
        if custom_attribution_func is not None:
            count = len(inspect.signature(custom_attribution_func).parameters)
            attributions = custom_attribution_func(*(found.multipliers, xs, refs)[:count])
        elif self.multiplies_by_inputs:
            attributions = found.flows
        else:
            attributions = found.multipliers
        shown: Any = attributions if isinstance(inputs, tuple) else attributions[0]
        if not return_convergence_delta:
            return shown
        delta = _totals(attributions, found.output) - (_rows(found.output) - _rows(found.output_reference))
        return shown, delta.to(found.output.dtype)

    def layer_contributions(
        self,
        inputs: Tensor | Tensors,
        baselines: Baselines = None,
        target: Target = None,
        additional_forward_args: Any = None,
        *,
        layers: Sequence[str] | None = None,
        baseline_forward_args: Any = None,
    ) -> dict[str, list[Tensor]]:
        """Σ m·Δ over the output of every call of each module, float64 (E,), by module path, from one pass.

        `layers` are paths as in `named_modules()`; None takes all. A layer that everything passes through has f(x) −
        f(x'). With several examples their axis must be the first of the layer's output: others are left out of all,
        and InputError where `layers` names one.
        """
        xs, refs = formatted(inputs, baselines)
        paths = module_paths(self.model)
        unknown = set(layers or ()) - set(paths.values())
        if unknown:
            raise InputError(f"the model has no module at {', '.join(sorted(unknown))}")
        chosen = {module: path for module, path in paths.items() if layers is None or path in layers}
        found = self.evaluate(xs, refs, target, additional_forward_args, baseline_forward_args, chosen)
        for path in layers or ():
            if path in found.mixed:
                raise InputError(
                    f"layer {path or 'of the whole model'!r} has an output of shape {found.mixed[path]}, in which "
                    f"{xs[0].shape[0]} examples cannot be told apart; leave it out of `layers` or pass one example"
                )
        return found.layers

    @undoing_all
    def evaluate(
        self,
        xs: Tensors,
        refs: Tensors,
        target: Target = None,
        args: Any = None,
        baseline_args: Any = None,
        layers: Mapping[nn.Module, str] | None = None,
        observer: Observer | None = None,
    ) -> Evaluation:
        """Multipliers, both outputs and notes of one pair of runs. Model, inputs and random state do not change.

        `layers` asks for the contributions of these modules, `observer` observes both runs.
        """
        args = as_tuple(args)
        baseline_args = args if baseline_args is None else as_tuple(baseline_args)
        _warn_of_training_mode(self.model)
        with (
            in_use(self.model),
            torch.inference_mode(False),
            torch.enable_grad(),
            restoring_buffers(self.model),
            restoring_random_numbers(self.model) as rewind,
        ):
            leaves = tuple(_ordinary(x).detach().requires_grad_() for x in xs)
            refs = tuple(_ordinary(ref) for ref in refs)
            args, baseline_args = tuple(map(_ordinary, args)), tuple(map(_ordinary, baseline_args))
            if self.rulebook.doubled:
                if layers is not None:
                    raise InputError("layer contributions need a rulebook without captum's rules")
                found = self._doubled(leaves, refs, target, args, rewind, observer or Unobserved())
            else:
                found = self._paired(
                    leaves, refs, target, args, baseline_args, rewind, layers or {}, observer or Unobserved()
                )
        self.notes = found.notes
        self.decided = found.decided
        self.outputs = (_rows(found.output), _rows(found.output_reference))
        return found

    def _paired(
        self,
        leaves: Tensors,
        refs: Tensors,
        target: Target,
        args: Any,
        baseline_args: Any,
        rewind: Callable[[], None],
        layers: Mapping[nn.Module, str],
        observer: Observer,
    ) -> Evaluation:
        def begin(all_places: bool) -> tuple[PairedEvaluation, LayerContributions, Any, Tensor]:
            """The reference's run, with what it gives and the numbers of it that are explained."""
            engine = PairedEvaluation(self.model, self.rulebook, observer.names, all_places)
            seen = LayerContributions(leaves[0].shape[0])
            engine.input_dtype = leaves[0].dtype if leaves[0].is_floating_point() else None
            with engine.reference_pass(), listening(layers, seen), observer.reference_run(engine, refs):
                starts = tuple(ref.detach().requires_grad_() for ref in refs)
                result = self.model(*(t.clone() for t in starts), *copied(baseline_args))
                return engine, seen, result, select(logits_of(result), target).detach()

        engine, seen, result, reference = begin(all_places=True)
        if engine.took_all_places and not self._same_at_all_places(
            leaves, refs, args, baseline_args, rewind, observer.names
        ):
            rewind()
            engine, seen, result, reference = begin(all_places=False)
        examples = _examples(reference, leaves[0].shape[0])
        rewind()  # the same random numbers for both runs: under dropout they then differ only by their inputs
        seen.second_run(examples)
        with engine.input_pass(), listening(layers, seen), observer.input_run(engine, len(leaves), examples):
            output = select(logits_of(self.model(*(t.clone() for t in leaves), *copied(args))), target)
        _refuse_unused(engine)
        engine.note_unseen(output, leaves)
        engine.notes.extend(_note_of_several(result))
        multipliers = _gradients(output, leaves, examples)
        flows = tuple(map(_flow, multipliers, leaves, refs))
        engine.notes.extend(
            self._note_of_coupling(flows, output, reference, leaves, target, args, rewind, bool(engine.decided))
        )
        contributions = {path: calls for path, calls in seen.contributions.items() if path not in seen.mixed}
        return Evaluation(
            multipliers,
            flows,
            output.detach(),
            reference,
            tuple(engine.notes),
            contributions,
            seen.mixed,
            tuple(engine.decided),
        )

    def _same_at_all_places(
        self,
        leaves: Tensors,
        refs: Tensors,
        args: Any,
        baseline_args: Any,
        rewind: Callable[[], None],
        names: Mapping[nn.Module, str] | None,
    ) -> bool:
        """Whether the model computes the same when it takes all places of a mask and weighs them by it.

        So it does if, as in a mixture of experts, each place is written back on its own; not if it takes a mean of
        those that it finds.
        """
        engine = PairedEvaluation(self.model, self.rulebook, names)
        for run, tensors, extras in ((engine.reference_pass, refs, baseline_args), (engine.input_pass, leaves, args)):
            rewind()
            with torch.no_grad():
                plain = logits_of(self.model(*(t.clone() for t in tensors), *copied(extras)))
            rewind()
            with run():
                starts = tuple(t.detach().requires_grad_() for t in tensors)
                found = logits_of(self.model(*(t.clone() for t in starts), *copied(extras))).detach()
            rounding = 1e3 * torch.finfo(plain.dtype).eps * (1 + float(plain.abs().max()))
            if found.shape != plain.shape or bool(((found - plain).abs() > rounding).any()):
                return False
        return True

    def _note_of_coupling(
        self,
        flows: Tensors,
        output: Tensor,
        reference: Tensor,
        leaves: Tensors,
        target: Target,
        args: Any,
        rewind: Callable[[], None],
        decided: bool,
    ) -> Iterator[RuleNote]:
        """A note where examples reach one another's outputs: then each has a delta, and only their sum is none."""
        if output.shape[:1] != leaves[0].shape[:1] or output.shape[0] < 2:
            return
        signed = _totals(flows, output) - (_rows(output) - _rows(reference))
        deltas = signed.abs()
        sizes = _totals(tuple(flow.abs() for flow in flows), output)
        if not bool((deltas > _ROUNDING * sizes).any()):
            return

        def run(xs: Tensors) -> Tensor:
            rewind()
            return select(logits_of(self.model(*xs, *copied(args))), target)

        # A choice between rows has no gradient; there that the deltas cancel in their sum is the proof.
        cancel = decided and bool(signed.sum().abs() <= _ROUNDING * deltas.max())
        if cancel or reach_one_another(run, leaves):
            yield RuleNote("", "", "?", "exact", "coupled examples", float(deltas.max()))

    def _doubled(
        self, leaves: Tensors, refs: Tensors, target: Target, args: Any, rewind: Callable[[], None], observer: Observer
    ) -> Evaluation:
        from tracer.exact.doubled import DoubledEvaluation  # loads captum, which no exact attribution needs

        engine = DoubledEvaluation(self.model, self.rulebook, observer.names)
        rows = 2 * leaves[0].shape[0]
        pairs = list(zip(leaves, refs, strict=True))
        both = tuple(torch.cat([x.detach(), ref.detach()]).requires_grad_() for x, ref in pairs)
        repeated = tuple(torch.cat([a, a]) if isinstance(a, Tensor) and a.dim() else a for a in args)

        def run(tensors: Tensors) -> list[Tensor]:
            halves = logits_of(self.model(*(t.clone() for t in tensors), *copied(repeated))).chunk(2)
            return [select(half, target) for half in halves]

        if engine.needs_exchange:
            with engine.reference_pass():
                run(tuple(torch.cat([ref.detach(), x.detach()]).requires_grad_() for x, ref in pairs))
            rewind()
        with engine.doubled_pass(), observer.input_run(engine, len(leaves), leaves[0].shape[0]):
            output, reference = run(both)
        _refuse_unused(engine)
        gradients = _gradients(torch.stack([output, reference]), both, rows)
        multipliers = tuple(g.chunk(2)[0] for g in gradients)
        flows = tuple(map(_flow, multipliers, leaves, refs))
        return Evaluation(multipliers, flows, output.detach(), reference.detach(), tuple(engine.notes), {})


def _warn_of_training_mode(model: nn.Module) -> None:
    kinds = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)
    active = sorted({type(m).__name__ for m in modules_of(model) if m.training and isinstance(m, kinds)})
    if active:
        warnings.warn(
            f"the model is in training mode ({', '.join(active)} active); "
            "attributions explain that mode. Call model.eval() first",
            stacklevel=5,
        )


def _ordinary(value: Any) -> Any:
    """`value`, copied if it is a tensor made in inference mode, which autograd cannot save."""
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value


def _flow(m: Tensor, x: Tensor, ref: Tensor) -> Tensor:
    """m·Δx, where infinities of a mask that is attributed to count as the rules count them."""
    x = x.detach()
    flow = m * (x - ref)
    if bool(torch.isfinite(flow.sum())):
        return flow
    return torch.where(m == 0, 0.0, torch.where(torch.isinf(x) | torch.isinf(ref), m * (finite(x) - finite(ref)), flow))


def formatted(inputs: Tensor | Tensors, baselines: Baselines) -> tuple[Tensors, Tensors]:
    """Inputs and baselines as tuples of tensors of one shape each."""
    xs = check_inputs(inputs, baselines)
    for x in xs:
        if not x.is_floating_point():
            raise InputError(
                f"an input has dtype {dtype_name(x.dtype)}, which has no differences to share "
                "out; attribute to the embedding's output (inputs_embeds) instead of token ids"
            )
    given = (0.0,) * len(xs) if baselines is None else as_tuple(baselines)
    if len(given) != len(xs):
        raise InputError(f"{len(xs)} inputs but {len(given)} baselines")
    refs = [
        ref.detach().expand_as(x) if isinstance(ref, Tensor) else torch.full_like(x, ref)
        for x, ref in zip(xs, given, strict=True)
    ]
    return tuple(x.detach() for x in xs), tuple(refs)


def _refuse_unused(engine: PairedEvaluation) -> None:
    """`InputError` for a pattern that matches no call: probably a typo."""
    if engine.unused:
        patterns = ", ".join(sorted(repr(override.pattern) for override in engine.unused))
        raise InputError(
            f"no call that needs a rule matches {patterns}: patterns are held against a call's path (as in "
            "'encoder.layer.0.attention.self/softmax'), its module's path and type, and the op's name"
        )


def _gradients(output: Tensor, inputs: Tensors, examples: int) -> Tensors:
    if output.numel() > examples:
        raise InputError(
            f"the output has {output.numel() // examples} numbers an example; name one with target (an index for each "
            "axis after the first)"
        )
    if not output.requires_grad:
        return tuple(torch.zeros_like(x) for x in inputs)
    found = torch.autograd.grad(output.sum(), inputs, allow_unused=True)
    return tuple(torch.zeros_like(x) if g is None else g for g, x in zip(found, inputs, strict=True))


def _examples(output: Tensor, rows: int) -> int:
    """How many examples `rows` rows of the inputs are to the model: as many, or one where its output is one number."""
    results = output.shape[0] if output.dim() else 1
    if results == rows:
        return rows
    if output.numel() == 1:
        return 1
    raise InputError(
        f"the output has {results} row{'s' if results != 1 else ''} for {rows} row{'s' if rows != 1 else ''} of the "
        "input, so these are not examples: give the input as one example, x[None], to a model that takes it as such"
    )


def _note_of_several(result: Any) -> Iterator[RuleNote]:
    """A note on which tensor is explained, where the model gives several and none of them is called logits."""
    if isinstance(result, Tensor):
        return
    named = "logits" in result if isinstance(result, Mapping) else hasattr(result, "logits")
    if not named and len(tensors_in(result)) > 1:
        yield RuleNote("", f"{type(result).__name__}, its first tensor", "?", "exact", "non-tensor output", math.nan)


def _totals(attributions: Tensors, output: Tensor) -> Tensor:
    """Sum of the attributions of each example, float64 (E,); of all rows where the output has a single one."""
    totals = torch.stack([_rows(a) for a in attributions]).sum(0)
    return totals.sum(0, keepdim=True) if output.numel() == 1 else totals


def _rows(tensor: Tensor) -> Tensor:
    """Sum of each example, float64 (E,)."""
    return tensor.detach().double().reshape(tensor.shape[0] if tensor.dim() else 1, -1).sum(1)
