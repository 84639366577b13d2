"""The sanity panel of the notebook of captum issue #519: is the model right, and is a method to be trusted here?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from captum.attr import IntegratedGradients

from tracer.model.eager_attention import eager_attention
from tracer.model.output import logits_of
from tracer.model.process import quiet
from tracer.records import HookReport, Panel, Progress, Ranking
from tracer.subject.tensors import TensorSubject
from tracer.subject.text import Subject
from tracer.text import relative

ATTENTION_LAYERS = 4
TOLERATED_DELTA = 0.05  # of |f(x) − f(x')|
_ROWS_AT_ONCE = 10  # of Integrated Gradients' steps: bounds memory, and each batch reports progress


def sanity_panel(
    subject: Subject,
    attributions: Any,
    delta: float,
    method_name: str,
    hooks: HookReport | None,
    *,
    steps: int = 100,
    progress: Progress | None = None,
    like: Panel | None = None,
) -> Panel:
    """Logits of text and reference, and the tokens ranked by attention, by Integrated Gradients and by the method.

    `attributions` (1, T, H) is a tensor or array, alone or as a tuple's first entry. A token's score is the sum over
    the hidden axis; its attention is the mean over the last four layers, all heads and all queries. `progress` is
    told ("Integrated Gradients", steps done, steps in all).
    """
    shared = like or _shared_panel(subject, steps, progress)
    change = shared.output[subject.row] - shared.output_reference[subject.row]
    first = attributions[0] if isinstance(attributions, tuple) else attributions
    note = _doubt(method_name, "does not add up", delta, change)
    own = Ranking(method_name, _token_scores(first), float(delta), relative(delta, change), note)
    others = shared.rankings if like is None else shared.rankings[:-1]
    return Panel(shared.output, shared.output_reference, subject.labels, (*others, own), hooks)


def _shared_panel(subject: Subject, steps: int, progress: Progress | None) -> Panel:
    """What does not depend on the method: outputs, attention, Integrated Gradients."""
    output, output_reference = _logits(subject, subject.inputs), _logits(subject, subject.baselines)
    change = output[subject.row] - output_reference[subject.row]
    gradients = _integrated_gradients(
        subject.model,
        (subject.inputs,),
        (subject.baselines,),
        subject.additional_forward_args,
        subject.target,
        change,
        steps,
        progress,
    )
    rankings = [gradients]
    attention = attention_by_token(subject)
    if attention is not None:
        rankings.insert(0, Ranking("attention", attention))
    return Panel(output, output_reference, subject.labels, tuple(rankings))


def tensor_panel(
    subject: TensorSubject,
    attributions: tuple[Any, ...],
    delta: float,
    method_name: str,
    hooks: HookReport | None,
    *,
    steps: int = 100,
    progress: Progress | None = None,
) -> Panel:
    """The panel for tensors of any model: the first example's outputs and, where it has tokens or features, rankings.

    `delta` is the first example's. Integrated Gradients runs on that example alone; where the model does not take it
    alone, or not many steps at once, the ranking is empty and its note says why.
    """
    output, reference = subject.first_outputs
    if not subject.ranked:
        return Panel(output, reference, subject.labels, (), hooks)
    change = output[subject.row] - reference[subject.row]
    inputs, baselines, extras, target = subject.first_example()
    try:
        gradients = _integrated_gradients(subject.model, inputs, baselines, extras, target, change, steps, progress)
    except Exception as error:  # whatever the model raises; the trace of the method itself is whole
        why = f"Integrated Gradients does not run on this model: {type(error).__name__}: {' '.join(str(error).split())}"
        gradients = Ranking(f"Integrated Gradients, {steps} steps", (), note=why[:300])
    note = _doubt(method_name, "does not add up", delta, change)
    own = Ranking(method_name, _token_scores(attributions[0]), float(delta), relative(delta, change), note)
    return Panel(output, reference, subject.labels, (gradients, own), hooks)


def attention_by_token(subject: Subject) -> tuple[float, ...] | None:
    """Attention paid to each token of the text, or None where the model gives no attention matrices.

    The mean over the last four layers, heads and queries, as `summarize_attention` in the notebook has it.
    """
    with eager_attention(subject.model), quiet(), torch.no_grad():
        try:
            output = subject.model.run(subject.inputs, *subject.additional_forward_args, output_attentions=True)
        except (TypeError, ValueError):  # the model has no such option
            return None
    layers = getattr(output, "attentions", None)
    tokens = len(subject.tokens)
    if not layers or any(layer is None or layer.shape[-2:] != (tokens, tokens) for layer in layers):
        return None
    means = [layer[0].double().mean(dim=(0, 1)) for layer in layers[-ATTENTION_LAYERS:]]
    return tuple(torch.stack(means).mean(dim=0).tolist())


def _integrated_gradients(
    model: Callable[..., Any],
    inputs: tuple[torch.Tensor, ...],
    baselines: tuple[torch.Tensor, ...],
    extras: tuple[Any, ...],
    target: Any,
    change: float,
    steps: int,
    progress: Progress | None,
) -> Ranking:
    """captum's Integrated Gradients (Gauss–Legendre) of one example; the note says if it has not converged itself."""
    name = "Integrated Gradients"
    done = 0

    def forward(*args: Any) -> torch.Tensor:
        nonlocal done
        output = logits_of(model(*args))
        if done < steps:  # past that come the two ends, for the delta
            done = min(done + args[0].shape[0], steps)
            if progress is not None:
                progress(name, done, steps)
        return output

    attributions, delta = IntegratedGradients(forward).attribute(
        inputs,
        baselines,
        target=target,
        additional_forward_args=extras or None,
        n_steps=steps,
        internal_batch_size=_ROWS_AT_ONCE,
        return_convergence_delta=True,
    )
    own = float(delta.sum())
    note = _doubt(name, "has not converged", own, change)
    return Ranking(f"{name}, {steps} steps", _token_scores(attributions[0]), own, relative(own, change), note)


@torch.no_grad()
def _logits(subject: Subject, embeddings: torch.Tensor) -> tuple[float, ...]:
    """The logits that the panel shows."""
    logits = subject.model(embeddings, *subject.additional_forward_args)[0].double()
    return tuple((logits[list(subject.shown)] if subject.shown else logits).tolist())


def _token_scores(attributions: Any) -> tuple[float, ...]:
    """Σ over all axes past the second of (E, T, ...), float64: one score a token of the first example."""
    if isinstance(attributions, torch.Tensor):
        attributions = attributions.detach().double().cpu().numpy()
    first = np.asarray(attributions, dtype=np.float64)[0]
    scores: list[float] = first.reshape(first.shape[0], -1).sum(axis=-1).tolist()
    return tuple(scores)


def _doubt(name: str, what: str, delta: float, change: float) -> str:
    """A warning in words where |delta| is more than 5 % of the output's change, else ""; NaN is not a small delta."""
    if relative(delta, change) <= TOLERATED_DELTA:
        return ""
    return (
        f"{name} {what}: its delta is {delta:.4g} where the output changes by {change:.4g}; do not read it as the truth"
    )
