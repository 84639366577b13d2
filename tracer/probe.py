"""What a recording asks the model once it is over: does an example depend on its company, the reference on its extras?

Each runs the model again, unobserved, and leaves it as it was.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tracer.deeplift import formatted
from tracer.logits import logits_of
from tracer.records import Note
from tracer.target import select


def batch_note(model: nn.Module, call: tuple[Any, Any, Any, Any], attributions: tuple[Tensor, ...]) -> Note | None:
    """The last example attributed alone, by captum, against what it got in its batch; None where that fails.

    Not the first: captum's max-pool rule hands the first example's gradient to all others. `call` holds captum's first
    four arguments, `attributions` what it gave for them. `amount` is the largest difference over the largest
    attribution of that example.
    """
    from captum.attr import DeepLift as CaptumDeepLift

    examples = attributions[0].shape[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
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
    with torch.no_grad(), same_random_numbers() as again:
        outputs = []
        for extras in (shared, own):
            again()
            further = () if extras is None else extras if isinstance(extras, tuple) else (extras,)
            outputs.append(select(logits_of(model(*references, *further)), target))
    amount = float((outputs[0] - outputs[1]).double().abs().sum())
    return Note("shared extras", detail="the reference ran under the input's extra arguments", amount=amount)


@contextmanager
def same_random_numbers() -> Iterator[Any]:
    """A function that winds the random numbers back to the start of the context, as leaving it does."""
    before = torch.random.get_rng_state()

    def again() -> None:
        torch.random.set_rng_state(before)

    try:
        yield again
    finally:
        again()


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Put back the running statistics that batch norm in training moves."""
    kinds = nn.modules.batchnorm._BatchNorm
    moving = [m for m in model.modules() if isinstance(m, kinds) and m.training]
    buffers = [(buffer, buffer.clone()) for module in moving for buffer in module.buffers(recurse=False)]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


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
