"""Inputs of a model from a safetensors file.

Tensors: `input`, or `input.0`, `input.1`, ...; optional `baseline` or `baseline.0`, ... (zeros where missing);
optional `extra` or `extra.0`, ... for the model's further arguments. Metadata: optional `tokens`, a JSON list with a
list of texts an example, and `text`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from tracer.errors import InputError
from tracer.text import dtype_name

_NAME = re.compile(r"(input|baseline|extra)(?:\.(0|[1-9][0-9]*))?")


@dataclass(frozen=True, slots=True, eq=False)
class GivenTensors:
    """What a file holds: floating-point inputs (E, ...), baselines of their shapes, further arguments as they are.

    `tokens` has E rows, each as long as the first input's second axis, or none at all.
    """

    inputs: tuple[torch.Tensor, ...]
    baselines: tuple[torch.Tensor, ...]
    extras: tuple[torch.Tensor, ...]
    tokens: tuple[tuple[str, ...], ...]
    text: str
    zero_baseline: bool


def read_inputs(path: Path) -> GivenTensors:
    """The tensors of a file; `InputError` in one line where they are not what a model can be given."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"{path} is not a file: give a safetensors file with a tensor named input")
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a safetensors file that can be read: {error}") from error
    found = _sorted_out(tensors, path)
    inputs = tuple(_numbered(found["input"], "input", path))
    extras = tuple(_numbered(found["extra"], "extra", path))
    if not inputs:
        raise InputError(f"{path} has no tensor named input: name the model's input input, or input.0, input.1, ...")
    _check_inputs(inputs)
    baselines = _baselines(found["baseline"], inputs)
    tokens = _tokens(metadata.get("tokens"), inputs[0])
    return GivenTensors(inputs, baselines, extras, tokens, metadata.get("text", ""), not found["baseline"])


def _sorted_out(tensors: dict[str, torch.Tensor], path: Path) -> dict[str, dict[int, torch.Tensor]]:
    """The tensors by kind and number; a name without a number is number 0."""
    found: dict[str, dict[int, torch.Tensor]] = {"input": {}, "baseline": {}, "extra": {}}
    for name, tensor in sorted(tensors.items()):
        match = _NAME.fullmatch(name)
        if match is None:
            raise InputError(
                f"{path} has a tensor {name!r}: expected input, baseline and extra, alone or numbered as in input.0"
            )
        kind, number = match[1], int(match[2] or 0)
        if number in found[kind]:
            raise InputError(f"{path} has both {kind} and {kind}.0: leave one of them out")
        found[kind][number] = tensor
    return found


def _numbered(tensors: dict[int, torch.Tensor], kind: str, path: Path) -> list[torch.Tensor]:
    for number in range(len(tensors)):
        if number not in tensors:
            raise InputError(
                f"{path} has {kind}.{max(tensors)} but no {kind}.{number}: number them from 0 without gaps"
            )
    return [tensors[number] for number in range(len(tensors))]


def _check_inputs(inputs: tuple[torch.Tensor, ...]) -> None:
    for number, tensor in enumerate(inputs):
        name = f"input.{number}" if len(inputs) > 1 else "input"
        if not tensor.is_floating_point():
            raise InputError(
                f"{name} has dtype {dtype_name(tensor.dtype)}; DeepLIFT needs floating point: give the output of the "
                "embedding layer instead of token ids, and integer arguments as extra.0, extra.1, ..."
            )
        if tensor.dim() == 0 or tensor.numel() == 0:
            raise InputError(f"{name} has shape {tuple(tensor.shape)}: expected (examples, ...), none of them 0")
        if tensor.shape[0] != inputs[0].shape[0]:
            raise InputError(f"{name} has {tensor.shape[0]} examples, input.0 has {inputs[0].shape[0]}: give as many")


def _baselines(given: dict[int, torch.Tensor], inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    surplus = [number for number in given if number >= len(inputs)]
    if surplus:
        raise InputError(f"there is a baseline.{surplus[0]} but no input.{surplus[0]}: give one baseline an input")
    baselines = []
    for number, tensor in enumerate(inputs):
        baseline = given.get(number, torch.zeros_like(tensor))
        one = (1, *tensor.shape[1:])
        if baseline.shape not in (tensor.shape, torch.Size(one)):
            raise InputError(
                f"baseline.{number} has shape {tuple(baseline.shape)}, input.{number} {tuple(tensor.shape)}: "
                "give the same shape, or one example for all"
            )
        if not baseline.is_floating_point():
            raise InputError(
                f"baseline.{number} has dtype {dtype_name(baseline.dtype)}: give floating point, as the input is"
            )
        baselines.append(baseline.to(tensor.dtype).expand_as(tensor).contiguous())
    return tuple(baselines)


def _tokens(words: str | None, first: torch.Tensor) -> tuple[tuple[str, ...], ...]:
    if words is None:
        return ()
    try:
        rows = json.loads(words)
    except ValueError as error:
        raise InputError(
            f"the metadata's tokens are not JSON ({error}): give a list with a list of texts an example"
        ) from error
    if not isinstance(rows, list) or not all(
        isinstance(row, list) and all(isinstance(token, str) for token in row) for row in rows
    ):
        raise InputError(
            "the metadata's tokens are not lists of texts: give a JSON list with a list of texts an example"
        )
    if len(rows) != first.shape[0]:
        raise InputError(f"the metadata has tokens for {len(rows)} examples, the input has {first.shape[0]}")
    length = first.shape[1] if first.dim() > 1 else 0
    for number, row in enumerate(rows):
        if len(row) != length:
            raise InputError(
                f"example {number} has {len(row)} tokens in the metadata, the input has shape {tuple(first.shape)}: "
                "give one token for each step of its second axis"
            )
    return tuple(tuple(row) for row in rows)
