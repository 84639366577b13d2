"""Small random models of many architectures, with weights scaled up until attention is sharp."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tests.rounding import seeded

WIDTH, LENGTH, EXAMPLES = 32, 10, 2
_COMMON = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 60,
    "max_position_embeddings": 64,
    "num_labels": 3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@dataclass(frozen=True)
class Architecture:
    """`model` is the transformers class' name, `inputs` the name and shape of what is attributed.

    `settings` are the config's, `extra` further named arguments. `bare`: the config takes none of the common settings.
    `experts`: which of transformers' implementations a mixture of experts runs; "": its default.
    """

    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[str, tuple[int, ...]] = ("inputs_embeds", (EXAMPLES, LENGTH, WIDTH))
    extra: dict[str, Any] = field(default_factory=dict)
    attention: tuple[str, ...] = ("sdpa", "eager")
    bare: bool = False
    experts: str = ""
    scale: float = 20.0

    @property
    def passed(self) -> tuple[str, dict[str, Any]]:
        """The attributed argument's name, and the further named arguments."""
        return self.inputs[0], self.extra

    def build(self, attention: str, dtype: torch.dtype) -> nn.Module:
        """The model with matrices `scale` times as large as at initialisation, other than the last one.

        At 20 times the largest of ten attention probabilities is about 0.7 on average: attention is sharp.
        """
        kind = getattr(transformers, self.model)
        config = kind.config_class(**{**({"num_labels": 3} if self.bare else _COMMON), **self.settings})
        config._attn_implementation = attention
        if self.experts or dtype == torch.float64:  # torch's grouped product has no float64
            config._experts_implementation = self.experts or "eager"
        torch.manual_seed(seeded(0))
        model: nn.Module = kind(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() >= 2 and "embed" not in name and "head" not in name and "classifier" not in name:
                    parameter.mul_(self.scale)
        return model.eval().to(dtype)


_GQA = {"num_key_value_heads": 2, "head_dim": 8}
_EXPERTS = {
    "num_experts": 8,
    "num_local_experts": 8,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
}
_DEEPSEEK = {
    "n_group": 4,
    "topk_group": 2,
    "q_lora_rank": 16,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "head_dim": 8,
    "num_key_value_heads": 4,
    "first_k_dense_replace": 1,
    "n_shared_experts": 1,
}
_T5 = {"d_model": WIDTH, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
_BART = {
    "d_model": WIDTH,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "decoder_start_token_id": 2,
}
_PIXELS = ("pixel_values", (EXAMPLES, 3, 32, 32))
_WAVE = ("input_values", (EXAMPLES, 200))
_WAVE_SETTINGS = {
    "conv_dim": [16, 16],
    "conv_stride": [5, 2],
    "conv_kernel": [10, 3],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 16,
}
_DECODER_IDS = {"decoder_input_ids": torch.tensor([[0, 5, 6]] * EXAMPLES)}

ARCHITECTURES: dict[str, Architecture] = {
    "BERT": Architecture("BertForSequenceClassification"),
    "RoBERTa": Architecture("RobertaForSequenceClassification"),
    "XLM-R": Architecture("XLMRobertaForSequenceClassification"),
    "CamemBERT": Architecture("CamembertForSequenceClassification"),
    "ELECTRA": Architecture("ElectraForSequenceClassification", {"embedding_size": WIDTH}),
    "ALBERT": Architecture("AlbertForSequenceClassification", {"embedding_size": WIDTH}),
    "DistilBERT": Architecture(
        "DistilBertForSequenceClassification", {"dim": WIDTH, "hidden_dim": 48, "n_layers": 2, "n_heads": 4}
    ),
    "MPNet": Architecture("MPNetForSequenceClassification", attention=("eager",)),
    "ModernBERT": Architecture(
        "ModernBertForSequenceClassification",
        {"cls_token_id": 1, "sep_token_id": 2, "local_attention": 4, "classifier_pooling": "mean"},
    ),
    "DeBERTa-v2": Architecture(
        "DebertaV2ForSequenceClassification",
        {
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "max_relative_positions": 8,
            "pooler_hidden_size": WIDTH,
            "share_att_key": True,
            "position_buckets": 4,
            "norm_rel_ebd": "layer_norm",
        },
        attention=("eager",),
    ),
    "DeBERTa": Architecture(
        "DebertaForSequenceClassification",
        {
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "max_relative_positions": 8,
            "pooler_hidden_size": WIDTH,
        },
        attention=("eager",),
    ),
    "Longformer": Architecture(
        "LongformerForSequenceClassification",
        {"attention_window": 4, "max_position_embeddings": 64},
        attention=("eager",),
        extra={"global_attention_mask": torch.tensor([[1, *[0] * (LENGTH - 1)]] * EXAMPLES)},
    ),
    "BigBird": Architecture(
        "BigBirdForSequenceClassification", {"attention_type": "original_full", "block_size": 2}, attention=("eager",)
    ),
    "Funnel": Architecture(
        "FunnelForSequenceClassification",
        {"d_model": WIDTH, "d_head": 8, "n_head": 4, "d_inner": 48, "block_sizes": [1, 1], "vocab_size": 60},
        attention=("eager",),
        bare=True,
    ),
    "GPT-2": Architecture("GPT2LMHeadModel", {"n_embd": WIDTH, "n_layer": 2, "n_head": 4}),
    "GPT-Neo": Architecture(
        "GPTNeoForCausalLM",
        {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 4},
        attention=("eager",),
    ),
    "GPT-NeoX": Architecture("GPTNeoXForCausalLM"),
    "GPT-J": Architecture(
        "GPTJForCausalLM", {"n_embd": WIDTH, "n_layer": 2, "n_head": 4, "rotary_dim": 4}, attention=("eager",)
    ),
    "OPT": Architecture("OPTForCausalLM", {"ffn_dim": 48, "word_embed_proj_dim": WIDTH}),
    "BLOOM": Architecture("BloomForCausalLM", {"n_layer": 2, "n_head": 4}, attention=("eager",)),
    "Llama": Architecture("LlamaForCausalLM", _GQA),
    "Mistral": Architecture("MistralForCausalLM", {**_GQA, "sliding_window": 4}),
    "Mixtral": Architecture("MixtralForCausalLM", {**_GQA, **_EXPERTS}),
    "Mixtral, eager experts": Architecture("MixtralForCausalLM", {**_GQA, **_EXPERTS}, experts="eager"),
    "Qwen2-MoE": Architecture("Qwen2MoeForCausalLM", {**_GQA, **_EXPERTS}),
    "Qwen3-MoE": Architecture("Qwen3MoeForCausalLM", {**_GQA, **_EXPERTS}),
    "OLMoE": Architecture("OlmoeForCausalLM", {"num_key_value_heads": 2, **_EXPERTS}),
    "GPT-OSS": Architecture(
        "GptOssForCausalLM",
        {**_GQA, **_EXPERTS, "layer_types": ["full_attention", "sliding_attention"]},
        attention=("eager",),
    ),
    "DeepSeek-V3": Architecture("DeepseekV3ForCausalLM", {**_EXPERTS, **_DEEPSEEK}),
    "Qwen2": Architecture("Qwen2ForCausalLM", _GQA),
    "Qwen3": Architecture("Qwen3ForCausalLM", _GQA),
    "Gemma": Architecture("GemmaForCausalLM", _GQA),
    "Gemma 2": Architecture("Gemma2ForCausalLM", {**_GQA, "sliding_window": 4}, attention=("eager",)),
    "Gemma 3": Architecture("Gemma3ForCausalLM", {**_GQA, "sliding_window": 4}),
    "Phi": Architecture("PhiForCausalLM", {"num_key_value_heads": 2}),
    "Phi-3": Architecture("Phi3ForCausalLM", {"num_key_value_heads": 2}),
    "Falcon": Architecture("FalconForCausalLM", {"new_decoder_architecture": False, "multi_query": True}),
    "StableLM": Architecture("StableLmForCausalLM", {"num_key_value_heads": 2}),
    "Cohere": Architecture("CohereForCausalLM", {"num_key_value_heads": 2}),
    "OLMo 2": Architecture("Olmo2ForCausalLM", {"num_key_value_heads": 2}),
    "Starcoder2": Architecture("Starcoder2ForCausalLM", {"num_key_value_heads": 2}),
    "T5": Architecture("T5ForConditionalGeneration", _T5, extra=_DECODER_IDS, attention=("eager",)),
    "BART": Architecture("BartForConditionalGeneration", _BART, extra=_DECODER_IDS),
    # State spaces have no attention to sharpen; scaled up 20 times, their float32 states cancel away.
    "Mamba": Architecture(
        "MambaForCausalLM", {"state_size": 4, "conv_kernel": 3, "time_step_rank": 4}, attention=("eager",), scale=4.0
    ),
    "Mamba 2": Architecture(
        "Mamba2ForCausalLM",
        {"num_heads": 8, "head_dim": 8, "n_groups": 2, "state_size": 4, "chunk_size": 4, "expand": 2},
        attention=("eager",),
        scale=4.0,
    ),
    "ViT": Architecture("ViTForImageClassification", {"image_size": 32, "patch_size": 8}, _PIXELS),
    "DeiT": Architecture("DeiTForImageClassification", {"image_size": 32, "patch_size": 8}, _PIXELS),
    "BEiT": Architecture(
        "BeitForImageClassification", {"image_size": 32, "patch_size": 8, "use_relative_position_bias": True}, _PIXELS
    ),
    "Swin": Architecture(
        "SwinForImageClassification",
        {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
        _PIXELS,
        attention=("eager",),
        bare=True,
    ),
    "ConvNeXT": Architecture(
        "ConvNextForImageClassification",
        {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
        _PIXELS,
        attention=("eager",),
    ),
    "ResNet": Architecture(
        "ResNetForImageClassification",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
        _PIXELS,
        attention=("eager",),
    ),
    "Wav2Vec2": Architecture(
        "Wav2Vec2ForSequenceClassification",
        _WAVE_SETTINGS,
        _WAVE,
    ),
    "HuBERT": Architecture(
        "HubertForSequenceClassification",
        _WAVE_SETTINGS,
        _WAVE,
    ),
}


class Named(nn.Module):
    """A model whose first argument is passed under a name, with further named arguments fixed, in all rows alike."""

    def __init__(self, model: nn.Module, name: str, extra: dict[str, Any]) -> None:
        super().__init__()
        self.model, self.name, self.extra = model, name, extra

    def forward(self, value: Tensor) -> Any:
        rows = value.shape[0]
        extra = {
            key: item[:1].expand(rows, *item.shape[1:]) if isinstance(item, Tensor) else item
            for key, item in self.extra.items()
        }
        return self.model(**{self.name: value}, **extra)


def pair_for(architecture: Architecture, dtype: torch.dtype, seed: int = 1) -> tuple[Tensor, Tensor]:
    """An input and a reference of the architecture."""
    generator = torch.Generator().manual_seed(seed)
    shape = architecture.inputs[1]
    x, x_ref = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return x.to(dtype), (0.3 * x_ref).to(dtype)


class _Casts(TorchFunctionMode):
    """Whether any result in a float64 run is of float32."""

    seen = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        value = func(*args, **(kwargs or {}))
        self.seen |= isinstance(value, Tensor) and value.dtype == torch.float32 and value.numel() > 1
        return value


def casts(model: nn.Module, x: Tensor) -> bool:
    """Whether `model` computes in float32 inside, such as in eager softmax or RMSNorm, although `x` is float64."""
    with _Casts() as mode, torch.no_grad():
        model(x)
    return mode.seen


def target_for(output: Tensor, reference: Tensor) -> Any:
    """The class whose output changes most in the first example, at the last place of a sequence."""
    change = (output - reference)[0]
    if change.dim() == 1:
        return int(change.abs().argmax())
    return (change.shape[0] - 1, int(change[-1].abs().argmax()))
