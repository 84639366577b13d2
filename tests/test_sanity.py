"""The sanity panel: its figures against the notebook's own formulas, and its warnings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.tiny import TINY_TEXT
from tracer.records import HookReport, Ranking
from tracer.subject.sanity_panel import attention_by_token, sanity_panel
from tracer.subject.text import Subject, make_subject

Tiny = Callable[..., nn.Module]


@pytest.fixture(scope="module")
def subject(tiny: Tiny, tiny_tokenizer: Any) -> Subject:
    return make_subject(tiny("bert", num_hidden_layers=5), tiny_tokenizer, TINY_TEXT, target=2)


def test_attention_is_the_notebooks(subject: Subject, tiny_tokenizer: Any) -> None:
    model: Any = subject.model.inner
    model.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = model(**tiny_tokenizer(TINY_TEXT, return_tensors="pt"), output_attentions=True).attentions
    model.set_attn_implementation("sdpa")
    expected = torch.stack(attentions)[range(1, 5)].mean(dim=(0, 1, 2, 3))
    attention = attention_by_token(subject)
    assert attention is not None
    np.testing.assert_allclose(attention, expected, rtol=1e-5)
    normalised = np.asarray(Ranking("attention", attention).normalised)
    np.testing.assert_allclose(normalised, expected / torch.norm(expected), rtol=1e-5)
    assert model.config._attn_implementation == "sdpa"


def test_panel(subject: Subject) -> None:
    steps: list[tuple[str, int, int]] = []
    attributions = torch.randn(1, 7, 16)
    hooks = HookReport("0.9.0", "captum", {"Tanh": 1}, {"gelu": 2})
    progress = lambda *step: steps.append(step)  # noqa: E731
    panel = sanity_panel(subject, attributions, 0.0, "exact", hooks, steps=30, progress=progress)
    with torch.no_grad():
        extras = subject.additional_forward_args
        output, reference = subject.model(subject.inputs, *extras)[0], subject.model(subject.baselines, *extras)[0]
    np.testing.assert_allclose(panel.output, output, rtol=1e-6)
    np.testing.assert_allclose(panel.output_reference, reference, rtol=1e-6)
    assert panel.labels == ("LABEL_0", "LABEL_1", "LABEL_2") and panel.hooks is hooks
    assert [ranking.name for ranking in panel.rankings] == ["attention", "Integrated Gradients, 30 steps", "exact"]
    attention, gradients, own = panel.rankings
    assert attention.delta is None and len(attention.scores) == 7
    change = float(output[2] - reference[2])
    assert gradients.delta is not None
    assert gradients.delta == pytest.approx(sum(gradients.scores) - change, abs=1e-4)
    np.testing.assert_allclose(own.scores, attributions[0].sum(-1), rtol=1e-5)
    assert (own.delta, own.relative_delta, own.note) == (0.0, 0.0, "")
    assert steps == [("Integrated Gradients", done, 30) for done in (10, 20, 30)]


def test_arrays_and_tuples_are_attributions_too(subject: Subject) -> None:
    attributions = torch.randn(1, 7, 16)
    scores = [
        sanity_panel(subject, given, 0.0, "x", None, steps=1).rankings[-1].scores
        for given in (attributions, (attributions,), (attributions.numpy(),))
    ]
    assert scores[0] == scores[1] == scores[2]


def test_a_large_delta_is_said_in_words(subject: Subject) -> None:
    panel = sanity_panel(subject, torch.zeros(1, 7, 16), float("nan"), "captum", None, steps=2)
    assert panel.rankings[-1].note.startswith("captum does not add up: its delta is nan")
    same = replace(subject, baselines=subject.inputs)
    last = sanity_panel(same, torch.zeros(1, 7, 16), 1e-3, "captum", None, steps=2).rankings[-1]
    assert last.relative_delta == float("inf") and last.note


def test_integrated_gradients_on_the_demo(demo: Any, demo_subject: Subject) -> None:
    """With all reference positions zero 100 steps are not enough, and the panel says so; at the input's they are."""
    from tracer.demo.model import TARGET, TEXT

    nothing = torch.zeros_like(demo_subject.inputs)
    zero = sanity_panel(demo_subject, nothing, 0.0, "none", None).rankings[1]
    assert zero.relative_delta is not None and zero.relative_delta > 0.05
    assert zero.note.startswith("Integrated Gradients has not converged: its delta is ")
    assert zero.note.endswith("do not read it as the truth")
    same = make_subject(*demo, TEXT, target=TARGET)
    converged = sanity_panel(same, nothing, 0.0, "none", None, steps=50).rankings[1]
    assert converged.note == ""
    ranked = sorted(zip(converged.scores, same.tokens, strict=True), reverse=True)
    assert {token for _score, token in ranked[:2]} == {"amazing", "great"}


def test_a_model_without_attentions() -> None:
    class Bag(nn.Module):
        def forward(self, inputs_embeds: torch.Tensor) -> torch.Tensor:
            return inputs_embeds.mean(1)

    from tracer.subject.classifier import EmbeddingClassifier

    inputs = torch.randn(1, 3, 2)
    bag = Subject(
        EmbeddingClassifier(Bag(), (), False), inputs, torch.zeros_like(inputs), (), 1, ("a", "b", "c"), ("0",) * 3,
        (False,) * 3, "bag", ("no", "yes"), "a b c", "zero",
    )  # fmt: skip
    panel = sanity_panel(bag, inputs, 0.0, "exact", None, steps=3)
    assert [ranking.name for ranking in panel.rankings] == ["Integrated Gradients, 3 steps", "exact"]
    np.testing.assert_allclose(panel.rankings[0].scores, inputs[0, :, 1] / 3, rtol=1e-5)
