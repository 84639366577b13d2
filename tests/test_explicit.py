"""Explicit modules: the same output, the modules where they belong, captum ruling them, and nothing left behind."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from captum.attr import DeepLift
from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from tests.rounding import of_sum
from tests.tiny import ARCHITECTURES, TINY_TEXT
from tracer.errors import InputError, ModelError
from tracer.model.eager_attention import eager_attention
from tracer.model.explicit import explicit
from tracer.subject.text import Subject, make_subject

Tiny = Callable[..., nn.Module]
BOTH = ("softmax", "gelu")


def arguments(subject: Subject) -> tuple[torch.Tensor, ...]:
    return (subject.inputs, *subject.additional_forward_args)


def state(model: nn.Module) -> list[object]:
    """Everything that a context could leave behind."""
    modes = torch._C._len_torch_function_stack()
    found: list[object] = [dict(SUPPORTED_NON_LINEAR), torch.backends.mha.get_fastpath_enabled(), modes]
    for path, module in model.named_modules():
        hooks = [(name, list(value)) for name, value in sorted(vars(module).items()) if name.endswith("hooks")]
        config = getattr(getattr(module, "config", None), "_attn_implementation", None)
        found.append((path, id(module), sorted(vars(module)), list(module._modules), module.training, hooks, config))
    return found


def delta(model: nn.Module, subject: Subject) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _attributions, delta = DeepLift(model).attribute(
            subject.inputs,
            subject.baselines,
            target=subject.target,
            additional_forward_args=subject.additional_forward_args,
            return_convergence_delta=True,
        )
    return float(delta)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "gelu_fast", "gelu_python", "gelu_pytorch_tanh"])
@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_every_gelu(architecture: str, activation: str, tiny: Tiny, tiny_tokenizer: Any) -> None:
    names = {"hidden_act": activation, "activation_function": activation}
    check_architecture(tiny(architecture, **names), tiny_tokenizer)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture(architecture: str, tiny: Tiny, tiny_tokenizer: Any) -> None:
    names = {"hidden_act": "gelu", "activation": "gelu", "hidden_activation": "gelu"}
    check_architecture(tiny(architecture, **names), tiny_tokenizer)


def check_architecture(model: nn.Module, tokenizer: Any) -> None:
    """The output does not change, each attention layer and GELU runs as a module, and all is undone."""
    subject = make_subject(model, tokenizer, TINY_TEXT)
    before = state(model)
    with torch.no_grad():
        expected = subject.model(*arguments(subject))
    with explicit(subject.model, BOTH, arguments(subject)) as variant:
        assert variant == "softmax and GELU explicit"
        calls: list[tuple[str, type[nn.Module]]] = []
        for module, path in subject.names.items():
            if type(module) in (nn.Softmax, nn.GELU):
                hook = lambda module, _args, _output, path=path: calls.append((path, type(module)))  # noqa: E731
                module.register_forward_hook(hook)
        with Functions() as functions, torch.no_grad():
            torch.testing.assert_close(subject.model(*arguments(subject)), expected, rtol=1e-5, atol=1e-5)
        assert [kind for _path, kind in calls].count(nn.Softmax) == 2  # both layers
        assert [kind for _path, kind in calls].count(nn.GELU) >= 2
        assert functions.seen.count("softmax") == 2 and functions.seen.count("gelu") == len(calls) - 2
        assert "tanh_in_gelu" not in functions.seen
    assert state(model) == before


class Functions(TorchFunctionMode):
    """The softmax and GELU functions that really run, seen from outside, as an observer sees them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in ("softmax", "gelu"):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def test_paths_in_bert(tiny: Tiny, tiny_tokenizer: Any) -> None:
    subject = make_subject(tiny("bert"), tiny_tokenizer, TINY_TEXT)
    shipped = set(subject.names.values())
    with explicit(subject.model, BOTH, arguments(subject)):
        assert set(subject.names.values()) - shipped == {
            f"bert.encoder.layer.{layer}.{path}"
            for layer in (0, 1)
            for path in ("attention.self.softmax", "intermediate.intermediate_act_fn.gelu")
        }
    with explicit(subject.model, {"softmax"}, arguments(subject)) as variant:
        assert variant == "softmax explicit" and nn.GELU not in SUPPORTED_NON_LINEAR
        assert {path.rpartition(".")[2] for path in set(subject.names.values()) - shipped} == {"softmax"}
    with explicit(subject.model, set(), arguments(subject)) as variant:
        assert variant == "as shipped" and set(subject.names.values()) == shipped


def test_captum_rules_them(tiny: Tiny, tiny_tokenizer: Any) -> None:
    subject = make_subject(tiny("bert"), tiny_tokenizer, TINY_TEXT, target=0)
    deltas = []
    for kinds in ((), ("softmax",), BOTH):
        with explicit(subject.model, kinds, arguments(subject)):
            deltas.append(delta(subject.model, subject))
    assert len({round(value, 3) for value in deltas}) == 3
    assert delta(subject.model, subject) == pytest.approx(deltas[0], rel=1e-5)


def test_a_shared_layer_runs_right_and_captum_refuses_it(tiny: Tiny, tiny_tokenizer: Any) -> None:
    subject = make_subject(tiny("albert", hidden_act="gelu"), tiny_tokenizer, TINY_TEXT)
    before = state(subject.model)
    with pytest.raises(RuntimeError, match="used more than once"), explicit(subject.model, BOTH, arguments(subject)):
        delta(subject.model, subject)
    assert state(subject.model) == before


class Mixed(nn.Module):
    """Functional softmaxes of every spelling, between modules that call softmax themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.softmax = nn.Softmax(dim=-1)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.fail = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.softmax(x) + F.softmax(x, dim=1)
        x = x + torch.softmax(x, -1) + F.gelu(x, approximate="tanh")
        if self.fail:
            raise ValueError("on purpose")
        x = x + self.attention(x, x, x)[0]
        return x + x.softmax(dim=2) + F.softmax(x.half(), dim=-1, dtype=torch.float32)


def test_spellings_and_order() -> None:
    model = Mixed().eval()
    x = torch.randn(2, 3, 4)
    with torch.no_grad():
        expected = model(x)
    before = state(model)
    with explicit(model, BOTH, (x,)):
        with torch.no_grad():
            torch.testing.assert_close(model(x), expected)
        children = dict(model.named_children())
        assert list(children) == ["softmax", "attention", "softmax_1", "softmax_2", "gelu", "softmax_3", "softmax_4"]
        assert [children[f"softmax_{number}"].dim for number in (1, 2, 3, 4)] == [1, -1, 2, -1]
        assert children["gelu"].approximate == "tanh"
        assert isinstance(model.attention.softmax, nn.Softmax)
        seen: list[torch.dtype] = []
        model.softmax_4.register_forward_pre_hook(lambda _module, args: seen.append(args[0].dtype))  # type: ignore[operator, union-attr]
        with Functions() as functions:
            model(x)
        assert functions.seen.count("softmax") == 6 and seen == [torch.float32]
    assert state(model) == before


def test_undone_after_an_error() -> None:
    model = Mixed().eval()
    x = torch.randn(2, 3, 4)
    before = state(model)
    with pytest.raises(ValueError, match="on purpose"), explicit(model, BOTH, (x,)):
        model.fail = True
        model(x)
    assert state(model) == before
    with pytest.raises(ValueError, match="on purpose"), explicit(model, BOTH, (x,)):  # the dry run fails
        pytest.fail("entered")
    assert state(model) == before
    model.fail = False
    with explicit(model, BOTH, (x,)):
        model.fail = True
        with pytest.raises(ValueError, match="on purpose"):
            model(x)
        assert torch._C._len_torch_function_stack() == 0
        model.fail = False
        with Functions() as functions:
            model(x)
        assert functions.seen.count("softmax") == 6
    assert state(model) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_undone_after_an_interrupt(error: type[BaseException]) -> None:
    """torch calls a module's `always_call` hooks after an Exception only."""

    class Interrupted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fail = False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = F.softmax(x, dim=-1)
            if self.fail:
                raise error
            return F.gelu(x)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Interrupted()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.softmax(self.inner(F.softmax(x, dim=-1)), dim=-1)

    model = Outer()
    x = torch.randn(2, 3)
    expected = model(x)
    before = state(model)
    with Functions() as around:
        with pytest.raises(error), explicit(model, BOTH, (x,)), Functions():
            model.inner.fail = True
            model(x)
        assert torch.overrides._get_current_function_mode_stack() == [around]  # type: ignore[no-untyped-call]
    assert state(model) == before
    with pytest.raises(error), explicit(model, BOTH, (x,)):  # the dry run is interrupted
        pytest.fail("entered")
    assert state(model) == before
    model.inner.fail = False
    with explicit(model, BOTH, (x,)):
        model.inner.fail = True
        with pytest.raises(error):
            model(x)
        model.inner.fail = False
        with Functions() as functions:
            torch.testing.assert_close(model(x), expected)
        assert functions.seen == ["softmax", "softmax", "gelu", "softmax"]
    assert state(model) == before
    torch.testing.assert_close(model(x), expected, rtol=0, atol=0)


def test_the_dry_run_moves_nothing() -> None:
    class Trained(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(3)
            self.dropout = nn.Dropout(0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.softmax(self.dropout(self.norm(x)), dim=-1)

    model = Trained().train()
    torch.manual_seed(1)
    drawn = torch.rand(3)
    torch.manual_seed(1)
    with explicit(model, {"softmax"}, (torch.randn(4, 3, generator=torch.Generator().manual_seed(0)),)):
        assert model.training and model.norm.training and model.softmax.training  # type: ignore[union-attr]
    assert model.norm.num_batches_tracked == 0
    assert torch.equal(torch.rand(3), drawn)


def test_an_activation_in_two_places_runs_as_two() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = self.second = nn.GELU()
            self.between = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.between(self.first(x))).sum(-1, keepdim=True)

    model = Twice()
    x, reference = torch.tensor([[0.5, -1.0, 2.0]]), torch.zeros(1, 3)
    with explicit(model, {"gelu"}, (x,)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _attributions, left = DeepLift(model).attribute(x, reference, target=0, return_convergence_delta=True)
        assert model.first is not model.second
        assert abs(float(left)) <= of_sum(torch.float32, 3, x, model(x), model(reference))
    assert model.first is model.second and nn.GELU not in SUPPORTED_NON_LINEAR


def test_a_gelu_that_captum_already_rules_stays() -> None:
    rule = SUPPORTED_NON_LINEAR[nn.Tanh]
    SUPPORTED_NON_LINEAR[nn.GELU] = rule
    try:
        with explicit(nn.GELU(), {"gelu"}, (torch.ones(1, 2),)):
            pass
        assert SUPPORTED_NON_LINEAR[nn.GELU] is rule
    finally:
        del SUPPORTED_NON_LINEAR[nn.GELU]


def test_what_cannot_be_made_explicit() -> None:
    x = torch.randn(1, 3, 4)
    with pytest.raises(ModelError, match="the model calls no softmax and no gelu: there is nothing to make explicit"):
        explicit(nn.Linear(4, 4), BOTH, (x,)).__enter__()
    one = "^the model calls no gelu; softmax can be made explicit: --explicit softmax$"
    with pytest.raises(ModelError, match=one):
        explicit(nn.Sequential(nn.Linear(4, 4), nn.Softmax(-1)), BOTH, (x,)).__enter__()
    with pytest.raises(InputError, match="cannot make 'relu' explicit: choose among softmax, gelu"):
        explicit(nn.Linear(4, 4), {"relu"}, (x,)).__enter__()
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()
    with pytest.raises(ModelError, match="scaled_dot_product_attention, that hides its softmax"):
        explicit(layer, {"softmax"}, (x,)).__enter__()


def test_eager_attention_is_for_a_while(tiny: Tiny) -> None:
    model: Any = tiny("bert")
    assert model.config._attn_implementation == "sdpa"
    with pytest.raises(KeyError), eager_attention(nn.Sequential(model)):
        assert model.config._attn_implementation == "eager"
        raise KeyError
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("positions", "limits"), [("zero", [(1, 3), (1e4, 1e7), (1e5, 1e8)]), ("same", [(1, 3), (1e3, 1e5), (1e2, 1e4)])]
)
def test_the_issue_519_on_the_demo(positions: Any, limits: list[tuple[float, float]], demo: Any) -> None:
    """captum's delta as shipped is about one output difference; with the softmax explicit it explodes."""
    from tracer.demo.model import TARGET, TEXT

    subject = make_subject(*demo, TEXT, target=TARGET, reference_positions=positions)
    for kinds, (least, most) in zip(((), ("softmax",), BOTH), limits, strict=True):
        with explicit(subject.model, kinds, arguments(subject)):
            assert least < abs(delta(subject.model, subject)) < most
