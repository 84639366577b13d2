"""Where in a text a language model predicts a token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracer.errors import InputError
from tracer.subject.encoding import Encoded, token_text
from tracer.subject.task import Task


def predicted_at(tokenizer: Any, encoded: Encoded, task: Task, position: int | None) -> int | None:
    """The position, from 0, at which a token is predicted; None for a classifier, which has none."""
    count = len(encoded.ids)
    if task == "classify":
        if position is not None:
            raise InputError("a classifier answers to the whole text: leave the position out")
        return None
    if position is not None and not -count <= position < count:
        raise InputError(
            f"position {position} is out of range: the text has {count} tokens, at 0 to {count - 1} or, from the end, "
            f"-{count} to -1"
        )
    if task == "causal":
        # A tokenizer may end the text with a token of its own; the text is not continued after that.
        last = max(index for index, special in enumerate(encoded.special) if not special)
        return last if position is None else position % count
    mask = getattr(tokenizer, "mask_token_id", None)
    if mask is None:
        raise InputError("the tokenizer has no mask token: this is not a masked language model's tokenizer")
    masks = [index for index, token in enumerate(encoded.ids) if token == mask]
    if position is None:
        if len(masks) == 1:
            return masks[0]
        if masks:
            raise InputError(
                f"the text holds {len(masks)} masks, at positions {', '.join(map(str, masks))}: "
                "name one of them with a position"
            )
        words = ", ".join(
            f"{index} = {token_text(tokenizer, token)}"
            for index, (token, special) in enumerate(zip(encoded.ids, encoded.special, strict=True))
            if not special
        )
        raise InputError(
            f"the text holds no {tokenizer.mask_token}: put one where a token is to be predicted, or name the position "
            f"of the token to mask out ({words[:200]})"
        )
    at = position % count
    if encoded.special[at]:
        raise InputError(
            f"position {position} is {token_text(tokenizer, encoded.ids[at])}, which the tokenizer added: "
            "name a token of the text"
        )
    return at


def place_in_words(task: Task, at: int | None, tokens: Sequence[str]) -> str:
    """The predicted token's place as `Subject.place` has it."""
    if at is None:
        return ""
    return f" after token {at} ({tokens[at]})" if task == "causal" else f" at token {at}"
