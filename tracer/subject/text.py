"""A text and its reference, embedded and tokenised for one model: all that an attribution needs."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tracer.errors import InputError, ModelError
from tracer.model.process import quiet
from tracer.model.tensors import device_of
from tracer.subject.classifier import EmbeddingClassifier, EmbeddingLanguageModel, embedding_module
from tracer.subject.encoding import (
    ZERO_TOKEN,
    encode,
    reference_ids,
    token_text,
    with_mask,
)
from tracer.subject.outputs import class_labels, class_target, shown_outputs, token_target
from tracer.subject.place import place_in_words, predicted_at
from tracer.subject.positions import Positions, ReferencePositions, embed
from tracer.subject.task import Task, task_of


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A text model with one text and one reference: `model(inputs, *additional_forward_args)[:, target]` is explained.

    `inputs` and `baselines` are embeddings, float (1, T, H), without gradients; the extras are integer (1, T) and serve
    both. `tokens`, `reference_tokens` and `special`, true for tokens that the tokenizer added, have T entries.
    `reference` says in words what the reference is, `place` where in the text a token is predicted ("" for classes).
    `shown` are the outputs worth showing, the target among them, and `labels` their names; empty: all of them.
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
    shown: tuple[int, ...] = ()
    place: str = ""

    @property
    def names(self) -> dict[nn.Module, str]:
        """The modules as they are now, each with its path in the model; the callable itself is ""."""
        return self.model.paths()

    @property
    def token_rows(self) -> tuple[tuple[str, ...], ...]:
        """The tokens of each example: there is one."""
        return (self.tokens,)

    @property
    def reference_token_rows(self) -> tuple[tuple[str, ...], ...]:
        """The reference's tokens of each example."""
        return (self.reference_tokens,)

    @property
    def row(self) -> int:
        """The target's place in `labels`."""
        return self.shown.index(self.target) if self.shown else self.target

    @property
    def target_name(self) -> str:
        """The target in words: "1 (positive)", or "257 (Ġgreat) after token 4 (Ġis)"."""
        return f"{self.target} ({self.labels[self.row]}){self.place}"


def make_subject(
    model: nn.Module,
    tokenizer: Any,
    text: str,
    *,
    task: Task | None = None,
    position: int | None = None,
    target: int | str | None = None,
    reference: str = "pad",
    reference_positions: ReferencePositions = "same",
) -> Subject:
    """The subject for one text; what the model itself predicts is the target unless one is given.

    `task` None is that of the model's class, by its name ("classify" if that tells nothing). For "causal" the target is
    the token that follows the one at `position` (default: the text's last; negative: from the end), for "masked" the
    token behind the mask at `position` (default: where the text's only mask is; any other token is masked out). A
    `target` is a class or token id, a class's label, or a text that is one token.

    The reference keeps the special tokens and the mask, and has "pad", "mask" or "unk" tokens, or "zero" vectors, in
    place of all others, or is a text of the same number of tokens. Its position ids are those of the input ("same"), or
    all the first position's ("zero", as in the notebook of captum issue #519).
    """
    task = task or task_of(type(model).__name__) or "classify"
    encoded = encode(tokenizer, text, "the text")
    embeddings = embedding_module(model)
    device = device_of(model)
    positions = Positions(embeddings, encoded.ids[:1], device)
    _check_length(len(encoded.ids), _length_limit(model, tokenizer, positions))
    at = predicted_at(tokenizer, encoded, task, position)
    if task == "masked":
        assert at is not None
        encoded = with_mask(encoded, at, tokenizer.mask_token_id)
    filled, named = reference_ids(tokenizer, encoded, reference)
    if reference_positions not in ("same", "zero"):
        raise InputError(f"reference positions {reference_positions!r}: expected 'same' or 'zero'")
    if reference_positions == "zero" and positions.first is None:
        raise InputError(
            "this model adds positions after its embeddings, so the reference cannot have its own: "
            "choose reference positions 'same'"
        )

    ids = torch.tensor([encoded.ids], device=device)
    types = None if encoded.types is None else torch.tensor([encoded.types], device=device)
    position_ids = positions.of(ids)
    reference_position_ids = position_ids
    if reference_positions == "zero" and position_ids is not None and positions.first is not None:
        reference_position_ids = torch.full_like(position_ids, positions.first)
    inputs = embed(model, embeddings, ids, types, position_ids)
    baselines = embed(model, embeddings, torch.tensor([filled], device=device), types, reference_position_ids)
    reference_tokens = tuple(token_text(tokenizer, token) for token in filled)
    if reference == "zero":
        words = torch.tensor([not kept for kept in encoded.kept], device=device)
        baselines = baselines.masked_fill(words[None, :, None], 0.0)
        pairs = zip(reference_tokens, encoded.kept, strict=True)
        reference_tokens = tuple(token if kept else ZERO_TOKEN for token, kept in pairs)

    extras = {"attention_mask": torch.ones_like(ids), "token_type_ids": types, "position_ids": position_ids}
    accepted = inspect.signature(model.forward).parameters
    given = {name: value for name, value in extras.items() if value is not None and name in accepted}
    wrapper = (
        EmbeddingClassifier(model, tuple(given), embeddings is not None)
        if at is None
        else EmbeddingLanguageModel(model, tuple(given), embeddings is not None, at)
    )
    logits = _first_run(wrapper, inputs, tuple(given.values()))[0]
    tokens = tuple(token_text(tokenizer, token) for token in encoded.ids)
    if at is None:
        names = class_labels(model, len(logits))
        wanted = None if target is None else class_target(target, names)
    else:
        names = None
        wanted = None if target is None else token_target(tokenizer, target, len(logits))
    chosen = int(logits.argmax()) if wanted is None else wanted
    shown = shown_outputs(logits.tolist(), chosen)
    return Subject(
        model=wrapper,
        inputs=inputs,
        baselines=baselines,
        additional_forward_args=tuple(given.values()),
        target=chosen,
        tokens=tokens,
        reference_tokens=reference_tokens,
        special=tuple(encoded.special),
        model_name=str(getattr(getattr(model, "config", None), "name_or_path", "") or type(model).__name__),
        labels=tuple(token_text(tokenizer, index) if names is None else names[index] for index in shown),
        text=text,
        reference=named if positions.first is None else f"{named}, positions {reference_positions}",
        shown=shown,
        place=place_in_words(task, at, tokens),
    )


def _length_limit(model: nn.Module, tokenizer: Any, positions: Positions) -> int | None:
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
def _first_run(wrapper: EmbeddingClassifier, inputs: torch.Tensor, extras: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The logits (1, classes) of the text, with one clear line where the model does not run on embeddings."""
    try:
        with quiet():  # some models warn once that padding cannot be seen in embeddings; there is none
            return wrapper(inputs, *extras)  # type: ignore[no-any-return]
    except (TypeError, ValueError, NotImplementedError, RuntimeError, IndexError) as error:
        line = str(error).strip().partition("\n")[0]
        raise ModelError(f"{type(wrapper.inner).__name__} does not run on embeddings: {line}") from error
