"""Language models: what is explained is the model's own logit at the position, and the attributions add up to it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.rounding import of_delta
from tests.texts import END_OF_TEXT, make_byte_tokenizer, make_language_model, save
from tests.tiny import TINY_TEXT
from tracer import cli, open_trace, record
from tracer.errors import InputError, ModelError
from tracer.subject.classifier import EmbeddingLanguageModel
from tracer.subject.loading import load_subject
from tracer.subject.task import task_of
from tracer.subject.text import Subject, make_subject

Tiny = Callable[..., nn.Module]
CAUSAL = ["gpt2", "llama", "mamba", "bert"]
MASKED = ["bert", "roberta", "distilbert", "electra", "modernbert"]
LONGEST_SUM = 32  # the tiny models' intermediate size
MASKED_TEXT = "the movie was [MASK] !"


@pytest.fixture(scope="module")
def byte_tokenizer() -> Any:
    return make_byte_tokenizer()


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    return save(make_language_model("gpt2", vocab_size=300), byte_tokenizer, tmp_path_factory.mktemp("tiny-gpt2"))


@pytest.fixture(scope="module")
def masked_bert(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    return save(make_language_model("bert", masked=True), tiny_tokenizer, tmp_path_factory.mktemp("tiny-masked"))


def causal_model(architecture: str) -> nn.Module:
    return (
        make_language_model(architecture, is_decoder=True)
        if architecture == "bert"
        else make_language_model(architecture)
    )


def logits(subject: Subject, embeddings: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return subject.model(embeddings, *subject.additional_forward_args)[0]


@pytest.mark.parametrize("architecture", CAUSAL)
@pytest.mark.parametrize(("position", "row"), [(None, 5), (2, 2), (-4, 3), (0, 0)])
def test_the_logits_are_those_after_the_position(
    architecture: str, position: int | None, row: int, tiny_tokenizer: Any
) -> None:
    """Without a position it is the text's last token: this tokenizer closes each text with a [SEP] of its own."""
    model = causal_model(architecture)
    subject = make_subject(model, tiny_tokenizer, TINY_TEXT, position=position)
    with torch.no_grad():
        expected = model(**_accepted(model, tiny_tokenizer(TINY_TEXT, return_tensors="pt"))).logits[0, row]
    torch.testing.assert_close(logits(subject, subject.inputs), expected, rtol=1e-4, atol=1e-5)
    assert subject.target == int(expected.argmax()) and subject.place == f" after token {row} ({subject.tokens[row]})"


@pytest.mark.parametrize("architecture", MASKED)
def test_the_logits_are_those_at_the_mask(architecture: str, tiny_tokenizer: Any) -> None:
    model = make_language_model(architecture, masked=True)
    subject = make_subject(model, tiny_tokenizer, MASKED_TEXT)
    with torch.no_grad():
        expected = model(**_accepted(model, tiny_tokenizer(MASKED_TEXT, return_tensors="pt"))).logits[0, 4]
    torch.testing.assert_close(logits(subject, subject.inputs), expected, rtol=1e-4, atol=1e-5)
    assert subject.tokens[4] == "[MASK]" and subject.place == " at token 4"
    masked_out = make_subject(model, tiny_tokenizer, TINY_TEXT, position=4)
    assert torch.equal(masked_out.inputs, subject.inputs) and masked_out.tokens == subject.tokens


def _accepted(model: nn.Module, encoding: Any) -> dict[str, torch.Tensor]:
    names = inspect.signature(model.forward).parameters
    return {name: value for name, value in encoding.items() if name in names}


def test_the_reference_keeps_the_mask(tiny_tokenizer: Any) -> None:
    model = make_language_model("bert", masked=True)
    subject = make_subject(model, tiny_tokenizer, MASKED_TEXT)
    assert subject.reference_tokens == ("[CLS]", *["[PAD]"] * 3, "[MASK]", "[PAD]", "[SEP]")
    assert subject.reference == "pad, [MASK] kept, positions same"
    zero = make_subject(model, tiny_tokenizer, MASKED_TEXT, reference="zero")
    assert zero.reference_tokens == ("[CLS]", *["[zero]"] * 3, "[MASK]", "[zero]", "[SEP]")
    assert torch.equal(zero.baselines[0, 4], subject.inputs[0, 4]) and not zero.baselines[0, 3].any()
    other = make_subject(model, tiny_tokenizer, MASKED_TEXT, reference="a film is bad .")
    assert other.reference_tokens == ("[CLS]", "a", "film", "is", "[MASK]", ".", "[SEP]")


def test_decoders_without_padding(byte_tokenizer: Any) -> None:
    model = make_language_model("gpt2", vocab_size=300)
    subject = make_subject(model, byte_tokenizer, "the movie was great")
    assert subject.reference_tokens == (END_OF_TEXT,) * 4 and subject.special == (False,) * 4
    assert subject.reference == f"eos token {END_OF_TEXT} (there is no pad token)"
    bare = type(byte_tokenizer)(tokenizer_object=byte_tokenizer.backend_tokenizer)
    with pytest.raises(InputError, match="the tokenizer has no pad token: choose the reference zero"):
        make_subject(model, bare, "the movie was great")


@pytest.mark.rounding
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "mamba"])
def test_exact_attributions_of_a_next_token_add_up(architecture: str, tiny_tokenizer: Any) -> None:
    """What comes after the position has no part in it."""
    model = make_language_model(architecture).double()
    subject = make_subject(model, tiny_tokenizer, TINY_TEXT, position=3, target=9)
    trace = _exact(subject)
    with torch.no_grad():
        expected = float(model(**_accepted(model, tiny_tokenizer(TINY_TEXT, return_tensors="pt"))).logits[0, 3, 9])
    bound = of_delta(trace, LONGEST_SUM)  # Llama's norms and Mamba's states are float32 in any model
    assert (np.abs(trace.run.output - expected) <= bound).all() and (np.abs(trace.delta) <= bound).all()
    scores = trace.attributions[0][0].sum(axis=-1)
    assert not scores[4:].any() and np.count_nonzero(scores) == 3  # [CLS] is the reference's too


def test_exact_attributions_of_a_masked_token_add_up(tiny_tokenizer: Any) -> None:
    subject = make_subject(make_language_model("bert", masked=True).double(), tiny_tokenizer, MASKED_TEXT)
    trace = _exact(subject)
    np.testing.assert_allclose(trace.run.output, [float(logits(subject, subject.inputs).max())], rtol=1e-9)
    assert trace.run.relative_delta < 1e-9 and trace.run.output[0] != trace.run.output_reference[0]


def _exact(subject: Subject) -> Any:
    return record(
        subject.model,
        subject.inputs,
        subject.baselines,
        target=subject.target,
        method="exact",
        additional_forward_args=subject.additional_forward_args or None,
    )


def test_captum_runs_on_language_models(byte_tokenizer: Any) -> None:
    subject = make_subject(make_language_model("gpt2", vocab_size=300), byte_tokenizer, "the movie was great")
    trace = record(
        subject.model, subject.inputs, subject.baselines, target=subject.target,
        additional_forward_args=subject.additional_forward_args,
    )  # fmt: skip
    bound = of_delta(trace, LONGEST_SUM)[0]
    assert trace.run.output[0] == pytest.approx(float(logits(subject, subject.inputs).max()), rel=0, abs=bound)


def test_targets_by_id_entry_and_text(byte_tokenizer: Any) -> None:
    model = make_language_model("gpt2", vocab_size=300)
    great = byte_tokenizer.get_vocab()["Ġgreat"]
    for target in (great, str(great), "Ġgreat", " great"):
        assert make_subject(model, byte_tokenizer, "the movie was", target=target).target == great
    subject = make_subject(model, byte_tokenizer, "the movie was", target=299)  # past the tokenizer's last token
    assert subject.target_name == "299 (#299) after token 2 (Ġwas)"


def test_few_outputs_of_a_vocabulary_are_shown(byte_tokenizer: Any) -> None:
    model = make_language_model("gpt2", vocab_size=300)
    own = make_subject(model, byte_tokenizer, "the movie was")
    values = logits(own, own.inputs)
    falling = values.argsort(descending=True).tolist()
    assert list(own.shown) == falling[:6] and own.row == 0
    given = make_subject(model, byte_tokenizer, "the movie was", target=falling[-1])
    assert list(given.shown) == [falling[-1], *falling[:5]]
    assert given.labels[1] == byte_tokenizer.convert_ids_to_tokens(falling[0])


BAD = [
    ({"position": 4}, "position 4 is out of range: the text has 4 tokens, at 0 to 3 or, from the end, -4 to -1"),
    ({"position": -5}, "position -5 is out of range"),
    ({"target": 300}, "target 300 is out of range: the model predicts token ids 0 to 299"),
    ({"target": "-1"}, "target -1 is out of range"),
    ({"target": " great movie"}, "target ' great movie' is 2 tokens of this tokenizer ('Ġgreat', 'Ġmovie'): give one"),
    ({"target": ""}, "target '' is 0 tokens of this tokenizer (none): give one token or its id"),
]


@pytest.mark.parametrize(("bad", "message"), BAD)
def test_mistakes_in_one_line(bad: dict[str, Any], message: str, byte_tokenizer: Any) -> None:
    with pytest.raises(InputError) as caught:
        make_subject(make_language_model("gpt2", vocab_size=300), byte_tokenizer, "the movie was great", **bad)
    assert str(caught.value).startswith(message)


BAD_MASKED = [
    ({"text": TINY_TEXT}, "the text holds no [MASK]: put one where a token is to be predicted, or name the position"),
    ({"text": "[MASK] was [MASK]"}, "the text holds 2 masks, at positions 1, 3: name one of them with a position"),
    ({"position": 0}, "position 0 is [CLS], which the tokenizer added: name a token of the text"),
    ({"target": "wonderful"}, "target 'wonderful' is not a token of this tokenizer: give one token or its id"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_MASKED)
def test_mistakes_with_masks_in_one_line(bad: dict[str, Any], message: str, tiny_tokenizer: Any) -> None:
    with pytest.raises(InputError) as caught:
        make_subject(make_language_model("bert", masked=True), tiny_tokenizer, **({"text": MASKED_TEXT} | bad))
    assert str(caught.value).startswith(message)


def test_models_and_tasks_that_do_not_fit(
    tiny: Callable[..., nn.Module], tiny_tokenizer: Any, byte_tokenizer: Any
) -> None:
    with pytest.raises(InputError, match="a classifier answers to the whole text: leave the position out"):
        make_subject(tiny("bert"), tiny_tokenizer, TINY_TEXT, position=1)
    with pytest.raises(InputError, match="no class has the label 'good': the model has classes 0 to 2"):
        make_subject(tiny("bert"), tiny_tokenizer, TINY_TEXT, target="good")
    assert make_subject(tiny("bert"), tiny_tokenizer, TINY_TEXT, target="LABEL_2").target == 2
    with pytest.raises(InputError, match="the tokenizer has no mask token"):
        make_subject(make_language_model("gpt2", vocab_size=300), byte_tokenizer, "the movie", task="masked")
    with pytest.raises(ModelError, match=r"logits of shape \(1, 3\), not \(examples, tokens, vocabulary\)"):
        make_subject(tiny("bert"), tiny_tokenizer, TINY_TEXT, task="causal")


def test_models_that_give_all_logits_or_the_last() -> None:
    class Model(nn.Module):
        def forward(self, inputs_embeds: torch.Tensor, logits_to_keep: int = 0) -> torch.Tensor:
            return inputs_embeds[:, -logits_to_keep:] if self.keeps else inputs_embeds

    embeddings = torch.randn(2, 5, 3)
    for keeps in (True, False):
        model = Model()
        model.keeps = keeps  # type: ignore[assignment]
        for position in (0, 2, 4):
            assert torch.equal(EmbeddingLanguageModel(model, (), False, position)(embeddings), embeddings[:, position])


def test_the_task_is_read_off_the_architecture(
    gpt2: Path, masked_bert: Path, tiny_bert_folder: Path, tmp_path: Path
) -> None:
    names = {
        "GPT2LMHeadModel": "causal", "MistralForCausalLM": "causal", "BertForMaskedLM": "masked", "BertModel": None,
        "XLMWithLMHeadModel": None, "T5ForConditionalGeneration": None, "GPT2ForSequenceClassification": "classify",
    }  # fmt: skip
    assert {name: task_of(name) for name in names} == names
    for folder, kind in ((gpt2, "GPT2LMHeadModel"), (masked_bert, "BertForMaskedLM")):
        assert type(load_subject(str(folder))[0]).__name__ == kind
    config = json.loads((gpt2 / "config.json").read_text())
    for architectures, seen in ((["GPT2DoubleHeadsModel"], "GPT2DoubleHeadsModel"), (None, "of no named architecture")):
        (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": architectures}))
        with pytest.raises(ModelError, match=f"is {seen}, by its name no .* with --task classify, causal, masked"):
            load_subject(str(tmp_path))


def call(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.mark.parametrize("method", ["exact", "captum", "gradient"])
def test_a_next_token_from_the_command_line(
    gpt2: Path, tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gpt2.dltrace"
    assert call("trace", gpt2, "--text", "the movie was", "--target", " great", "--method", method, "-o", file) == 0
    assert capsys.readouterr().out == f"{file}\n"
    assert call("report", file, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["method"] == method and data["target"].endswith("(Ġgreat) after token 2 (Ġwas)")
    assert [row["token"] for row in data["tokens"]] == ["the", "Ġmovie", "Ġwas"]
    assert len(data["panel"]["labels"]) == len(data["panel"]["output"]) == 6 and data["panel"]["labels"][0] == "Ġgreat"
    assert data["panel"]["output"][0] == pytest.approx(data["output"], rel=1e-4)
    name = {"exact": "DeepLIFT (exact)", "captum": "DeepLIFT (captum)", "gradient": "gradient × Δ"}[method]
    assert data["panel"]["rankings"][-1]["name"] == name
    with open_trace(file) as trace:
        assert bool(abs(trace.delta[0]) <= of_delta(trace, LONGEST_SUM)[0]) is (method == "exact")


def test_a_masked_token_from_the_command_line(
    masked_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bert.dltrace"
    assert call("trace", masked_bert, "--text", MASKED_TEXT, "--target", "great", "--method", "exact", "-o", file) == 0
    capsys.readouterr()
    assert call("report", file, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["target"] == "12 (great) at token 4"
    with open_trace(file) as trace:
        assert abs(trace.delta[0]) <= of_delta(trace, LONGEST_SUM)[0]


def test_a_rule_of_ones_own(gpt2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One norm taken as linear leaks, and it alone."""
    arguments = ("--text", "the movie was", "--method", "exact", "--rule", "transformer.ln_f=gradient")
    assert call("trace", gpt2, *arguments, "-o", tmp_path / "a.dltrace") == 0
    capsys.readouterr()
    assert call("report", tmp_path / "a.dltrace", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    leaks = {node["path"]: abs(node["self_leak"]) for node in data["nodes"]}
    assert leaks.pop("transformer.ln_f") > 1e3 * max(leaks.values())
    assert data["panel"]["rankings"][-1]["name"] == "DeepLIFT (exact), 1 own rule"
    with pytest.raises(SystemExit, match="2"):
        call("trace", gpt2, "--text", "the movie", "--rule", "softmax", "-o", tmp_path / "b.dltrace")
    assert "rule 'softmax' is not of the form PATTERN=RULE" in capsys.readouterr().err
