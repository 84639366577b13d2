"""Asks the model after a recording: does an example depend on the rest of its batch, the reference on its extras?

Each function runs the model again, unobserved, and leaves it as it was.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tracer.exact.deeplift import formatted
from tracer.model.output import logits_of, select
from tracer.model.process import no_warnings
from tracer.model.restore import restoring_random_numbers
from tracer.records import Note


def batch_note(model: nn.Module, call: tuple[Any, Any, Any, Any], attributions: tuple[Tensor, ...]) -> Note | None:
    """Compares the last example attributed alone, by captum, with what it got in its batch; None if that fails.

    Not the first example: captum's max-pool rule gives its gradient to all others. `call` holds captum's first four
    arguments, `attributions` their result. `amount` is the largest difference over the largest attribution of that
    example.
    """
    from captum.attr import DeepLift as CaptumDeepLift

    examples = attributions[0].shape[0]
    try:
        with no_warnings.on():
            found = CaptumDeepLift(model).attribute(*_alone(call, examples))
    except Exception:
        # Some models need their batch size; and a probe must not end a recording that succeeded.
        return None
    pairs = list(zip(found if isinstance(found, tuple) else (found,), attributions, strict=True))
    apart = max(float((one - many[-1:]).detach().abs().max()) for one, many in pairs if one.numel())
    size = max(float(many[-1:].abs().max()) for _one, many in pairs if many.numel())
    detail = f"example {examples - 1} alone against in a batch of {examples}"
    return Note("batch coupled", detail=detail, amount=apart / size if size else float(apart > 0))


def extras_note(model: nn.Module, call: tuple[Any, Any, Any, Any], own: Any) -> Note:
    """How far f(x') with the input's extra arguments is from f(x') with its `own`: Σ |difference| over the examples."""
    inputs, baselines, target, shared = call
    _inputs, references = formatted(inputs, baselines)
    with torch.no_grad(), restoring_random_numbers(model) as rewind:
        outputs = []
        for extras in (shared, own):
            rewind()
            further = () if extras is None else extras if isinstance(extras, tuple) else (extras,)
            outputs.append(select(logits_of(model(*references, *further)), target))
    amount = float((outputs[0] - outputs[1]).double().abs().sum())
    return Note("shared extras", detail="the reference ran under the input's extra arguments", amount=amount)


def _alone(call: tuple[Any, Any, Any, Any], examples: int) -> tuple[Any, Any, Any, Any]:
    """The call for the last example alone; arguments that all examples share stay as they are."""
    inputs, baselines, target, extras = call
    if isinstance(target, list) and len(target) == examples:
        target = target[-1:]
    return _last(inputs, examples), _last(baselines, examples), _last(target, examples), _last(extras, examples)


def _last(argument: Any, examples: int) -> Any:
    """The last row of tensors that have a row for each example; other arguments as they are."""
    if isinstance(argument, tuple):
        return tuple(_last(item, examples) for item in argument)
    held = isinstance(argument, Tensor) and argument.dim() > 0 and argument.shape[0] == examples
    return argument[-1:] if held else argument
