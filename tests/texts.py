"""Tiny random language models, and a byte-level tokenizer with no other special token than an end of text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.tiny import ARCHITECTURES, TINY_SIZES, TINY_VOCABULARY

END_OF_TEXT = "<|endoftext|>"


def make_language_model(architecture: str, masked: bool = False, **settings: Any) -> nn.Module:
    """A random language model in eval mode, its weights scaled up so that its attention is not flat."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

    config = AutoConfig.for_model(architecture, **(TINY_SIZES | ARCHITECTURES.get(architecture, {}) | settings))
    torch.manual_seed(0)
    loader: Any = AutoModelForMaskedLM if masked else AutoModelForCausalLM
    model: nn.Module = loader.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "embed" not in name and "wte" not in name:
                parameter.mul_(4)
    return model


def make_byte_tokenizer() -> Any:
    """A byte-level BPE tokenizer as GPT-2's: no padding token, nothing added to a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = [word for word in TINY_VOCABULARY if word.isalpha()]
    tokenizer.train_from_iterator([f" {word} {word}" for word in words] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_OF_TEXT, bos_token=END_OF_TEXT)


def save(model: nn.Module, tokenizer: Any, folder: Path) -> Path:
    """The folder, with model and tokenizer as `save_pretrained` writes them."""
    model.save_pretrained(folder)  # type: ignore[operator]
    tokenizer.save_pretrained(folder)
    return folder
