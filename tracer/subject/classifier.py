"""A text model as a function of its embeddings, the form in which captum can differentiate it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from tracer.errors import ModelError
from tracer.model.output import logits_of
from tracer.model.undo import undoing


def embedding_module(model: nn.Module) -> nn.Module | None:
    """The module that turns token ids into the first hidden states, position and token type included.

    BERT and its kin have one (`bert.embeddings`); None for models that add positions later, as GPT-2 and Llama do.
    """
    embeddings = getattr(getattr(model, "base_model", model), "embeddings", None)
    if isinstance(embeddings, nn.Module) and "inputs_embeds" in inspect.signature(embeddings.forward).parameters:
        return embeddings
    return None


@contextmanager
def _passing_embeddings_through(embeddings: nn.Module) -> Iterator[None]:
    """While the context lasts `embeddings(inputs_embeds=t)` is `t`: no position, no token type, no LayerNorm again.

    Only the instance's `forward` is covered, so the module keeps its place, its buffers and its hooks: BERT reads the
    buffers of its embeddings while it runs.
    """
    computing = embeddings.forward
    covered = embeddings.__dict__.get("forward")
    signature = inspect.signature(computing)

    def forward(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments.get("inputs_embeds")
        return computing(*args, **kwargs) if given is None else given

    def undo() -> None:
        if covered is None:
            embeddings.__dict__.pop("forward", None)
        else:
            embeddings.__dict__["forward"] = covered

    with undoing(undo):
        embeddings.__dict__["forward"] = forward
        yield


@contextmanager
def _with_pad_token(config: Any) -> Iterator[None]:
    """A pad token id for configs without one, which refuse a batch otherwise.

    Which id does not matter: only token ids are searched for padding, and embeddings have none.
    """
    if getattr(config, "pad_token_id", 0) is not None:
        yield
        return
    with undoing(partial(setattr, config, "pad_token_id", None)):
        config.pad_token_id = 0
        yield


def class_logits(output: Any) -> torch.Tensor:
    """The logits (E, classes) in a classifier's output."""
    logits = logits_of(output)
    if logits.dim() != 2:
        shape = tuple(logits.shape)
        raise ModelError(
            f"the model gives logits of shape {shape}, not (examples, classes): give a sequence classifier"
        )
    return logits


class EmbeddingClassifier(nn.Module):
    """`module(embeddings, *extras)` -> logits (E, classes), for embeddings (E, T, H) and extras (E, T) by position.

    `inner` is the classifier itself. With `from_embedding_module` the embeddings are the output of the whole embedding
    module (as in captum's `configure_interpretable_embedding_layer`), else they are word embeddings. Between calls
    `inner` is exactly as it was.
    """

    def __init__(self, inner: nn.Module, extra_names: tuple[str, ...], from_embedding_module: bool) -> None:
        super().__init__()
        self.inner = inner
        self.extra_names = extra_names
        self.from_embedding_module = from_embedding_module
        self.training = inner.training
        self._takes_cache = "use_cache" in inspect.signature(inner.forward).parameters

    def forward(self, embeddings: torch.Tensor, *extras: torch.Tensor) -> torch.Tensor:
        """The logits (E, classes)."""
        return class_logits(self.run(embeddings, *extras))

    def run(self, embeddings: torch.Tensor, *extras: torch.Tensor, **options: Any) -> Any:
        """The classifier's whole output, as the classifier gives it; `options` are passed on to it."""
        if self._takes_cache:
            options.setdefault("use_cache", False)
        with ExitStack() as stack:
            stack.enter_context(_with_pad_token(getattr(self.inner, "config", None)))
            if self.from_embedding_module:
                embedding = embedding_module(self.inner)
                assert embedding is not None
                stack.enter_context(_passing_embeddings_through(embedding))
            named = dict(zip(self.extra_names, extras, strict=True))
            return self.inner(inputs_embeds=embeddings, **named, **options)

    def paths(self) -> dict[nn.Module, str]:
        """The inner model's modules with their paths in it; this wrapper stands for the inner model itself, as ""."""
        inner = {module: path for path, module in self.inner.named_modules() if path}
        return {self: "", **inner}


class EmbeddingLanguageModel(EmbeddingClassifier):
    """`module(embeddings, *extras)` -> logits (E, vocabulary) at one position, counted from 0, of a language model."""

    def __init__(
        self, inner: nn.Module, extra_names: tuple[str, ...], from_embedding_module: bool, position: int
    ) -> None:
        super().__init__(inner, extra_names, from_embedding_module)
        self.position = position
        self._keeps = "logits_to_keep" in inspect.signature(inner.forward).parameters

    def forward(self, embeddings: torch.Tensor, *extras: torch.Tensor) -> torch.Tensor:
        """The logits (E, vocabulary) at the position."""
        # Counted from the end, the position is the same whether the model gives all logits or the last ones only.
        from_end = self.position - embeddings.shape[1]
        options = {"logits_to_keep": -from_end} if self._keeps else {}
        logits = logits_of(self.run(embeddings, *extras, **options))
        if logits.dim() != 3:
            raise ModelError(
                f"the model gives logits of shape {tuple(logits.shape)}, not (examples, tokens, vocabulary): "
                "give a language model"
            )
        return logits[:, from_end]
