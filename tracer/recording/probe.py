"""Asks the model after a recording: does an example depend on the rest of its batch, the reference on its extras, the
output on whether gradients are on; does the model take the batch of twice the rows that captum makes?

Each function runs the model again, unobserved, and leaves it as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tracer.errors import TracerError
from tracer.exact.deeplift import formatted
from tracer.model.output import logits_of, select
from tracer.model.process import no_warnings
from tracer.model.restore import restoring_buffers, restoring_random_numbers
from tracer.model.tensors import as_tuple, copied
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
    pairs = list(zip(as_tuple(found), attributions, strict=True))
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
            outputs.append(select(logits_of(model(*references, *as_tuple(extras))), target))
    amount = float((outputs[0] - outputs[1]).double().abs().sum())
    return Note("shared extras", detail="the reference ran under the input's extra arguments", amount=amount)


def apart_without_grad(model: nn.Module, arguments: Mapping[str, Any]) -> float:
    """Σ |f without gradients − f with them| over the numbers explained, of the inputs and of the references.

    `arguments` are those of captum's `attribute`, by name.
    """
    inputs, references = formatted(arguments["inputs"], arguments["baselines"])
    total = 0.0
    with _running_again(model) as rewind:
        for tensors in (inputs, references):
            found = []
            for graded in (True, False):
                rewind()
                given = [tensor.clone().requires_grad_(graded) for tensor in tensors]
                with torch.set_grad_enabled(graded):
                    output = model(*(tensor.clone() for tensor in given), *_extras(arguments))
                    found.append(select(logits_of(output), arguments["target"]).detach().double())
            total += float((found[0] - found[1]).abs().sum())
    return total


def doubled_note(model: nn.Module, arguments: Mapping[str, Any], error: Exception) -> Note | None:
    """A note that the model runs on the inputs, and not on captum's batch of inputs and references; None otherwise.

    For an `attribute` that ended with `error`; `arguments` are its, by name. `amount` is 1 where it would run if the
    inputs were one example, x[None], 2 where the rows are not examples and it takes no batch, otherwise 0.
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return None
    from captum._utils.common import ExpansionTypes, _expand_additional_forward_args

    try:
        inputs, references = formatted(arguments["inputs"], arguments["baselines"])
    except TracerError:
        return None
    extras = _extras(arguments)
    twice: Any = _expand_additional_forward_args(extras, 2, ExpansionTypes.repeat) if extras else ()
    joined = [torch.cat(pair) for pair in zip(inputs, references, strict=True)]
    with _running_again(model) as rewind:

        def ends(tensors: list[Tensor], extras: tuple[Any, ...]) -> Tensor | Exception:
            rewind()
            try:
                return logits_of(model(*(tensor.clone() for tensor in tensors), *copied(extras)))
            except Exception as raised:
                return raised

        alone, doubled = ends(list(inputs), extras), ends(joined, twice)
        if isinstance(alone, Exception):
            return None
        rows = joined[0].shape[0]
        if isinstance(doubled, Exception):
            detail = f"on {rows} rows it ends with {type(doubled).__name__}"
        elif not alone.dim() or doubled.shape[0] != 2 * alone.shape[0]:
            shapes = tuple(alone.shape), tuple(doubled.shape)
            detail = f"on {rows} rows its output has shape {shapes[1]}, on {rows // 2} it has {shapes[0]}"
        else:
            return None
        has_rows = alone.dim() > 0 and alone.shape[0] == rows // 2
        way = 0 if has_rows or alone.numel() == 1 else 2
        if inputs[0].dim() == 1 or not has_rows:  # the rows are not examples
            one = ends([torch.stack(pair) for pair in zip(inputs, references, strict=True)], twice)
            way = 1 if isinstance(one, Tensor) and one.dim() > 0 and one.shape[0] == 2 else way
    return Note("doubled batch", detail=detail, amount=float(way))


def examples_of(arguments: Mapping[str, Any]) -> int:
    """How many examples captum's `attribute` was given in these arguments."""
    inputs = arguments["inputs"]
    first = inputs[0] if isinstance(inputs, tuple) and inputs else inputs
    return int(first.shape[0]) if isinstance(first, Tensor) and first.dim() else 1


def _extras(arguments: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments that follow the inputs; those that the model may write to are copies."""
    return copied(as_tuple(arguments["additional_forward_args"]))  # type: ignore[no-any-return]


@contextmanager
def _running_again(model: nn.Module) -> Iterator[Callable[[], None]]:
    """To run the model again, unseen; gives a function that resets the random numbers, as leaving does."""
    with no_warnings.on(), restoring_buffers(model), restoring_random_numbers(model) as rewind:
        yield rewind


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
