"""Any PyTorch model with tensors to attribute to: what was given, checked in one run of the model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tracer.errors import InputError, ModelError
from tracer.model.hooks import module_paths
from tracer.model.output import logits_of
from tracer.model.tensors import device_of
from tracer.subject.inputs_file import GivenTensors
from tracer.subject.outputs import shown_outputs
from tracer.text import dtype_name

_FEATURES = 1000
"""Up to so many features of an input (E, features) are ranked; more are for the terminal UI's tensors."""


@dataclass(frozen=True, slots=True, eq=False)
class TensorSubject:
    """A model with inputs and baselines (E, ...): `model(*inputs, *additional_forward_args)` at `target` is explained.

    `target` is as in captum: None for outputs (E,), an index, a tuple of them, or one index an example; `target_name`
    says it in words. `token_rows` has E rows or none. `first_outputs` are the first example's outputs worth showing, of
    the input and of the reference, `labels` their names and `row` the target's place in them. `ranked` says whether the
    first input's second axis, tokens or features, can be ranked.
    """

    model: nn.Module
    inputs: tuple[torch.Tensor, ...]
    baselines: tuple[torch.Tensor, ...]
    additional_forward_args: tuple[torch.Tensor, ...]
    target: Any
    target_name: str
    token_rows: tuple[tuple[str, ...], ...]
    text: str
    reference: str
    model_name: str
    first_outputs: tuple[tuple[float, ...], tuple[float, ...]]
    labels: tuple[str, ...]
    row: int
    ranked: bool
    reference_token_rows: tuple[tuple[str, ...], ...] = ()

    @property
    def names(self) -> dict[nn.Module, str]:
        """The modules as they are now, each with its path."""
        return module_paths(self.model)

    def first_example(self) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...], tuple[torch.Tensor, ...], Any]:
        """Inputs, baselines, further arguments and target of the first example alone."""
        examples = self.inputs[0].shape[0]
        extras = tuple(e[:1] if e.dim() and e.shape[0] == examples else e for e in self.additional_forward_args)
        target = self.target[0] if isinstance(self.target, list) else self.target
        return tuple(x[:1] for x in self.inputs), tuple(b[:1] for b in self.baselines), extras, target


def make_tensor_subject(model: nn.Module, given: GivenTensors, name: str, target: str | None = None) -> TensorSubject:
    """The subject for tensors; without a target each example's largest output, or the only one, is explained.

    `target` is a number, or for outputs with more axes numbers with commas: "3,0".
    """
    device = device_of(model)
    inputs, baselines, extras = (
        tuple(tensor.to(device) for tensor in tensors) for tensors in (given.inputs, given.baselines, given.extras)
    )
    output = _run(model, (*inputs, *extras), inputs[0].shape[0])
    reference_output = _run(model, (*baselines, *extras), inputs[0].shape[0])
    chosen, words = _target(output, target)
    first = output[0].double(), reference_output[0].double()
    if output.dim() == 1:
        shown: tuple[Any, ...] = ((),)
    elif output.dim() == 2:
        shown = shown_outputs(first[0].tolist(), chosen[0] if isinstance(chosen, list) else chosen)
    else:
        shown = (chosen,)
    at = chosen[0] if isinstance(chosen, list) else () if chosen is None else chosen
    features = inputs[0].dim() == 2 and inputs[0].shape[1] <= _FEATURES
    return TensorSubject(
        model=model,
        inputs=inputs,
        baselines=baselines,
        additional_forward_args=extras,
        target=chosen,
        target_name=words,
        token_rows=given.tokens,
        text=given.text,
        reference="zeros" if given.zero_baseline else "baselines of the file",
        model_name=name,
        first_outputs=(tuple(float(first[0][i]) for i in shown), tuple(float(first[1][i]) for i in shown)),
        labels=tuple("output" if i == () else _words(i) for i in shown),
        row=shown.index(at),
        ranked=bool(given.tokens) or features,
    )


@torch.no_grad()
def _run(model: nn.Module, args: tuple[torch.Tensor, ...], examples: int) -> torch.Tensor:
    """The model's output, or its logits, checked: floating point, one row an example."""
    try:
        raw = model(*args)
    except Exception as error:  # whatever the model raises for arguments that it does not take
        said = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{type(model).__name__} does not run on the tensors of the file: {type(error).__name__}: {said}"
        ) from error
    output = logits_of(raw)
    if output.dim() == 0 or output.shape[0] != examples:
        raise ModelError(
            f"{type(model).__name__} gives a tensor of shape {tuple(output.shape)} for {examples} examples: "
            "expected (examples, ...)"
        )
    if not output.is_floating_point():
        raise ModelError(
            f"{type(model).__name__} gives {dtype_name(output.dtype)}: expected floating point, such as logits"
        )
    return output


def _target(output: torch.Tensor, target: str | None) -> tuple[Any, str]:
    """(target as captum takes it, the same in words)."""
    axes = tuple(output.shape[1:])
    if target is None:
        if not axes:
            return None, "output"
        if len(axes) > 1:
            raise InputError(
                f"the model gives {axes} numbers an example: name one with --target, {len(axes)} numbers with commas"
            )
        largest = output.argmax(dim=1).tolist()
        if len(set(largest)) == 1:
            return largest[0], str(largest[0])
        words = ", ".join(map(str, largest[:10])) + (", ..." if len(largest) > 10 else "")
        return largest, f"{words} (each example's largest)"
    if re.fullmatch(r"[+-]?[0-9]+(\s*,\s*[+-]?[0-9]+)*", target.strip()) is None:
        raise InputError(f"target {target!r}: expected a number, or numbers with commas for outputs with more axes")
    numbers = tuple(int(part) for part in target.split(","))
    if not axes:
        raise InputError("the model gives one number an example: leave the target out")
    if len(numbers) != len(axes):
        raise InputError(f"target {target!r} has {len(numbers)} numbers, the model gives {axes} an example")
    for number, size in zip(numbers, axes, strict=True):
        if not 0 <= number < size:
            raise InputError(f"target {target!r} is out of range: {number} is not within 0 to {size - 1}")
    return (numbers[0] if len(numbers) == 1 else numbers), _words(numbers)


def _words(index: int | tuple[int, ...]) -> str:
    return str(index) if isinstance(index, int) else ",".join(map(str, index))
