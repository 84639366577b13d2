"""Rulebooks: patterns, and captum's rules against captum."""

from __future__ import annotations

import warnings

import captum.attr
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import tracer
from tests.rules.pairs import pair
from tracer.errors import InputError
from tracer.exact.deeplift import DeepLift
from tracer.rules.rulebook import Rulebook, fits, recorded_names, recorded_op

warnings.filterwarnings("ignore", message="Setting forward, backward hooks")


def test_patterns_match_path_module_type_and_op_and_the_last_one_holds() -> None:
    book = Rulebook.parse("captum", ["*/softmax=exact", "layer.0*=gradient", "LayerNorm=rescale", "gelu=exact"])

    def rule(op: str, path: str, module_type: str) -> str:
        override = book.override(op, path, module_type)
        return book.default if override is None else override.rule

    assert rule("softmax", "layer.1.attention", "Attention") == "exact"
    assert rule("softmax", "layer.0.attention", "Attention") == "gradient"
    assert rule("layer_norm", "layer.0.norm", "LayerNorm") == "rescale"
    assert rule("gelu", "layer.0.act", "GELUActivation") == "exact"
    assert rule("matmul", "layer.1", "Block") == "captum"
    assert str(book) == "captum */softmax=exact layer.0*=gradient LayerNorm=rescale gelu=exact"


_OP, _PATH = st.sampled_from(["add", "softmax"]), st.sampled_from(["", "a", "a.add", "b.softmax"])
_TYPE, _WITHIN = st.sampled_from(["A", "Softmax"]), st.sampled_from(["", "normalize", "outer/inner"])
_WHOLE = st.sampled_from(["a", "a/add", "*/normalize/*", "b.*", "b.softmax/softmax", "a.add/*/inner/*", "/*", "add"])
_PARTS = st.sampled_from([*"*?/.aA", "add", "softmax", "Softmax", "normalize", "[!a]"])
_PATTERN = st.one_of(_WHOLE, st.lists(_PARTS, min_size=1, max_size=5).map("".join))


@settings(max_examples=500)
@given(op=_OP, path=_PATH, module_type=_TYPE, within=_WITHIN, pattern=_PATTERN)
def test_a_pattern_fits_a_call_in_a_trace_as_it_fits_the_call_itself(
    op: str, path: str, module_type: str, within: str, pattern: str
) -> None:
    override = Rulebook.parse("captum", [f"{pattern}=exact"]).override(op, path, module_type, within)
    recorded = recorded_names("op", op, f"{path}/{within}/{op}" if within else f"{path}/{op}", module_type)
    assert fits([pattern], recorded) == (override is not None)


ATOMIC = (
    nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(), nn.ELU(), nn.CELU(), nn.SELU(), nn.GELU(), nn.SiLU(), nn.Mish(), nn.GLU(),
    nn.Sigmoid(), nn.LogSigmoid(), nn.Tanh(), nn.Tanhshrink(), nn.Softplus(), nn.Softsign(), nn.Softshrink(),
    nn.Hardshrink(), nn.Hardsigmoid(), nn.Hardswish(), nn.Hardtanh(), nn.Threshold(0.1, 0.2), nn.PReLU(), nn.RReLU(),
    nn.Softmax(-1), nn.LogSoftmax(-1), nn.Softmin(-1), nn.LayerNorm(4), nn.RMSNorm(4), nn.GroupNorm(1, 4),
    nn.InstanceNorm1d(4), nn.BatchNorm1d(4), nn.LocalResponseNorm(2), nn.MaxPool1d(2), nn.AdaptiveMaxPool1d(2),
    nn.LSTM(4, 2), nn.GRU(4, 2), nn.RNN(4, 2),
)  # fmt: skip


@pytest.mark.parametrize("module", ATOMIC, ids=lambda module: type(module).__name__)
def test_a_module_in_a_trace_has_the_names_by_which_the_rulebook_meets_it(module: nn.Module) -> None:
    """No pattern made of them is refused as fitting no call."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = module

        def forward(self, x: Tensor) -> Tensor:
            found = self.part(x)
            return (found if isinstance(found, Tensor) else found[0]).sum((1, 2))

    kind = type(module).__name__
    model = Model().eval().requires_grad_(False)
    if isinstance(module, nn.BatchNorm1d):
        model.train()  # in evaluation it is linear and has no rule
    patterns = ["part", "part/*", kind, *filter(None, [recorded_op("module", kind)])]
    assert all(fits([pattern], recorded_names("module", kind, "part", kind)) for pattern in patterns)
    for pattern in patterns:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            DeepLift(model, rulebook=Rulebook.parse("gradient", [f"{pattern}=exact"])).attribute(torch.rand(2, 4, 4))


@pytest.mark.parametrize(
    ("default", "rules", "words"),
    [
        ("best", [], "no rule is called 'best'"),
        ("exact", ["softmax"], "PATTERN=RULE"),
        ("exact", ["a=b"], "no rule is called 'b'"),
    ],
)
def test_a_bad_rulebook_says_what_is_wrong(default: str, rules: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Rulebook.parse(default, rules)


class Attention(nn.Module):
    """Softmax as a module, products and LayerNorm unruled, a residual around a ReLU (captum loses that path)."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.out = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.softmax, self.norm = nn.Softmax(-1), nn.LayerNorm(6)
        self.tanh, self.relu, self.sigmoid = nn.Tanh(), nn.ReLU(), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x + self.softmax(self.query(x) @ self.key(x).transpose(1, 2)) @ x)
        h = h + self.relu(h)
        return self.out(self.sigmoid(self.tanh(h)).mean(1))


class Convolution(nn.Module):
    """An in-place ReLU, pooling whose rule mixes both halves, ELU, softmax at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.pool = nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        self.elu, self.out, self.softmax = nn.ELU(), nn.Linear(36, 3), nn.Softmax(-1)
        self.soft, self.leaky = nn.Softplus(), nn.LeakyReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.elu(self.pool(self.relu(self.conv(x)))).flatten(1)
        return self.softmax(self.leaky(self.out(self.soft(h))))


MODELS = {"attention": (Attention, (3, 4, 6)), "convolution": (Convolution, (3, 2, 6, 6))}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("target", [1, [0, 1, 2], torch.tensor([2, 1, 0])])
def test_captums_rules_agree_with_captum(kind: str, target: object) -> None:
    torch.manual_seed(0)
    build, shape = MODELS[kind]
    model = build().double().eval()
    x, x_ref = torch.randn(shape).double(), torch.randn(shape).double()
    x_ref[:, 0] = x[:, 0]  # equal elements: captum falls back to the gradient there
    theirs, their_delta = captum.attr.DeepLift(model).attribute(x, x_ref, target=target, return_convergence_delta=True)
    ours, our_delta = DeepLift(model, rulebook=Rulebook("captum")).attribute(
        x, x_ref, target=target, return_convergence_delta=True
    )
    assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9 * float(theirs.abs().max()))
    assert torch.allclose(our_delta, their_delta, rtol=1e-9, atol=1e-12)
    assert float(their_delta.abs().max()) > 1e-3  # else this compares nothing


def test_captums_rules_take_the_gelu_that_a_caller_adds_to_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    from captum.attr._core import deep_lift

    monkeypatch.setitem(deep_lift.SUPPORTED_NON_LINEAR, nn.GELU, deep_lift.nonlinear)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 2)).double()
    x, x_ref = torch.randn(3, 4).double(), torch.zeros(3, 4).double()
    theirs = captum.attr.DeepLift(model).attribute(x, x_ref, target=0)
    assert torch.allclose(DeepLift(model, rulebook=Rulebook("captum")).attribute(x, x_ref, target=0), theirs, rtol=1e-9)


def test_captums_rules_made_exact_one_after_the_other_close_the_delta() -> None:
    torch.manual_seed(0)
    model = Attention().double().eval()
    x, x_ref = torch.randn(3, 4, 6).double(), torch.randn(3, 4, 6).double()

    def delta(*rules: str) -> float:
        book = Rulebook.parse("captum", rules)
        _, found = DeepLift(model, rulebook=book).attribute(x, x_ref, target=1, return_convergence_delta=True)
        return float(found.abs().max())

    assert delta() > 1e-3
    assert delta("softmax=exact") != delta()
    assert delta("*=exact") < 1e-12
    assert (
        delta("softmax=exact", "matmul=exact", "LayerNorm=exact", "tanh=exact", "sigmoid=exact", "relu=exact") < 1e-12
    )


def test_captums_rules_handle_what_makes_captum_fail() -> None:
    """A module used twice is an error in captum; its rule itself has no such limit."""
    torch.manual_seed(0)
    relu = nn.ReLU()
    model = nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 4), relu, nn.Linear(4, 2)).double()
    twice = nn.Sequential(model[0], nn.ReLU(), model[2], nn.ReLU(), model[4])
    x, x_ref = torch.randn(3, 4).double(), torch.randn(3, 4).double()
    with pytest.raises(RuntimeError, match="used more than once"):
        captum.attr.DeepLift(model).attribute(x, x_ref, target=0)
    theirs = captum.attr.DeepLift(twice).attribute(x, x_ref, target=0)
    assert torch.allclose(DeepLift(model, rulebook=Rulebook("captum")).attribute(x, x_ref, target=0), theirs, rtol=1e-9)


def test_an_override_by_path_reaches_one_call_only() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Tanh(), nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x)) + F.relu(x)

    x, x_ref = torch.randn(5).double(), torch.randn(5).double()
    both = pair(Two(), x, x_ref)
    first = pair(Two(), x, x_ref, rulebook=Rulebook.parse("exact", ["first=gradient"]))
    h, h_ref = torch.tanh(x), torch.tanh(x_ref)
    slope = (torch.tanh(h) - torch.tanh(h_ref)) / (h - h_ref)
    relu = (F.relu(x) - F.relu(x_ref)) / (x - x_ref)
    assert torch.allclose(first.multipliers, slope * (1 - h * h) + relu, atol=1e-9)
    assert torch.allclose(both.multipliers, slope * (h - h_ref) / (x - x_ref) + relu, atol=1e-9)


def test_rows_picked_by_number_stay_in_their_half_of_a_doubled_batch() -> None:
    class Picks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x: Tensor, at: Tensor) -> Tensor:
            h = self.act(x).exp()
            return h[torch.arange(len(h)), at]

    torch.manual_seed(0)
    x, x_ref, at = torch.randn(3, 5).double(), torch.randn(3, 5).double(), torch.tensor([4, 0, 2])
    lift = DeepLift(Picks(), rulebook=Rulebook.parse("exact", ["relu=captum"]))
    found, delta = lift.attribute(x, x_ref, additional_forward_args=at, return_convergence_delta=True)
    assert float(delta.abs().max()) < 1e-9
    assert lift.notes == ()
    assert torch.equal(found != 0, F.one_hot(at, 5).bool() & (found != 0))


class Normalized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(self.inner(x), dim=1)


@pytest.mark.parametrize("method", ["captum", "exact"])
def test_a_path_of_the_ledger_inside_a_composite_op_is_a_pattern(method: str) -> None:
    torch.manual_seed(0)
    model, x = Normalized(), torch.randn(2, 4)
    other = "exact" if method == "captum" else "gradient"
    paths = [node.path for node in tracer.record(model, x, torch.ones_like(x), target=1).nodes]
    assert "/normalize/div" in paths
    run = {
        pattern: tracer.record(
            model,
            x,
            torch.ones_like(x),
            target=1,
            method=method,
            rules=[f"{pattern}={other}"],  # type: ignore[arg-type]
        ).delta
        for pattern in ("/normalize/div", "div", "/div")
    }
    plain = tracer.record(model, x, torch.ones_like(x), target=1, method=method).delta  # type: ignore[arg-type]
    np.testing.assert_array_equal(run["/normalize/div"], run["div"])
    np.testing.assert_array_equal(run["/normalize/div"], run["/div"])
    assert np.abs(run["div"] - plain).max() > 1e-3
