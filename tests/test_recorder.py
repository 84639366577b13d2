"""The recorder observes and disturbs nothing; the ledger hands out the whole delta."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import DeepLift
from torch import nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

import tracer
from tests.models import MODELS, Attention, Cube, EncoderDecoder, Plain, Residual, Stale, Unseen, Wrong
from tracer.errors import InputError, ModelError, ObservationError
from tracer.records import Node
from tracer.report.contents import TraceReport
from tracer.tracefile.trace import Trace


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Setting forward, backward hooks.*")
        warnings.filterwarnings("ignore", message=".*required_grads has been set.*")
        yield


def make(name: str, dtype: torch.dtype, examples: int = 3) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    kind, width = MODELS[name]
    torch.manual_seed(7)
    model = kind().to(dtype).eval()
    return model, torch.randn(examples, width, dtype=dtype), torch.randn(examples, width, dtype=dtype)


def attribute(model: nn.Module, x: torch.Tensor, reference: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    attributions, delta = DeepLift(model).attribute(x, reference, target=1, return_convergence_delta=True)
    return attributions.detach(), delta.detach()


def observe(model: nn.Module, x: torch.Tensor, reference: torch.Tensor, **options: Any) -> Trace:
    with tracer.watch(model, **options) as watching:
        attribute(model, x, reference)
    return watching.trace


def state(model: nn.Module) -> dict[str, Any]:
    return {
        path: (
            {key: value for key, value in vars(module).items() if not isinstance(value, dict)},
            {key: list(value) for key, value in vars(module).items() if isinstance(value, dict)},
        )
        for path, module in model.named_modules()
    }


def self_leak(trace: Trace) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.sum([node.self_leak for node in trace.nodes], axis=0)


def named(trace: Trace, path: str) -> Node:
    return trace.find(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MODELS)
def test_watching_changes_no_bit_of_captums_attributions(name: str, dtype: torch.dtype) -> None:
    model, x, reference = make(name, dtype)
    expected, expected_delta = attribute(model, x, reference)
    before = state(model)
    with tracer.watch(model) as watching:
        attributions, delta = attribute(model, x, reference)
    assert torch.equal(attributions, expected)
    assert torch.equal(delta, expected_delta)
    assert np.array_equal(watching.trace.attributions[0], expected.numpy())
    assert state(model) == before


@pytest.mark.parametrize("examples", [1, 2, 3])
@pytest.mark.parametrize("name", MODELS)
def test_self_leaks_sum_to_captums_delta(name: str, examples: int) -> None:
    model, x, reference = make(name, torch.float64, examples)
    _, delta = attribute(model, x, reference)
    trace = observe(model, x, reference)
    scale = np.maximum(1, np.abs(delta.numpy()))
    assert np.all(np.abs(self_leak(trace) - delta.numpy()) <= 1e-9 * scale)
    assert np.all(np.abs(trace.nodes[0].leak - delta.numpy()) <= 1e-9 * scale)
    # nothing is left over for the model's own row: every call was observed
    assert np.all(np.abs(trace.nodes[0].self_leak) <= 1e-9 * scale)


@pytest.mark.parametrize("name", MODELS)
def test_self_leaks_sum_to_captums_delta_in_single_precision(name: str) -> None:
    model, x, reference = make(name, torch.float32)
    _, delta = attribute(model, x, reference)
    total = self_leak(observe(model, x, reference))
    assert np.all(np.abs(total - delta.numpy()) <= 1e-3 * np.maximum(1, np.abs(delta.numpy())))


@pytest.mark.parametrize("name", MODELS)
def test_a_leak_is_the_self_leaks_of_the_subtree(name: str) -> None:
    trace = observe(*make(name, torch.float64))
    nodes = trace.nodes
    for node in nodes:
        inside = np.sum([nodes[i].self_leak for i in range(node.id, node.end)], axis=0)
        assert np.allclose(node.leak, inside, rtol=1e-9, atol=1e-12)
        assert all(nodes[child].parent == node.id and nodes[child].depth == node.depth + 1 for child in node.children)


@pytest.mark.parametrize("name", MODELS)
def test_a_leak_is_flow_in_minus_flow_out(name: str) -> None:
    trace = observe(*make(name, torch.float64))
    losses = [node for node in trace.nodes if node.kind == "lost"]
    for node in trace.nodes:
        if node.kind == "lost" or any(node.id <= lost.id < node.end for lost in losses):
            continue
        edges = trace.edges(node)
        flows = sum(edge.flow if edge.direction == "in" else -edge.flow for edge in edges)
        assert np.allclose(node.leak, flows, rtol=1e-9, atol=1e-9), node.path


@pytest.mark.parametrize("name", ["plain", "attention", "convolution", "in place", "time major"])
def test_an_examples_rows_do_not_depend_on_the_rest_of_its_batch(name: str) -> None:
    model, x, reference = make(name, torch.float64)
    together = observe(model, x, reference)
    for index in range(3):
        alone = observe(model, x[index : index + 1], reference[index : index + 1])
        for one, many in zip(alone.nodes, together.nodes, strict=True):
            assert one.path == many.path
            assert np.allclose(one.leak[0], many.leak[index], rtol=1e-9, atol=1e-11)


def test_a_square_leaks_what_the_gradient_gets_wrong() -> None:
    class Square(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 3 * (x * x)

    x = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    with tracer.watch(Square()) as watching:
        DeepLift(Square())  # an unused object beside the watched one
        DeepLift(watching._model).attribute(x, torch.zeros_like(x))
    first, second = (watching.trace.find("/mul", call) for call in (0, 1))
    # m = 6x, Δx = x: flow in 6x², flow out 3x²
    assert np.allclose(first.leak, 3 * x.numpy()[:, 0] ** 2, rtol=1e-12)
    assert np.allclose(second.leak, 0, atol=1e-12)
    assert second.gain == pytest.approx(3.0)
    assert first.source is not None
    assert first.source.startswith("tests/test_recorder.py:")
    assert first.source.endswith(" forward")


def test_a_ruled_module_is_a_leaf_and_says_so() -> None:
    trace = observe(*make("plain", torch.float64))
    relu = named(trace, "relu")
    assert relu.rule == "captum"
    assert relu.children == ()
    assert np.allclose(relu.leak, 0, atol=1e-12)
    assert named(trace, "first").rule == "autograd"


def test_a_lost_path_is_a_row_of_its_own() -> None:
    model, x, reference = make("residual", torch.float64)
    trace = observe(model, x, reference)
    (lost,) = [node for node in trace.nodes if node.kind == "lost"]
    assert lost.path == "first/lost path"
    assert lost.type == "2 consumers, gradient overwritten"
    addition = trace.edges(trace.find("/add"))
    sent_by_addition = next(edge.flow for edge in addition if edge.name == "0")
    assert np.allclose(lost.leak, -sent_by_addition, rtol=1e-12)
    assert np.allclose(lost.leak, trace.delta, rtol=1e-9)


def test_what_runs_unseen_is_a_row_of_its_own() -> None:
    model, x, reference = make("unseen", torch.float64)
    assert isinstance(model, Unseen)
    trace = observe(model, x, reference)
    (unseen,) = [node for node in trace.nodes if node.kind == "unobserved"]
    assert unseen.type == f"{Cube.__name__}Backward"
    assert np.allclose(unseen.leak, trace.delta, rtol=1e-9)


def test_a_stale_gradient_leaks_at_the_call_that_used_it() -> None:
    model, x, reference = make("stale", torch.float64)
    assert isinstance(model, Stale)
    trace = observe(model, x, reference)
    assert np.allclose(named(trace, "head.0").leak, trace.delta, rtol=1e-9)
    assert np.allclose(named(trace, "tail.0").leak, 0, atol=1e-12)


def test_multi_head_attention_is_seen_through() -> None:
    model, x, reference = make("attention", torch.float64)
    assert isinstance(model, Attention)
    trace = observe(model, x, reference)
    inside = [node.path for node in trace.nodes if node.path.startswith("attention/multi_head_attention_forward/")]
    assert [path.rsplit("/", 1)[1] for path in inside].count("softmax") == 1
    assert [path.rsplit("/", 1)[1] for path in inside].count("bmm") == 2
    assert "layer.self_attn/multi_head_attention_forward/scaled_dot_product_attention" in [n.path for n in trace.nodes]


def test_tensors_of_both_runs_and_multipliers_are_kept() -> None:
    model, x, reference = make("plain", torch.float64)
    assert isinstance(model, Plain)
    trace = observe(model, x, reference)
    node = named(trace, "first")
    assert np.array_equal(trace.tensor(node, "input"), x.numpy())
    assert np.array_equal(trace.tensor(node, "reference"), reference.numpy())
    assert np.allclose(trace.tensor(node, "output"), model.first(x).detach().numpy(), rtol=1e-12)
    multiplier = trace.tensor(node, "multiplier_in")
    assert np.allclose(multiplier * (x - reference).numpy(), trace.attributions[0], rtol=1e-12)


def test_values_survive_what_is_written_over_them() -> None:
    model, x, reference = make("reused", torch.float64)
    trace = observe(model, x, reference)
    relu = named(trace, "relu")
    before = trace.tensor(relu, "input")
    assert (before < 0).any()
    assert np.array_equal(np.maximum(before, 0), trace.tensor(relu, "output"))
    assert [node.call for node in trace.nodes if node.path == "shared"] == [0, 1, 2]


def test_summary_keeps_figures_and_no_tensors() -> None:
    model, x, reference = make("plain", torch.float64)
    full, summary = observe(model, x, reference), observe(model, x, reference, capture="summary")
    for one, other in zip(full.nodes, summary.nodes, strict=True):
        assert np.array_equal(one.leak, other.leak)
    assert summary.edges(summary.find("first"))[0].value_statistics is not None
    with pytest.raises(tracer.errors.TracerError, match="record it with --capture tensors"):
        summary.tensor(summary.find("first"), "input")


def test_without_an_attribution_the_block_says_what_to_do() -> None:
    model, x, reference = make("plain", torch.float64)
    with (
        pytest.raises(ObservationError, match="no captum DeepLift attribution of this model was seen"),
        tracer.watch(model),
    ):
        attribute(make("plain", torch.float64)[0], x, reference)


def test_the_first_of_several_attributions_is_kept_with_a_warning() -> None:
    model, x, reference = make("plain", torch.float64)
    with (
        pytest.warns(UserWarning, match="2 attributions ran inside one `with` block: the trace is of the first"),
        tracer.watch(model) as watching,
    ):
        expected, _ = attribute(model, x, reference)
        attribute(model, 2 * x, reference)
    assert np.array_equal(watching.trace.attributions[0], expected.numpy())


def test_an_exception_leaves_the_model_clean_and_the_calls_so_far(tmp_path: Path) -> None:
    model, before = Wrong(), state(Wrong())
    file = tmp_path / "wrong.dltrace"
    with pytest.raises(RuntimeError, match="mat1 and mat2"), tracer.watch(model, file):
        attribute(model, torch.ones(1, 4), torch.zeros(1, 4))
    assert {k: v[1] for k, v in state(model).items()} == {k: v[1] for k, v in before.items()}
    trace = tracer.open_trace(file)
    assert trace.run.status == "failed"
    assert trace.run.message.startswith("RuntimeError: mat1 and mat2")
    assert [node.path for node in trace.nodes] == ["", "first", "second"]


def test_an_op_that_raises_and_is_caught_leaves_the_tree_right() -> None:
    class Catches(Plain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.first(x)
            with contextlib.suppress(IndexError):
                torch.nn.functional.normalize(h, dim=5)
            return self.second(self.relu(h))

    trace = observe(Catches().double(), *torch.randn(2, 3, 4, dtype=torch.float64).unbind())
    assert [(node.path, node.parent) for node in trace.nodes if node.kind == "module"] == [
        ("", None), ("first", 0), ("relu", 0), ("second", 0),
    ]  # fmt: skip
    assert np.allclose(trace.delta, 0, atol=1e-12)


def test_an_interrupt_leaves_the_model_clean_and_the_calls_so_far(tmp_path: Path) -> None:
    class Interrupted(Plain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.first(x)
            raise KeyboardInterrupt

    model = Interrupted()
    with pytest.raises(KeyboardInterrupt), tracer.watch(model, tmp_path / "x.dltrace"):
        attribute(model, torch.ones(1, 4), torch.zeros(1, 4))
    trace = tracer.open_trace(tmp_path / "x.dltrace")
    assert (trace.run.status, trace.run.message) == ("failed", "interrupted")
    assert [node.path for node in trace.nodes] == ["", "first"]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch._C._len_torch_function_stack() == 0


def test_record_says_what_captum_failed_with(tmp_path: Path) -> None:
    with pytest.raises(
        ObservationError,
        match=r"captum's DeepLift ended with RuntimeError: mat1 .* \(its calls so far are in .*x\.dltrace\)",
    ):
        tracer.record(Wrong(), torch.ones(1, 4), path=tmp_path / "x.dltrace")
    trace = tracer.open_trace(tmp_path / "x.dltrace")
    assert trace.run.status == "failed"
    assert np.isnan([trace.run.output, trace.run.output_reference]).all()
    assert not {"f(x)", "f(x')", "delta"} & dict(TraceReport(trace).numbers()).keys()


def test_two_threads_do_not_mix() -> None:
    results: dict[str, Trace] = {}

    made = {name: make(name, torch.float64) for name in ("plain", "dense")}

    def work(name: str) -> None:
        for _ in range(5):
            results[name] = observe(*made[name])

    threads = [threading.Thread(target=work, args=(name,)) for name in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, trace in results.items():
        expected = observe(*made[name])
        assert [node.path for node in trace.nodes] == [node.path for node in expected.nodes]
        assert np.allclose(self_leak(trace), expected.delta, atol=1e-9)


def test_record_is_watch_around_captum() -> None:
    model, x, reference = make("residual", torch.float64)
    attributions, delta = attribute(model, x, reference)
    trace = tracer.record(model, x, reference, target=1)
    assert np.array_equal(trace.attributions[0], attributions.numpy())
    assert np.allclose(trace.delta, delta.numpy(), rtol=0, atol=0)
    assert trace.run.method == "captum"
    assert trace.run.panel.hooks is not None
    assert trace.run.panel.hooks.summary == "1 of 1 non-linearities hooked"


def test_outputs_that_are_no_tensors_are_unwrapped() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Plain()

        def forward(self, x: torch.Tensor) -> dict[str, Any]:
            return {"loss": None, "logits": self.inner(x)}

    torch.manual_seed(0)
    model = Wrapped().double()
    x = torch.randn(2, 4, dtype=torch.float64)
    trace = tracer.record(model, x, target=2)
    assert np.allclose(trace.delta, 0, atol=1e-9)
    assert not model._forward_hooks


@pytest.mark.parametrize("method", ["captum", "gradient", "exact"])
def test_a_state_that_is_returned_and_used_counts_once(method: Any) -> None:
    torch.manual_seed(0)
    model = EncoderDecoder().double()
    x, reference = torch.randn(2, 3, 4, dtype=torch.float64).unbind()
    trace = tracer.record(model, x, reference, target=0, method=method)
    output, output_reference = model(x)["logits"][:, 0], model(reference)["logits"][:, 0]
    assert np.allclose(trace.run.output, output.detach().numpy(), rtol=1e-12)
    assert np.allclose(trace.run.output_reference, output_reference.detach().numpy(), rtol=1e-12)
    assert np.allclose(self_leak(trace), trace.delta, atol=1e-12)
    assert np.allclose(trace.delta, 0, atol=1e-12) == (method == "exact")


@pytest.mark.parametrize("method", ["gradient", "exact"])
@pytest.mark.parametrize("name", MODELS)
def test_self_leaks_sum_to_the_delta_where_the_reference_has_a_run_of_its_own(name: str, method: Any) -> None:
    model, x, reference = make(name, torch.float64)
    trace = tracer.record(model, x, reference, target=1, method=method)
    assert np.allclose(self_leak(trace), trace.delta, rtol=1e-9, atol=1e-12)
    assert np.allclose(trace.nodes[0].self_leak, 0, atol=1e-12)
    assert all(node.kind != "lost" for node in trace.nodes)
    if method == "exact":
        assert np.allclose(trace.delta, 0, atol=1e-9)
        unseen = [(node.type, node.rule) for node in trace.nodes if node.kind == "unobserved"]
        assert unseen == ([("custom function", "approximated")] if name == "unseen" else [])
    observed = observe(model, x, reference)
    assert [node.path for node in observed.nodes if node.kind == "module"] == [
        node.path for node in trace.nodes if node.kind == "module"
    ]


@pytest.mark.parametrize("name", MODELS)
def test_captums_rulebook_emulated_is_captum(name: str) -> None:
    model, x, reference = make(name, torch.float64)
    emulated = tracer.record(model, x, reference, target=1, rules=["*=captum"])
    observed = observe(model, x, reference)
    assert np.allclose(emulated.attributions[0], observed.attributions[0], rtol=1e-9, atol=1e-12)
    for ours, real in zip(emulated.nodes, observed.nodes, strict=True):
        assert (ours.path, ours.call, ours.kind) == (real.path, real.call, real.kind)
        assert np.allclose(ours.leak, real.leak, rtol=1e-6, atol=1e-12), ours.path


def test_a_call_says_which_rule_it_got() -> None:
    model, x, reference = make("stale", torch.float64)
    trace = tracer.record(model, x, reference, target=1, method="exact", rules=["Tanh=rescale", "Sigmoid=gradient"])
    assert [named(trace, path).rule for path in ("head.0", "tail.0", "first")] == ["rescale", "autograd", "autograd"]


def test_rules_are_named_by_the_paths_that_the_trace_shows() -> None:
    model, x, reference = make("plain", torch.float64)
    names = {model: "", model.relu: "shown.relu"}  # type: ignore[dict-item]
    options: dict[str, Any] = {"target": 1, "method": "exact", "details": tracer.Details(names=names)}
    trace = tracer.record(model, x, reference, rules=["shown.relu=gradient"], **options)
    assert not np.allclose(trace.delta, 0)
    assert trace.run.rulebook == "exact shown.relu=gradient"
    with pytest.raises(InputError, match=r"no call that needs a rule matches 'no\.such': patterns are held against"):
        tracer.record(
            model, x, reference, rules=["no.such=gradient"], **{**options, "details": tracer.Details(names={model: ""})}
        )


class Picks(nn.Module):
    """Picks an element by an index that depends on the input: the runs disagree on it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        return h[torch.arange(h.shape[0]), h.argmax(-1)]


def test_an_index_that_the_runs_disagree_on_leaks_where_it_is_used() -> None:
    torch.manual_seed(3)
    model = Picks().double()
    x, reference = torch.randn(2, 3, 4, dtype=torch.float64).unbind()
    trace = observe_without_target(model, x, reference)
    picked = trace.find("/getitem")
    assert np.abs(trace.delta).max() > 0.1
    assert np.allclose(picked.leak, trace.delta, rtol=1e-9)
    assert np.allclose(trace.nodes[0].self_leak, 0, atol=1e-12)


def observe_without_target(model: nn.Module, x: torch.Tensor, reference: torch.Tensor) -> Trace:
    with tracer.watch(model) as watching:
        DeepLift(model).attribute(x, reference)
    return watching.trace


def test_a_failed_run_leaves_inputs_and_modules_as_they_were() -> None:
    class Raises(Plain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.relu(self.first(x)))[:, :2] @ torch.ones(3)

    model, x = Raises(), torch.ones(1, 4)
    for method in ("captum", "exact"):
        with pytest.raises(ObservationError, match=r"ended with RuntimeError"):
            tracer.record(model, x, target=0, method=method)  # type: ignore[arg-type]
        assert not x.requires_grad
        assert not {"input", "output"} & vars(model.relu).keys()
        assert not model.relu._forward_pre_hooks


@pytest.mark.parametrize("method", ["captum", "exact", "gradient"])
def test_baselines_may_carry_gradients(method: Any) -> None:
    model, x, reference = make("plain", torch.float64)
    expected = tracer.record(model, x, reference, target=1, method=method)
    found = tracer.record(model, x, reference.clone().requires_grad_(), target=1, method=method)
    assert np.array_equal(found.attributions[0], expected.attributions[0])


def test_wrong_inputs_are_refused_in_one_line() -> None:
    for wrong, message in ((None, "an input is NoneType"), ((), "there are no inputs"), ([1.0], "an input is list")):
        with pytest.raises(InputError, match=message):
            tracer.record(Plain(), wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the input holds no example"):
        tracer.record(Plain(), torch.ones(0, 4), method="exact")
    with pytest.raises(ModelError, match=r"the model is function; expected a torch\.nn\.Module"):
        tracer.record(lambda x: x, torch.ones(1, 4))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="the model is str"):
        tracer.watch("abc")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="capture is 'all'"):
        tracer.record(Plain(), torch.ones(1, 4), method="exact", capture="all")  # type: ignore[arg-type]


def test_no_file_is_left_by_what_recorded_nothing(tmp_path: Path) -> None:
    model, _x, _reference = make("plain", torch.float64)
    file = tmp_path / "run.dltrace"
    tracer.watch(model, file)  # never entered
    assert not file.exists()
    with pytest.raises(ObservationError), tracer.watch(model, file):
        pass
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError):
        tracer.record(model, torch.ones(1, 4), torch.ones(1, 3), path=file, method="exact")
    assert list(tmp_path.iterdir()) == []


def test_a_trace_says_what_was_not_exact() -> None:
    class Odd(Plain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(torch.special.erfcx(self.first(x)))

    torch.manual_seed(0)
    model, x = Odd().double(), torch.randn(1, 4, dtype=torch.float64)
    trace = tracer.record(model, x, target=0, method="exact")
    assert trace.run.message.startswith("approximated: ")
    assert "erfcx" in trace.run.message
    assert np.allclose(trace.delta, 0, atol=1e-9)
    assert [node.rule for node in trace.nodes if "erfcx" in node.path] == ["approximated"]
    assert tracer.record(make("plain", torch.float64)[0], x, target=0, method="exact").run.message == ""


def test_token_ids_are_refused_with_advice() -> None:
    with pytest.raises(InputError, match="output of the embedding layer instead of to token ids"):
        tracer.record(Plain(), torch.ones(1, 4, dtype=torch.long))


def test_models_that_cannot_be_observed_are_refused() -> None:
    with pytest.raises(ModelError, match=r"pass the module inside it, model\.module"):
        tracer.record(nn.DataParallel(Plain()), torch.ones(1, 4))


def test_the_residual_model_is_what_its_name_says() -> None:
    model = Residual().double()
    x = torch.randn(2, 4, dtype=torch.float64)
    h = model.first(x)
    assert torch.equal(model(x), model.last(h + torch.relu(h)))


class ReturnsItsState(nn.Module):
    """Returns the logits and the state they were made from; with `loses`, a hook halves the state's gradient."""

    def __init__(self, loses: bool) -> None:
        super().__init__()
        self.loses = loses
        self.below, self.above, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        state = self.below(x)
        if self.loses and state.requires_grad:
            state.register_hook(lambda gradient: gradient / 2)
        return {"logits": self.head(torch.tanh(self.above(state)) + state), "state": state}


@pytest.mark.parametrize("loses", [False, True])
def test_a_loss_at_a_tensor_that_the_model_also_returns_is_a_row(loses: bool) -> None:
    torch.manual_seed(0)
    trace = tracer.record(ReturnsItsState(loses), torch.randn(2, 4), target=1, method="exact")
    lost = [node for node in trace.nodes if node.kind == "lost"]
    assert [node.path for node in lost] == ["below/lost path"] * loses
    np.testing.assert_allclose(trace.columns.self_leak.sum(), trace.delta.sum(), atol=1e-6)
    assert bool(abs(trace.delta.sum()) > 0.1) is loses
    if loses:
        np.testing.assert_allclose(lost[0].self_leak, trace.delta, atol=1e-6)


class Gated(nn.Module):
    """Ops of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x) * x


class Retrying(nn.Module):
    """Continues with ops of its own after one of its modules failed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(3, 4), nn.Linear(4, 2), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.relu(self.first(x))
        with contextlib.suppress(RuntimeError):
            h = self.second(h[:, :3])
        return torch.tanh(self.second(h))


def test_ops_after_a_module_that_failed_are_seen() -> None:
    torch.manual_seed(0)
    model, x, reference = Retrying(), 5 * torch.randn(2, 3), torch.zeros(2, 3)
    trace = observe(model, x, reference)
    (op,) = [node for node in trace.nodes if node.path == "/tanh"]
    assert [node.path for node in trace.nodes].count("second") == 2
    assert abs(op.self_leak).max() > 1e-2
    assert np.allclose(sum(node.self_leak for node in trace.nodes), trace.delta, atol=1e-6)


class Passing(TorchFunctionMode):
    """A function mode of the user's own."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def test_ops_after_a_leaf_whose_hooks_enter_and_leave_a_mode_are_seen() -> None:
    mode = Passing()
    model = nn.Sequential(nn.Linear(3, 4), Gated())
    model[0].register_forward_pre_hook(lambda *_call: mode.__enter__() and None)
    model[0].register_forward_hook(lambda *_call: mode.__exit__(None, None, None))
    trace = observe(model, torch.randn(2, 3), torch.zeros(2, 3))
    assert [node.path for node in trace.nodes if node.kind != "module"] == ["1/sigmoid", "1/mul"]
    assert not _get_current_function_mode_stack()


def test_a_recording_inside_a_leaf_of_another_is_refused() -> None:
    model, other = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), nn.Linear(3, 2)
    calls: list[nn.Module] = []

    def nest(module: nn.Module, _args: Any) -> None:
        calls.append(module)
        if len(calls) == 1:
            tracer.record(other, torch.randn(2, 3), target=0)

    model[0].register_forward_pre_hook(nest)
    with pytest.raises(ObservationError, match="a recording is under way in this thread already"):
        observe(model, torch.randn(2, 3), torch.zeros(2, 3))
