"""Models for the tests: the demo classifier, loaded once, and tiny random classifiers of many architectures."""

from __future__ import annotations

import os
import signal
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a shell's background job; tests press Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.tiny import TINY_VOCABULARY, make_tiny

torch.set_num_threads(int(os.environ.get("ROUNDING_THREADS", "1")))


@pytest.fixture(scope="session")
def tiny() -> Callable[..., nn.Module]:
    """`tiny("roberta", hidden_act="gelu_new")`: a fresh random classifier."""
    return make_tiny


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A WordPiece tokenizer over `TINY_VOCABULARY`, 32 tokens at most."""
    from transformers import BertTokenizerFast

    file = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    file.write_text("\n".join(TINY_VOCABULARY))
    return BertTokenizerFast(vocab=str(file), model_max_length=32)


@pytest.fixture(scope="session")
def tiny_bert_folder(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    """A directory with a tiny random BERT classifier and its tokenizer, as `save_pretrained` writes them."""
    folder = tmp_path_factory.mktemp("tiny-bert")
    make_tiny("bert").save_pretrained(folder)  # type: ignore[operator]
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def demo() -> tuple[nn.Module, Any]:
    """The demo classifier and its tokenizer; tests leave them as they are."""
    from tracer.demo.model import demo_model

    return demo_model()


@pytest.fixture(scope="session")
def demo_subject(demo: tuple[nn.Module, Any]) -> Any:
    """The demo sentence, target 1, with the notebook's own reference: padding, all positions zero."""
    from tracer.demo.model import TARGET, TEXT
    from tracer.subject.text import make_subject

    return make_subject(*demo, TEXT, target=TARGET, reference="pad", reference_positions="zero")


@pytest.fixture
def busy() -> Iterator[None]:
    """Threads change often."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)
