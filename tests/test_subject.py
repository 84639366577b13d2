"""The subject: what captum is handed is what the model computes on ids, and bad input is answered in one line."""

from __future__ import annotations

import http.server
import inspect
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.tiny import ARCHITECTURES, TINY_TEXT
from tracer.errors import InputError, ModelError, TracerError
from tracer.subject.classifier import EmbeddingClassifier
from tracer.subject.loading import load_subject
from tracer.subject.text import Subject, make_subject

Tiny = Callable[..., nn.Module]


def logits(subject: Subject, embeddings: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return subject.model(embeddings, *subject.additional_forward_args)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_embeddings_give_the_logits_of_the_ids(architecture: str, tiny: Tiny, tiny_tokenizer: Any) -> None:
    model = tiny(architecture)
    subject = make_subject(model, tiny_tokenizer, TINY_TEXT)
    encoding = tiny_tokenizer(TINY_TEXT, return_tensors="pt")
    accepted = inspect.signature(model.forward).parameters
    with torch.no_grad():
        expected = model(**{name: value for name, value in encoding.items() if name in accepted}).logits
    torch.testing.assert_close(logits(subject, subject.inputs), expected)
    assert subject.target == int(expected.argmax())
    assert subject.inputs.shape == subject.baselines.shape
    assert subject.inputs.shape[:2] == encoding["input_ids"].shape
    assert not subject.inputs.requires_grad and not subject.baselines.requires_grad


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "electra", "albert", "mpnet", "deberta"])
def test_padding_at_the_same_positions(architecture: str, tiny: Tiny, tiny_tokenizer: Any) -> None:
    """RoBERTa would move padding tokens to its padding position by itself; the reference must not."""
    model: Any = tiny(architecture)
    subject = make_subject(model, tiny_tokenizer, TINY_TEXT, reference="pad", reference_positions="same")
    ids = tiny_tokenizer(TINY_TEXT, return_tensors="pt")["input_ids"]
    first = 2 if architecture in ("roberta", "mpnet") else 0
    positions = torch.arange(first, first + ids.shape[1])[None]
    padded = torch.full_like(ids, tiny_tokenizer.pad_token_id)
    padded[:, 0], padded[:, -1] = ids[:, 0], ids[:, -1]
    with torch.no_grad():
        expected = model.base_model.embeddings(input_ids=padded, position_ids=positions)
    torch.testing.assert_close(subject.baselines, expected)
    assert subject.reference_tokens == ("[CLS]", *["[PAD]"] * 5, "[SEP]")
    assert subject.tokens == ("[CLS]", "the", "movie", "was", "great", "!", "[SEP]")
    assert subject.special == (True, *[False] * 5, True)
    assert subject.reference == "pad, positions same"


@pytest.mark.parametrize(("architecture", "first"), [("bert", 0), ("roberta", 2)])
def test_zero_positions_make_reference_words_equal(
    architecture: str, first: int, tiny: Tiny, tiny_tokenizer: Any
) -> None:
    model: Any = tiny(architecture)
    subject = make_subject(model, tiny_tokenizer, TINY_TEXT, reference_positions="zero")
    words = subject.baselines[0, 1:-1]
    assert torch.equal(words, words[:1].expand_as(words))
    with torch.no_grad():
        sep = model.base_model.embeddings(input_ids=torch.tensor([[3]]), position_ids=torch.tensor([[first]]))
    torch.testing.assert_close(subject.baselines[:, -1:], sep)
    assert subject.reference == "pad, positions zero"


def test_other_references(tiny: Tiny, tiny_tokenizer: Any) -> None:
    model = tiny("bert")
    for kind, token in (("mask", "[MASK]"), ("unk", "[UNK]"), ("zero", "[zero]")):
        subject = make_subject(model, tiny_tokenizer, TINY_TEXT, reference=kind)
        assert subject.reference_tokens == ("[CLS]", *[token] * 5, "[SEP]")
    assert torch.equal(subject.baselines[0, 1:-1], torch.zeros(5, 16))
    assert torch.equal(subject.baselines[0, [0, -1]], subject.inputs[0, [0, -1]])
    other = make_subject(model, tiny_tokenizer, TINY_TEXT, reference="a film is bad .")
    assert other.reference_tokens == ("[CLS]", "a", "film", "is", "bad", ".", "[SEP]")
    assert torch.equal(other.baselines, make_subject(model, tiny_tokenizer, "a film is bad .").inputs)
    assert other.reference == "text 'a film is bad .', positions same"


def test_names_are_those_of_the_inner_model(tiny: Tiny, tiny_tokenizer: Any) -> None:
    model = tiny("bert")
    subject = make_subject(model, tiny_tokenizer, TINY_TEXT)
    expected = {path: module for path, module in model.named_modules() if path}
    assert {path: module for module, path in subject.names.items()} == {"": subject.model, **expected}
    assert model not in subject.names and "bert.encoder.layer.0.attention.self" in subject.names.values()


def snapshot(model: nn.Module) -> list[object]:
    """All that a call could leave behind: attributes of every module, its tensors by identity, and the config."""
    state: list[object] = [str(getattr(model, "config", None))]
    for name, module in model.named_modules():
        hooks = [(key, len(value)) for key, value in vars(module).items() if key.endswith("hooks")]
        state.append((name, id(module), sorted(vars(module)), list(module._modules), module.training, hooks))
    state += [(name, id(value), value.requires_grad, value.grad is None) for name, value in model.named_parameters()]
    return state


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_the_model_stays_as_it_was(architecture: str, tiny: Tiny, tiny_tokenizer: Any) -> None:
    model = tiny(architecture)
    before = snapshot(model)
    subject = make_subject(model, tiny_tokenizer, TINY_TEXT)
    inputs = subject.inputs.clone().requires_grad_()
    subject.model(inputs, *subject.additional_forward_args).sum().backward(inputs=[inputs])
    with pytest.raises(RuntimeError):
        subject.model(torch.zeros(1, 7, 5), *subject.additional_forward_args)
    assert snapshot(model) == before


def test_a_forward_set_by_others_is_kept(tiny: Tiny, tiny_tokenizer: Any) -> None:
    model: Any = tiny("bert")
    embeddings = model.bert.embeddings
    own = embeddings.forward
    embeddings.forward = own
    make_subject(model, tiny_tokenizer, TINY_TEXT)
    assert embeddings.__dict__["forward"] is own


def test_captum_runs_on_it(tiny: Tiny, tiny_tokenizer: Any) -> None:
    from captum.attr import DeepLift

    for architecture in ("bert", "gpt2"):
        subject = make_subject(tiny(architecture, hidden_act="relu"), tiny_tokenizer, TINY_TEXT)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attributions, delta = DeepLift(subject.model).attribute(
                subject.inputs,
                subject.baselines,
                target=subject.target,
                additional_forward_args=subject.additional_forward_args,
                return_convergence_delta=True,
            )
        change = (logits(subject, subject.inputs) - logits(subject, subject.baselines))[0, subject.target]
        torch.testing.assert_close(delta[0].float(), attributions.sum() - change, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("output", ["mapping", "tuple", "tensor"])
def test_logits_are_unwrapped(output: str) -> None:
    class Model(nn.Module):
        def forward(self, inputs_embeds: torch.Tensor) -> Any:
            values = inputs_embeds.sum(1)
            return {"mapping": {"logits": values}, "tuple": (values, None), "tensor": values}[output]

    embeddings = torch.randn(2, 3, 4)
    assert torch.equal(EmbeddingClassifier(Model(), (), False)(embeddings), embeddings.sum(1))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"other": 1}, "the model gives dict"),
        ((), "the model gives tuple"),
        (torch.zeros(2, 3, 4), r"logits of shape \(2, 3, 4\), not \(examples, classes\): give a sequence classifier"),
    ],
)
def test_no_logits(value: Any, message: str) -> None:
    class Model(nn.Module):
        def forward(self, inputs_embeds: torch.Tensor) -> Any:
            return value

    with pytest.raises(ModelError, match=message):
        EmbeddingClassifier(Model(), (), False)(torch.zeros(1, 2, 4))


BAD_INPUT = [
    ({"text": " \n"}, "the text is empty: give at least one word"),
    ({"text": "movie " * 31}, "the text has 33 tokens, the model takes 32: shorten the text"),
    ({"target": 3}, "target 3 is out of range: the model has classes 0 to 2 (0 = LABEL_0, 1 = LABEL_1, 2 = LABEL_2)"),
    ({"target": -1}, "target -1 is out of range"),
    ({"reference": "a movie"}, "the reference text has 4 tokens, the text 7"),
    ({"reference": ""}, "the reference text is empty"),
    ({"reference_positions": "odd"}, "reference positions 'odd': expected 'same' or 'zero'"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_INPUT)
def test_bad_input_in_one_line(bad: dict[str, Any], message: str, tiny: Tiny, tiny_tokenizer: Any) -> None:
    model = tiny("bert")
    before = snapshot(model)
    with pytest.raises(InputError) as caught:
        make_subject(model, tiny_tokenizer, **({"text": TINY_TEXT} | bad))
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    assert snapshot(model) == before


@pytest.mark.parametrize(("architecture", "limit"), [("bert", 40), ("roberta", 38), ("gpt2", 40)])
def test_length_limit_of_the_model_itself(architecture: str, limit: int, tiny: Tiny, tiny_tokenizer: Any) -> None:
    model = tiny(architecture)
    tokenizer = type(tiny_tokenizer)(tokenizer_object=tiny_tokenizer.backend_tokenizer)  # names no limit of its own
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert len(make_subject(model, tokenizer, "movie " * (limit - 2)).tokens) == limit
    with pytest.raises(InputError, match=f"has {limit + 1} tokens, the model takes {limit}"):
        make_subject(model, tokenizer, "movie " * (limit - 1))


def test_what_the_model_cannot_do(tiny: Tiny, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="choose reference positions 'same'"):
        make_subject(tiny("gpt2"), tiny_tokenizer, TINY_TEXT, reference_positions="zero")
    with pytest.raises(ModelError, match="give a sequence classifier"):
        make_subject(tiny("bert").bert, tiny_tokenizer, TINY_TEXT)  # type: ignore[arg-type]
    monkeypatch.setattr(type(tiny_tokenizer), "mask_token_id", None, raising=False)
    with pytest.raises(InputError, match="the tokenizer has no mask token: choose the reference pad or unk or zero"):
        make_subject(tiny("bert"), tiny_tokenizer, TINY_TEXT, reference="mask")


def test_loads_a_directory(tiny_bert_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, tokenizer = load_subject(str(tiny_bert_folder))
    assert not model.training
    assert make_subject(model, tokenizer, TINY_TEXT).model_name == str(tiny_bert_folder)
    assert capfd.readouterr() == ("", "")


def without(folder: Path, target: Path, *missing: str) -> str:
    target.mkdir()
    for file in folder.iterdir():
        if not file.name.startswith(missing):
            (target / file.name).write_bytes(file.read_bytes())
    return str(target)


def test_incomplete_directories(tiny_bert_folder: Path, tmp_path: Path) -> None:
    broken = {
        without(tiny_bert_folder, tmp_path / "c", "config"): "holds no config.json: give a directory",
        without(tiny_bert_folder, tmp_path / "t", "tokenizer", "vocab", "special"): "has no tokenizer files",
        without(tiny_bert_folder, tmp_path / "w", "model"): "does not load as a sequence classifier",
        str(tmp_path / "nowhere"): "there is no directory",
        str(tiny_bert_folder / "config.json"): "is a file: give the directory",
        "no such name": "is neither a local directory nor a hub id",
        "": "the model's name is empty",
    }
    (tmp_path / "j").mkdir()
    (tmp_path / "j" / "config.json").write_text("{")
    broken[str(tmp_path / "j")] = "does not load: "
    for name, message in broken.items():
        with pytest.raises(ModelError) as caught:
            load_subject(name)
        assert message in str(caught.value) and "\n" not in str(caught.value)


def test_untrained_head_is_told(tmp_path: Path, tiny: Tiny, tiny_tokenizer: Any) -> None:
    tiny("bert").bert.save_pretrained(tmp_path)  # type: ignore[operator, union-attr]
    tiny_tokenizer.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="lacks trained weights, random ones stand in for them: classifier.bias"):
        load_subject(str(tmp_path), "classify")
    with pytest.raises(ModelError, match="is BertModel, by its name no sequence classifier and no causal or masked"):
        load_subject(str(tmp_path))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[int, str], None]]:
    """A hub of our own that gives one and the same answer: `hub(404, "RepoNotFound")`."""
    from huggingface_hub import constants

    answer = [200, ""]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(answer[0]))
            self.send_header("X-Error-Code", str(answer[1]))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the test's output stays clean."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    from huggingface_hub.hf_api import HfApi

    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: HfApi(endpoint=address))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def set_answer(status: int, code: str) -> None:
        answer[:] = [status, code]

    yield set_answer
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (404, "RepoNotFound", "the hub has no model 'owner/name' that you may read: check the name"),
        (403, "GatedRepo", "owner/name is gated: accept its terms"),
        (403, "", "the hub refused owner/name"),
    ],
)
def test_what_the_hub_answers(status: int, code: str, message: str, hub: Callable[[int, str], None]) -> None:
    hub(status, code)
    with pytest.raises(ModelError) as caught:
        load_subject("owner/name")
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


OFFLINE = (
    "owner/name is not in the local cache and the hub cannot be reached: give a local directory, or run once with "
)


@pytest.mark.parametrize("offline_mode", [True, False])
def test_offline_and_not_cached(offline_mode: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants
    from huggingface_hub.hf_api import HfApi

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline_mode)
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: HfApi(endpoint="http://127.0.0.1:9"))
    with pytest.raises(ModelError) as caught:
        load_subject("owner/name")
    assert str(caught.value) == OFFLINE + "a network connection"
    assert isinstance(caught.value, TracerError)


def test_offline_and_cached(tiny_bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    repository = tmp_path / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("1234")
    (repository / "snapshots").mkdir()
    without(tiny_bert_folder, repository / "snapshots" / "1234", "nothing")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("tracer.subject.loading._ask_hub", lambda name: pytest.fail("the hub was asked"))
    model, tokenizer = load_subject("owner/name")
    assert make_subject(model, tokenizer, TINY_TEXT).model_name == "owner/name"
