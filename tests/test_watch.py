"""Watching changes nothing: captum gives what it gives unwatched, and copies of a watched model are as without."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import DeepLift, DeepLiftShap, LayerDeepLift, LayerDeepLiftShap, NeuronDeepLift, NoiseTunnel
from torch import nn

import tracer
from tests.models import FunctionModel
from tracer.errors import ObservationError
from tracer.tracefile.trace import Trace


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def padded_encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return FunctionModel(
        lambda self, x, pad: self.last(self.encoder(x, src_key_padding_mask=pad).mean(1)),
        encoder=nn.TransformerEncoder(layer, 2), last=nn.Linear(8, 1),
    )  # fmt: skip


def padded_layer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return FunctionModel(lambda self, x, pad: self.layer(x, None, pad).mean(1), layer=layer)


def bare_layer() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)


def gated_layer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation=nn.ReLU())  # which captum hooks
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(24, 3))


X, PAD = torch.randn(2, 3, 8, generator=torch.manual_seed(4)), torch.tensor([[False, False, True], [False] * 3])
FUSED: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...], Any]] = {
    "encoder with padding": (padded_encoder, (PAD,), 0),
    "layer with padding": (padded_layer, (PAD,), 0),
    "the layer itself": (bare_layer, (), (1, 2)),
    "layer with a module that captum hooks": (gated_layer, (), 1),
}


def fused(name: str) -> tuple[nn.Module, Callable[[nn.Module], tuple[torch.Tensor, torch.Tensor]]]:
    """A model that torch runs in fused layers while gradients are off, and its attribution with a delta."""
    make, extras, target = FUSED[name]
    torch.manual_seed(1)
    model = make().eval()

    def attribute(model: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        found: tuple[torch.Tensor, torch.Tensor] = DeepLift(model).attribute(
            X.clone(), target=target, additional_forward_args=extras, return_convergence_delta=True
        )
        return found

    return model, attribute


@pytest.mark.parametrize("name", FUSED)
def test_captums_own_runs_take_torchs_fast_path_as_ever(name: str) -> None:
    model, attribute = fused(name)
    alone = attribute(model)
    with tracer.watch(model) as watching:
        watched = attribute(model)
        output = model(X, *FUSED[name][1]).detach()
        with torch.no_grad():
            inside = model(X, *FUSED[name][1])
    with torch.no_grad():
        outside = model(X, *FUSED[name][1])
    assert all(torch.equal(one, other) for one, other in zip(alone, watched, strict=True))
    assert torch.equal(inside, outside)
    assert not torch.equal(inside, output)  # otherwise nothing is tried here
    assert watching.trace.run.status == "complete"


@pytest.mark.parametrize("recorded", [False, True])
def test_a_model_with_another_function_without_gradients_is_named(recorded: bool) -> None:
    model, attribute = fused("encoder with padding")
    if recorded:
        trace = tracer.record(model, X, target=0, additional_forward_args=(PAD,))
    else:
        with tracer.watch(model) as watching:
            attribute(model)
        trace = watching.trace
    (note,) = [note for note in trace.notes if note.kind == "other without grad"]
    with torch.no_grad():
        without = [model(x, PAD) for x in (X, 0 * X)]
    with_grad = [model(x.clone().requires_grad_(), PAD).detach() for x in (X, 0 * X)]
    apart = sum(float((a - b).abs().sum()) for a, b in zip(without, with_grad, strict=True))
    assert note.amount == pytest.approx(apart, rel=1e-5)
    assert "other-without-grad" in [finding.kind for finding in tracer.diagnose(trace)]


def test_so_it_is_not_after_the_advice() -> None:
    model, attribute = fused("encoder with padding")
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with tracer.watch(model) as watching:
            _attributions, delta = attribute(model)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    assert not watching.trace.notes
    assert np.allclose(watching.trace.delta, delta.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["layer with a module that captum hooks", "the layer itself"])
def test_fused_layers_that_round_otherwise_are_no_other_function(name: str, dtype: torch.dtype) -> None:
    model, _attribute = fused(name)
    with tracer.watch(model.to(dtype)) as watching:
        DeepLift(model).attribute(X.to(dtype), target=FUSED[name][2], return_convergence_delta=True)
    assert not [finding for finding in tracer.diagnose(watching.trace) if finding.kind == "other-without-grad"]


def softmaxed() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4), nn.Softmax(1), nn.Linear(4, 2)).eval()


INPUTS = [3 * torch.randn(2, 3, generator=torch.manual_seed(7)), torch.randn(2, 3)]


class Mine(DeepLift):  # type: ignore[misc]
    """A subclass that changes nothing."""


class Hooking(Mine):
    """A subclass of a subclass with hooks of its own."""

    def _forward_pre_hook(self, module: nn.Module, inputs: Any) -> None:
        super()._forward_pre_hook(module, inputs)

    def _hook_main_model(self) -> Any:
        return super()._hook_main_model()


class Wrapping(DeepLift):  # type: ignore[misc]
    """A subclass with an `attribute` of its own."""

    def attribute(self, *args: Any, **kwargs: Any) -> Any:
        return abs(super().attribute(*args, **kwargs))


@pytest.mark.parametrize(
    "make",
    [
        Mine,
        Hooking,
        Wrapping,
        lambda model: type("DeepLift2", (DeepLiftShap,), {})(model),
        lambda model: NoiseTunnel(Mine(model)),
    ],
    ids=["mine", "hooking", "wrapping", "shap", "noise"],
)
def test_subclasses_and_wrappers_of_captums_are_captum(make: Callable[[nn.Module], Any]) -> None:
    found = []
    for each in (DeepLift, make):
        model = softmaxed()
        with tracer.watch(model) as watching:
            _attribute(each(model))
        found.append(watching.trace)
    assert [node.rule for node in found[1].nodes] == [node.rule for node in found[0].nodes]
    assert kinds(found[1])[0] == kinds(found[0])[0] == "softmax-normalised"


def _attribute(lift: Any) -> None:
    x, reference = (tensor.clone() for tensor in INPUTS)
    if isinstance(lift, NoiseTunnel):
        lift.attribute(x, baselines=reference, target=0, nt_samples=2)
    else:
        lift.attribute(x, reference, target=0)


def kinds(trace: Trace | None) -> list[str]:
    assert trace is not None
    return [finding.kind for finding in tracer.diagnose(trace)]


# --- copies -----------------------------------------------------------------------------------------------------------


def test_a_copy_of_a_watched_model_is_an_ordinary_one(tmp_path: Any) -> None:
    model, x = softmaxed(), INPUTS[0]
    expected = model(x).detach()
    average = torch.optim.swa_utils.AveragedModel(model)
    with tracer.watch(model) as watching:
        copies = [copy.deepcopy(model), copy.copy(model), torch.optim.swa_utils.AveragedModel(model)]
        average.update_parameters(model)
        buffer = io.BytesIO()
        torch.save(model, buffer)
        assert all(torch.equal(each(x), expected) for each in (*copies, average))
        DeepLift(model).attribute(x.clone(), target=1)
        copies.append(copy.deepcopy(model))
        DeepLift(copies[0]).attribute(x.clone(), target=1)
    buffer.seek(0)
    copies.append(torch.load(buffer, weights_only=False))
    for each in (*copies, average):
        assert torch.equal(each(x), expected)
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in each.modules())
    assert watching.trace.run.status == "complete"


@pytest.mark.parametrize("method", ["captum", "exact"])
def test_a_copy_made_while_the_model_runs_can_be_called(method: Any) -> None:
    """As one of a moving average that a model keeps of a part of its own."""
    copies: list[nn.Module] = []

    def run(self: Any, x: torch.Tensor) -> Any:
        copies.append(copy.deepcopy(self.part))
        copies[-1](x)
        return self.part(x)

    model = FunctionModel(run, part=softmaxed())
    trace = tracer.record(model, *INPUTS, target=0, method=method)
    assert trace.run.status == "complete"
    assert all(each(INPUTS[0]).shape == (2, 2) for each in copies)


# --- what captum gave -------------------------------------------------------------------------------------------------


def returned(make: Callable[[nn.Module], Any], **options: Any) -> tuple[Any, Trace]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1)).eval()
    with tracer.watch(model) as watching:
        result = make(model).attribute(INPUTS[0].clone(), **options)
    return result, watching.trace


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda model: DeepLift(model, multiply_by_inputs=False), {}),
        (lambda model: Mine(model, False), {}),
        (DeepLift, {"custom_attribution_func": lambda multipliers: multipliers}),
        (DeepLift, {"custom_attribution_func": lambda multipliers, inputs: (2 * multipliers[0] * inputs[0],)}),
    ],
)
def test_multipliers_are_no_attributions(make: Any, options: Any) -> None:
    (_given, delta), trace = returned(make, return_convergence_delta=True, **options)
    (note,) = trace.notes
    assert note.kind == "multipliers returned"
    assert note.amount == pytest.approx(float(delta.sum()), rel=1e-5)
    assert f"captum's own delta is {delta[0]:.4g}" in note.detail
    assert kinds(trace) == ["multipliers-returned"]
    assert np.abs(trace.delta).max() < 1e-6
    _given, trace = returned(make, **options)
    assert [(note.kind, np.isnan(note.amount)) for note in trace.notes] == [("multipliers returned", True)]


def test_a_function_that_does_what_captum_does_gives_attributions() -> None:
    def usual(multipliers: Any, inputs: Any, references: Any) -> Any:
        return tuple(m * (x - r) for m, x, r in zip(multipliers, inputs, references, strict=True))

    assert not returned(DeepLift, return_convergence_delta=True, custom_attribution_func=usual)[1].notes
    assert not returned(DeepLift, return_convergence_delta=True)[1].notes


# --- what captum was given --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap", [nn.Sequential, lambda model: FunctionModel(lambda self, x: 2 * self.inner(x), inner=model)]
)
def test_a_wrapper_around_the_watched_model_is_recorded_and_named(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = softmaxed()
    outer = wrap(model)
    with tracer.watch(outer) as expected:
        _attribute(DeepLift(outer))
    with tracer.watch(model) as watching:
        _attribute(DeepLift(outer))
    assert [node.path for node in watching.trace.nodes] == [node.path for node in expected.trace.nodes]
    assert np.array_equal(watching.trace.delta, expected.trace.delta)
    assert watching.trace.run.model == type(outer).__name__
    assert sorted(kinds(watching.trace)) == sorted(["other-module", *kinds(expected.trace)])


def test_a_part_of_the_watched_model_is_recorded_and_named() -> None:
    model = softmaxed()
    outer = nn.Sequential(model, nn.Tanh())
    with tracer.watch(outer) as watching:
        _attribute(DeepLift(model))
    assert "other-module" in kinds(watching.trace)
    assert watching.trace.nodes[0].type == "Sequential" and len(model) == len(watching.trace.nodes) - 1
    assert "is in the watched Sequential, as 0" in watching.trace.notes[0].detail


@pytest.mark.parametrize("given", ["lambda", "method", "call"])
def test_a_function_is_named(given: str) -> None:
    model = softmaxed()
    functions: dict[str, Any] = {"lambda": lambda x: model(x), "method": model.forward, "call": model.__call__}
    with pytest.raises(AttributeError), tracer.watch(model) as watching:
        _attribute(DeepLift(functions[given]))
    assert kinds(watching.partial) == ["no-module"]


def test_another_model_is_named_in_the_error() -> None:
    model = softmaxed()
    said = r"was seen .*\(DeepLift was given another: Sequential\): watch the very"
    with pytest.raises(ObservationError, match=said), tracer.watch(model):
        _attribute(DeepLift(copy.deepcopy(model)))


def test_a_model_that_takes_tuples_is_not_taken_for_captums_call() -> None:
    """Its forward takes two tuples of as many tensors, as captum calls a model."""

    def run(self: Any, x: Any, reference: Any = None) -> Any:
        x = x[0] if isinstance(x, tuple) else x
        return self.net(x if reference is None else x - reference[0])

    model, (x, reference) = FunctionModel(run, net=softmaxed()), INPUTS
    with pytest.raises(ObservationError, match="no captum DeepLift attribution"), tracer.watch(model):
        model((x,), (reference,))
    with tracer.watch(model) as watching:
        model((x,), (reference,))
        DeepLift(model).attribute(x.clone(), reference, target=0)
        model((x,), (reference,))
    assert len(watching.trace.attributions[0]) == 2
    assert watching.trace.run.status == "complete"


# --- the doubled batch ------------------------------------------------------------------------------------------------


def message_passing(self: Any, x: torch.Tensor, edges: torch.Tensor) -> Any:
    start, end = edges
    return self.last(torch.relu(x.index_add(0, end, x[start])))


DOUBLED: dict[str, tuple[Callable[[], nn.Module], torch.Tensor, tuple[Any, ...], str]] = {
    "a vector": (lambda: nn.Sequential(nn.Linear(3, 1)), torch.randn(3), (), "x[None]"),
    "a vector with as many outputs": (lambda: nn.Linear(3, 3), torch.randn(3), (), "x[None]"),
    "rows that are pooled": (
        lambda: FunctionModel(lambda self, x: self.last(x.mean(-2, keepdim=x.dim() == 2)), last=nn.Linear(3, 1)),
        torch.randn(4, 3), (), "x[None]",
    ),
    "edges of a graph": (
        lambda: FunctionModel(message_passing, last=nn.Linear(3, 1)),
        torch.randn(4, 3), (torch.tensor([[0, 1], [1, 2]]),), "method exact",
    ),
    "a state of a batch": (
        lambda: FunctionModel(lambda self, x: self.cell(x, torch.ones(2, 4)), cell=nn.GRUCell(3, 4)),
        torch.randn(2, 3), (), "method exact",
    ),
    "a sum over the rows": (
        lambda: FunctionModel(lambda self, x: self.last(x).sum().reshape(1), last=nn.Linear(3, 1)),
        torch.randn(2, 3), (), "method exact",
    ),
    "one example without a batch": (
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(0)), torch.randn(2, 7), (),
        "a batch axis",
    ),
    "a view of a batch": (
        lambda: FunctionModel(lambda self, x: self.last(x.view(2, 3)), last=nn.Linear(3, 1)), torch.randn(2, 3), (),
        "method exact",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DOUBLED)
@pytest.mark.parametrize("recorded", [False, True])
def test_a_model_that_cannot_take_the_doubled_batch_is_named(name: str, recorded: bool) -> None:
    make, x, extras, advice = DOUBLED[name]
    target = None if "sum" in name else 0
    torch.manual_seed(0)
    model = make().eval()
    if recorded:
        with pytest.raises(
            ObservationError, match="captum gives the model inputs and references in one batch"
        ) as raised:
            tracer.record(model, x, target=target, additional_forward_args=extras or None)
        trace = raised.value.trace
    else:
        with pytest.raises(Exception), tracer.watch(model) as watching:  # noqa: B017
            DeepLift(model).attribute(x.clone(), target=target, additional_forward_args=extras or None)
        trace = watching.partial
    (finding,) = tracer.diagnose(trace)  # type: ignore[arg-type]
    assert finding.kind == "doubled-batch"
    assert advice in finding.advice
    if advice == "method exact":
        followed = tracer.record(model, x, target=target, method="exact", additional_forward_args=extras)
    elif advice == "x[None]":
        followed = tracer.record(model, x[None], target=0)
    else:
        axis = FunctionModel(lambda self, batch: torch.stack([self.inner(each) for each in batch]), inner=model)
        followed = tracer.record(axis, x[None], target=0, method="exact")
    assert followed.run.status == "complete"


def test_a_model_that_fails_alone_too_has_no_such_finding() -> None:
    model = FunctionModel(lambda self, x: self.last(x), last=nn.Linear(4, 1))
    with pytest.raises(RuntimeError), tracer.watch(model) as watching:
        DeepLift(model).attribute(torch.randn(2, 3), target=0)
    assert kinds(watching.partial) == []


def test_a_failed_attribution_whose_error_was_caught_is_a_failed_trace() -> None:
    model = FunctionModel(lambda self, x: self.last(x.view(2, 3)), last=nn.Linear(3, 1))
    with tracer.watch(model) as watching:
        with pytest.raises(RuntimeError):
            DeepLift(model).attribute(torch.randn(2, 3), target=0)
        assert torch._C._len_torch_function_stack() == 0
    assert watching.trace.run.status == "failed"
    assert kinds(watching.trace) == ["doubled-batch"]


# --- captum's other classes -------------------------------------------------------------------------------------------


class Deep(nn.Module):
    """Modules that captum rules, and one function that it does not see, between and inside layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.act, self.middle = nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)
        self.block = nn.Sequential(nn.Tanh(), nn.Linear(4, 4))
        self.last = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(nn.functional.gelu(self.block(self.middle(self.act(self.first(x))))))
        return out


ROWS = torch.randn(3, 6, generator=torch.manual_seed(6)), torch.randn(3, 6, generator=torch.manual_seed(8))


def value_at(model: nn.Module, layer: nn.Module, at_input: bool, x: torch.Tensor) -> torch.Tensor:
    """What a layer takes, or gives."""
    found: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda _layer, args, output: found.append(args[0] if at_input else output))
    model(x)
    handle.remove()
    return found[0].detach()


@pytest.mark.parametrize("at_input", [False, True])
@pytest.mark.parametrize("name", ["act", "middle", "block", "last"])
def test_a_neuron_is_what_its_attribution_explains(name: str, at_input: bool) -> None:
    model = Deep().eval()
    layer = model.get_submodule(name)
    alone = NeuronDeepLift(model, layer).attribute(ROWS[0].clone(), 1, ROWS[1], attribute_to_neuron_input=at_input)
    with tracer.watch(model) as watching:
        NeuronDeepLift(model, layer).attribute(ROWS[0].clone(), 1, ROWS[1], attribute_to_neuron_input=at_input)
    trace = watching.trace
    output, reference = (value_at(model, layer, at_input, x)[:, 1].numpy() for x in ROWS)
    assert np.allclose(trace.run.output, output, atol=1e-6)
    assert np.allclose(trace.run.output_reference, reference, atol=1e-6)
    assert np.array_equal(trace.attributions[0], alone.detach().numpy())
    assert np.allclose(trace.delta, alone.detach().numpy().sum(1) - (output - reference), atol=1e-6)
    assert np.allclose(sum(node.self_leak for node in trace.nodes), trace.delta, atol=1e-9)
    assert kinds(trace) == (["unseen-op"] if name == "last" else [])
    assert not [node for node in trace.nodes if node.kind == "lost"]


@pytest.mark.parametrize("at_input", [False, True])
@pytest.mark.parametrize("name", ["first", "act", "middle", "block", "last"])
def test_a_layers_attribution_begins_at_the_layer(name: str, at_input: bool) -> None:
    model = Deep().eval()
    layer = model.get_submodule(name)
    refused = {"first": "the layer is given the model's own input", "act": "captum leaves its rule for act out"}

    def attribute() -> tuple[torch.Tensor, torch.Tensor]:
        found, delta = LayerDeepLift(model, layer).attribute(
            ROWS[0].clone(), ROWS[1], target=1, attribute_to_layer_input=at_input, return_convergence_delta=True
        )
        return (found if isinstance(found, torch.Tensor) else found[0]).detach(), delta.detach()

    if name in refused and at_input:
        with pytest.raises(ObservationError, match=refused[name]), tracer.watch(model):
            attribute()
        return
    alone, delta = attribute()
    with tracer.watch(model) as watching:
        watched = attribute()
    trace = watching.trace
    assert torch.equal(alone, watched[0]) and torch.equal(delta, watched[1])
    assert np.allclose(trace.attributions[0], alone.numpy(), atol=1e-7)
    assert np.allclose(trace.delta, delta.numpy(), atol=1e-6)
    assert np.allclose(trace.run.output, model(ROWS[0]).detach().numpy()[:, 1], atol=1e-6)
    assert np.allclose(sum(node.self_leak for node in trace.nodes), trace.delta, atol=1e-9)
    after_gelu = name == "last"
    assert kinds(trace) == ([] if after_gelu else ["unseen-op"])
    leaking = [node.path for node in trace.nodes if abs(node.self_leak).max() > 1e-6]
    assert leaking == ([] if after_gelu else ["/gelu"])


def test_so_it_does_for_several_references() -> None:
    model = Deep().eval()
    with tracer.watch(model) as watching:
        _found, delta = LayerDeepLiftShap(model, model.middle).attribute(
            *(rows.clone() for rows in ROWS), target=1, return_convergence_delta=True
        )
    assert np.allclose(watching.trace.delta, delta.detach().numpy(), atol=1e-6)
    assert kinds(watching.trace) == ["unseen-op"]
