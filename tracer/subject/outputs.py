"""Which of a model's outputs is explained, and which are worth showing: classes by label, tokens by their text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torch import nn

from tracer.errors import InputError
from tracer.subject.encoding import token_text

ALL_SHOWN = 20
"""Up to so many outputs are all shown; of more, as a vocabulary's, the target and the largest."""
_LARGEST = 5


def shown_outputs(values: Sequence[float], target: int) -> tuple[int, ...]:
    """The outputs to show: all of a few, else the target and then the largest others, falling."""
    if len(values) <= ALL_SHOWN:
        return tuple(range(len(values)))
    falling = sorted(range(len(values)), key=lambda index: -values[index])[: _LARGEST + 1]
    return (target, *[index for index in falling if index != target][:_LARGEST])


def class_labels(model: nn.Module, classes: int) -> tuple[str, ...]:
    """The labels in the model's config, "LABEL_0" and so on where it has none."""
    names = getattr(getattr(model, "config", None), "id2label", None) or {}
    return tuple(str(names.get(index, f"LABEL_{index}")) for index in range(classes))


def class_target(target: int | str, labels: tuple[str, ...]) -> int:
    """The class that a number or a label names."""
    known = ", ".join(f"{index} = {label}" for index, label in enumerate(labels[:10]))
    known += ", ..." if len(labels) > 10 else ""
    number = _number(target)
    if number is None:
        if labels.count(str(target)) == 1:
            return labels.index(str(target))
        raise InputError(
            f"no class has the label {str(target)!r}: the model has classes 0 to {len(labels) - 1} ({known})"
        )
    if not 0 <= number < len(labels):
        raise InputError(f"target {number} is out of range: the model has classes 0 to {len(labels) - 1} ({known})")
    return number


def token_target(tokenizer: Any, target: int | str, vocabulary: int) -> int:
    """The token that a number, a vocabulary entry ("Ġgreat") or a text (" great") names.

    A number is always an id: a token made of digits is named by its id.
    """
    number = _number(target)
    if number is not None:
        if not 0 <= number < vocabulary:
            raise InputError(f"target {number} is out of range: the model predicts token ids 0 to {vocabulary - 1}")
        return number
    text = str(target)
    found = tokenizer.get_vocab().get(text)
    if found is None:
        ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        parts = ", ".join(repr(token_text(tokenizer, token)) for token in ids[:8]) or "none"
        if len(ids) != 1:
            raise InputError(
                f"target {text!r} is {len(ids)} tokens of this tokenizer ({parts}): give one token or its id"
            )
        if ids[0] == getattr(tokenizer, "unk_token_id", None):
            raise InputError(f"target {text!r} is not a token of this tokenizer: give one token or its id")
        found = ids[0]
    if found >= vocabulary:
        raise InputError(f"target {text!r} is token {found}, the model predicts token ids 0 to {vocabulary - 1}")
    return int(found)


def _number(target: int | str) -> int | None:
    if isinstance(target, int):
        return target
    return int(target) if re.fullmatch(r"[+-]?[0-9]+", target.strip()) else None
