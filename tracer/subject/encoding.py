"""A text as token ids, and the token ids of its reference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tracer.errors import InputError
from tracer.model.process import quiet

REFERENCE_TOKENS = ("pad", "mask", "unk")
ZERO_TOKEN = "[zero]"
_INSTEAD_OF_PAD = ("eos", "bos", "unk")


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids, token types (None where the tokenizer gives none) and which tokens the tokenizer added.

    `mask` is the position of the mask whose token is predicted, None where there is none.
    """

    ids: list[int]
    types: list[int] | None
    special: list[bool]
    mask: int | None = None

    @property
    def kept(self) -> list[bool]:
        """Which tokens a reference has in common with the text: those the tokenizer added, and the mask.

        A prediction made elsewhere than at a mask is another question, not the answer to an empty text.
        """
        return [special or index == self.mask for index, special in enumerate(self.special)]


def encode(tokenizer: Any, text: str, what: str) -> Encoded:
    """The tokens of a text, special ones included; `what` names it in the error for one without any word."""
    if not text.strip():
        raise InputError(f"{what} is empty: give at least one word")
    with quiet():
        encoding = tokenizer(text, return_special_tokens_mask=True)
    special = [bool(flag) for flag in encoding["special_tokens_mask"]]
    if all(special):
        raise InputError(f"the tokenizer finds no token in {what} {text!r}: give at least one word")
    return Encoded(list(encoding["input_ids"]), encoding.get("token_type_ids"), special)


def with_mask(encoded: Encoded, at: int, mask: int) -> Encoded:
    """The same text with the mask token at one position."""
    return replace(encoded, ids=[*encoded.ids[:at], mask, *encoded.ids[at + 1 :]], mask=at)


def token_text(tokenizer: Any, token: int) -> str:
    """A token as the vocabulary has it; ids past the vocabulary, which some models have room for, by number."""
    try:
        text = tokenizer.convert_ids_to_tokens(token)
    except (IndexError, KeyError, OverflowError):
        text = None
    return f"#{token}" if text is None else str(text)


def reference_ids(tokenizer: Any, encoded: Encoded, reference: str) -> tuple[list[int], str]:
    """The reference's token ids, one for each of the text's, and the reference in words.

    With "zero" the ids at word positions do not matter.
    """
    kept = "" if encoded.mask is None else f", {token_text(tokenizer, encoded.ids[encoded.mask])} kept"
    if reference == "zero":
        return encoded.ids, f"zero{kept}"
    if reference not in REFERENCE_TOKENS:
        other = encode(tokenizer, reference, "the reference text").ids
        if len(other) != len(encoded.ids):
            raise InputError(
                f"the reference text has {len(other)} tokens, the text {len(encoded.ids)} (special tokens included): "
                "give a reference of the same number, or 'pad', 'mask', 'unk' or 'zero'"
            )
        if encoded.mask is not None:
            other[encoded.mask] = encoded.ids[encoded.mask]
        return other, f"text {reference!r}{kept}"
    filler = getattr(tokenizer, f"{reference}_token_id", None)
    named = reference
    if filler is None and reference == "pad":
        filler, named = _instead_of_pad(tokenizer)
    if filler is None:
        known = [name for name in REFERENCE_TOKENS if getattr(tokenizer, f"{name}_token_id", None) is not None]
        raise InputError(
            f"the tokenizer has no {reference} token: choose the reference {' or '.join([*known, 'zero'])}"
        )
    ids = [token if same else filler for token, same in zip(encoded.ids, encoded.kept, strict=True)]
    return ids, f"{named}{kept}"


def _instead_of_pad(tokenizer: Any) -> tuple[int | None, str]:
    """The token to use for padding where a tokenizer has none, as many decoders', and its name in words."""
    for name in _INSTEAD_OF_PAD:
        token = getattr(tokenizer, f"{name}_token_id", None)
        if token is not None:
            return token, f"{name} token {token_text(tokenizer, token)} (there is no pad token)"
    return None, "pad"
