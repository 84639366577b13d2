"""What a recording asks the model once it is over: does an example depend on its company, the reference on its extras?

Each runs the model again, unobserved, and leaves it as it was.
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
    """The last example attributed alone, by captum, against what it got in its batch; None where that fails.

    Not the first: captum's max-pool rule hands the first example's gradient to all others. `call` holds captum's first
    four arguments, `attributions` what it gave for them. `amount` is the largest difference over the largest
    attribution of that example.
    """
    from captum.attr import DeepLift as CaptumDeepLift

    examples = attributions[0].shape[0]
    try:
        with no_warnings.on():
            found = CaptumDeepLift(model).attribute(*_alone(call, examples))
    except Exception:
        # A model may be bound to the size of its batch; a probe must not end a recording that succeeded.
        return None
    pairs = list(zip(found if isinstance(found, tuple) else (found,), attributions, strict=True))
    apart = max(float((one - many[-1:]).detach().abs().max()) for one, many in pairs if one.numel())
    size = max(float(many[-1:].abs().max()) for _one, many in pairs if many.numel())
    detail = f"example {examples - 1} alone against in a batch of {examples}"
    return Note("batch coupled", detail=detail, amount=apart / size if size else float(apart > 0))


def extras_note(model: nn.Module, call: tuple[Any, Any, Any, Any], own: Any) -> Note:
    """How far f(x') under the input's extra arguments lies from f(x') under its `own`: Σ |difference| over the
    examples."""
    inputs, baselines, target, shared = call
    _inputs, references = formatted(inputs, baselines)
    with torch.no_grad(), restoring_random_numbers(model) as again:
        outputs = []
        for extras in (shared, own):
            again()
            further = () if extras is None else extras if isinstance(extras, tuple) else (extras,)
            outputs.append(select(logits_of(model(*references, *further)), target))
    amount = float((outputs[0] - outputs[1]).double().abs().sum())
    return Note("shared extras", detail="the reference ran under the input's extra arguments", amount=amount)


def _alone(call: tuple[Any, Any, Any, Any], examples: int) -> tuple[Any, Any, Any, Any]:
    """The call for the last example; what is the same for all examples stays."""
    inputs, baselines, target, extras = call
    if isinstance(target, list) and len(target) == examples:
        target = target[-1:]
    return _last(inputs, examples), _last(baselines, examples), _last(target, examples), _last(extras, examples)


def _last(argument: Any, examples: int) -> Any:
    """Of tensors with a row an example the last row."""
    if isinstance(argument, tuple):
        return tuple(_last(item, examples) for item in argument)
    held = isinstance(argument, Tensor) and argument.dim() > 0 and argument.shape[0] == examples
    return argument[-1:] if held else argument
