"""The embeddings of token ids, at the positions that the model itself would give them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from tracer.errors import ModelError

ReferencePositions = Literal["same", "zero"]


class Positions:
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


@torch.no_grad()
def embed(
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
            f"the embeddings of {type(model).__name__} are not a tensor (1, tokens, hidden): give another model"
        )
    return embedded.detach()
