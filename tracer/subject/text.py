"""A text and its reference, embedded and tokenised for one classifier: all that an attribution needs."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from tracer.errors import InputError, ModelError
from tracer.subject.classifier import EmbeddingClassifier, embedding_module
from tracer.subject.loading import quiet

ReferencePositions = Literal["same", "zero"]
_REFERENCE_TOKENS = ("pad", "mask", "unk")
ZERO_TOKEN = "[zero]"


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A classifier with one text and one reference: `model(inputs, *additional_forward_args)[:, target]` is explained.

    `inputs` and `baselines` are embeddings, float (1, T, H), without gradients; the extras are integer (1, T) and serve
    both. `tokens`, `reference_tokens` and `special`, true for tokens that the tokenizer added, have T entries.
    `reference` says in words what the reference is.
    """

    model: EmbeddingClassifier
    inputs: torch.Tensor
    baselines: torch.Tensor
    additional_forward_args: tuple[torch.Tensor, ...]
    target: int
    tokens: tuple[str, ...]
    reference_tokens: tuple[str, ...]
    special: tuple[bool, ...]
    model_name: str
    labels: tuple[str, ...]
    text: str
    reference: str

    @property
    def names(self) -> dict[nn.Module, str]:
        """The modules as they are now, each with its path in the classifier; the callable itself is ""."""
        return self.model.paths()


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Token ids, token types (None where the tokenizer gives none) and which tokens the tokenizer added."""

    ids: list[int]
    types: list[int] | None
    special: list[bool]


def make_subject(
    model: nn.Module,
    tokenizer: Any,
    text: str,
    *,
    target: int | None = None,
    reference: str = "pad",
    reference_positions: ReferencePositions = "same",
) -> Subject:
    """The subject for one text; the predicted class is the target unless one is given.

    The reference keeps the special tokens and has "pad", "mask" or "unk" tokens, or "zero" vectors, in place of all
    others, or is a text of the same number of tokens. Its position ids are those of the input ("same"), or all the
    first position's ("zero", as in the notebook of captum issue #519).
    """
    encoded = _encode(tokenizer, text, "the text")
    embeddings = embedding_module(model)
    positions = _Positions(embeddings, encoded.ids[:1], _device(model))
    _check_length(len(encoded.ids), _length_limit(model, tokenizer, positions))
    reference_ids = _reference_ids(tokenizer, encoded, reference)
    if reference_positions not in ("same", "zero"):
        raise InputError(f"reference positions {reference_positions!r}: expected 'same' or 'zero'")
    if reference_positions == "zero" and positions.first is None:
        raise InputError(
            "this model adds positions after its embeddings, so the reference cannot have its own: "
            "choose reference positions 'same'"
        )

    device = _device(model)
    ids = torch.tensor([encoded.ids], device=device)
    types = None if encoded.types is None else torch.tensor([encoded.types], device=device)
    position_ids = positions.of(ids)
    reference_position_ids = position_ids
    if reference_positions == "zero" and position_ids is not None and positions.first is not None:
        reference_position_ids = torch.full_like(position_ids, positions.first)
    inputs = _embed(model, embeddings, ids, types, position_ids)
    baselines = _embed(model, embeddings, torch.tensor([reference_ids], device=device), types, reference_position_ids)
    reference_tokens = tuple(tokenizer.convert_ids_to_tokens(reference_ids))
    if reference == "zero":
        words = torch.tensor([not special for special in encoded.special], device=device)
        baselines = baselines.masked_fill(words[None, :, None], 0.0)
        pairs = zip(reference_tokens, encoded.special, strict=True)
        reference_tokens = tuple(token if special else ZERO_TOKEN for token, special in pairs)

    extras = {"attention_mask": torch.ones_like(ids), "token_type_ids": types, "position_ids": position_ids}
    accepted = inspect.signature(model.forward).parameters
    given = {name: value for name, value in extras.items() if value is not None and name in accepted}
    wrapper = EmbeddingClassifier(model, tuple(given), embeddings is not None)
    logits = _first_run(wrapper, inputs, tuple(given.values()))
    labels = _labels(model, logits.shape[1])
    named = reference if reference in (*_REFERENCE_TOKENS, "zero") else f"text {reference!r}"
    return Subject(
        model=wrapper,
        inputs=inputs,
        baselines=baselines,
        additional_forward_args=tuple(given.values()),
        target=int(logits[0].argmax()) if target is None else _checked_target(target, labels),
        tokens=tuple(tokenizer.convert_ids_to_tokens(encoded.ids)),
        reference_tokens=reference_tokens,
        special=tuple(encoded.special),
        model_name=str(getattr(getattr(model, "config", None), "name_or_path", "") or type(model).__name__),
        labels=labels,
        text=text,
        reference=named if positions.first is None else f"{named}, positions {reference_positions}",
    )


class _Positions:
    """Which position ids an embedding module looks up, seen at its `position_embeddings`; `first` is the first one.

    Read off rather than assumed: RoBERTa counts from its padding index + 1, and gives padding tokens that index.
    """

    def __init__(self, embeddings: nn.Module | None, first_ids: Sequence[int], device: torch.device) -> None:
        self._embeddings = embeddings
        self._table = getattr(embeddings, "position_embeddings", None)
        takes = embeddings is not None and "position_ids" in inspect.signature(embeddings.forward).parameters
        if not takes or not isinstance(self._table, nn.Module):
            self._table = None
        seen = self.of(torch.tensor([list(first_ids)], device=device))
        self.first = None if seen is None else int(seen[0, 0])

    @property
    def rows(self) -> int | None:
        """The number of rows of the table, None where there is none."""
        rows = getattr(self._table, "num_embeddings", None)
        return rows if isinstance(rows, int) else None

    @torch.no_grad()
    def of(self, ids: torch.Tensor) -> torch.Tensor | None:
        """The position ids (1, T) of token ids (1, T), or None where the embeddings have no positions."""
        if self._table is None or self._embeddings is None:
            return None
        seen: list[torch.Tensor] = []
        handle = self._table.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
        try:
            self._embeddings(input_ids=ids)
        finally:
            handle.remove()
        return seen[0].expand_as(ids).clone()


def _encode(tokenizer: Any, text: str, what: str) -> _Encoded:
    if not text.strip():
        raise InputError(f"{what} is empty: give at least one word")
    with quiet():
        encoding = tokenizer(text, return_special_tokens_mask=True)
    special = [bool(flag) for flag in encoding["special_tokens_mask"]]
    if all(special):
        raise InputError(f"the tokenizer finds no token in {what} {text!r}: give at least one word")
    return _Encoded(list(encoding["input_ids"]), encoding.get("token_type_ids"), special)


def _reference_ids(tokenizer: Any, encoded: _Encoded, reference: str) -> list[int]:
    """The reference's token ids, one for each of the text's; with "zero" the ids at word positions do not matter."""
    if reference == "zero":
        return encoded.ids
    if reference not in _REFERENCE_TOKENS:
        other = _encode(tokenizer, reference, "the reference text").ids
        if len(other) != len(encoded.ids):
            raise InputError(
                f"the reference text has {len(other)} tokens, the text {len(encoded.ids)} (special tokens included): "
                "give a reference of the same number, or 'pad', 'mask', 'unk' or 'zero'"
            )
        return other
    tokens = {name: getattr(tokenizer, f"{name}_token_id", None) for name in _REFERENCE_TOKENS}
    filler = tokens[reference]
    if filler is None:
        known = [name for name, token in tokens.items() if token is not None]
        raise InputError(
            f"the tokenizer has no {reference} token: choose the reference {' or '.join([*known, 'zero'])}"
        )
    return [token if special else filler for token, special in zip(encoded.ids, encoded.special, strict=True)]


def _length_limit(model: nn.Module, tokenizer: Any, positions: _Positions) -> int | None:
    """The most tokens that model and tokenizer take, special ones included; None where neither names a limit."""
    rows = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if positions.rows is not None and positions.first is not None:
        rows = positions.rows - positions.first
    limits = (rows, getattr(tokenizer, "model_max_length", None))
    return min((limit for limit in limits if isinstance(limit, int) and limit > 0), default=None)


def _check_length(length: int, limit: int | None) -> None:
    if limit is not None and length > limit:
        raise InputError(f"the text has {length} tokens, the model takes {limit}: shorten the text")


@torch.no_grad()
def _embed(
    model: Any,
    embeddings: nn.Module | None,
    ids: torch.Tensor,
    types: torch.Tensor | None,
    position_ids: torch.Tensor | None,
) -> torch.Tensor:
    """Embeddings (1, T, H): the embedding module's output, or the word embeddings where there is no such module."""
    if embeddings is None:
        embedded = model.get_input_embeddings()(ids)
    else:
        takes = inspect.signature(embeddings.forward).parameters
        extras = {"token_type_ids": types, "position_ids": position_ids}
        given = {name: value for name, value in extras.items() if value is not None and name in takes}
        embedded = embeddings(input_ids=ids, **given)
    if not isinstance(embedded, torch.Tensor) or embedded.dim() != 3 or not embedded.is_floating_point():
        raise ModelError(
            f"the embeddings of {type(model).__name__} are no tensor (1, tokens, hidden): give another model"
        )
    return embedded.detach()


@torch.no_grad()
def _first_run(wrapper: EmbeddingClassifier, inputs: torch.Tensor, extras: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The logits (1, classes) of the text, with one clear line where the model does not run on embeddings."""
    try:
        with quiet():  # some models warn once that padding cannot be seen in embeddings; there is none
            return wrapper(inputs, *extras)  # type: ignore[no-any-return]
    except (TypeError, ValueError, NotImplementedError, RuntimeError, IndexError) as error:
        line = str(error).strip().partition("\n")[0]
        raise ModelError(f"{type(wrapper.inner).__name__} does not run on embeddings: {line}") from error


def _device(model: nn.Module) -> torch.device:
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _labels(model: nn.Module, classes: int) -> tuple[str, ...]:
    names = getattr(getattr(model, "config", None), "id2label", None) or {}
    return tuple(str(names.get(index, f"LABEL_{index}")) for index in range(classes))


def _checked_target(target: int, labels: tuple[str, ...]) -> int:
    if not 0 <= target < len(labels):
        classes = ", ".join(f"{index} = {label}" for index, label in enumerate(labels[:10]))
        more = ", ..." if len(labels) > 10 else ""
        raise InputError(
            f"target {target} is out of range: the model has classes 0 to {len(labels) - 1} ({classes}{more})"
        )
    return target
