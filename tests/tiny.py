"""Tiny random Hugging Face classifiers of many architectures, and the vocabulary of their tokenizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

# [PAD] is 1 so that RoBERTa's position ids, which start after the padding index, start at 2 as in the real one.
TINY_VOCABULARY = [
    "[UNK]",
    "[PAD]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *("a", "an", "the", "movie", "film", "was", "is", "great", "bad", "good", ".", "!", "it"),
]
TINY_TEXT = "the movie was great !"
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"type_vocab_size": 1},
    "camembert": {"type_vocab_size": 1},
    "xlm-roberta": {"type_vocab_size": 1},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "electra": {"embedding_size": 8},
    "albert": {"embedding_size": 8},
    "mpnet": {},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
    "deberta": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 8},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_inner": 32, "n_positions": 40, "pad_token_id": None},
    "llama": {"num_key_value_heads": 1},
}
TINY_SIZES = {
    "vocab_size": 24,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "cls_token_id": 2,
    "sep_token_id": 3,
    "num_labels": 3,
}


def make_tiny(architecture: str, **settings: Any) -> nn.Module:
    """A random classifier with three classes, its weights scaled up so that its attention is not flat."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.for_model(architecture, **(TINY_SIZES | ARCHITECTURES[architecture] | settings))
    torch.manual_seed(0)
    model: nn.Module = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "embed" not in name:
                parameter.mul_(8)
    return model
