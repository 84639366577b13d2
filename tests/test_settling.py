"""Wires are settled during the run, and their tensors are freed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import captum
import numpy as np
import pytest
import torch
from torch import nn

import tracer
from tests.rounding import of_sum
from tracer.errors import ObservationError, TraceFileError
from tracer.ledger.arrays import as_array, statistics
from tracer.ledger.example_axis import ExamplePlace
from tracer.ledger.settling import Settling
from tracer.ledger.spill import Spill
from tracer.ledger.wire_figures import StatisticsCache, _is_loss, figures_of
from tracer.ledger.wires import Wire
from tracer.records import Statistics

from .tiny import make_tiny


class Wide(nn.Module):
    """Blocks of large tensors that autograd does not keep: sums and products with constants."""

    def __init__(self, blocks: int = 4) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x.sum((1, 2))[:, None]


class Block(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * 0.5 + 1.0).tanh() + 0.25


def recorded(path: Path | None = None, **options: object) -> tracer.Trace:
    torch.manual_seed(0)
    return tracer.record(Wide(), torch.randn(2, 300, 200), target=0, path=path, **options)  # type: ignore[arg-type]


@contextmanager
def watched_settling(monkeypatch: pytest.MonkeyPatch, after: Callable[[Settling, Wire], None]) -> Iterator[None]:
    """Call `after` each time a wire was settled during the run."""
    settle = Settling.settle

    monkeypatch.setattr("tracer.ledger.settling._BATCH", 0)

    def settled(self: Settling, wire: Wire) -> None:
        settle(self, wire)
        after(self, wire)

    with monkeypatch.context() as patch:
        patch.setattr(Settling, "settle", settled)
        yield


def test_wires_are_settled_in_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    with watched_settling(monkeypatch, lambda settling, _wire: left.append(unsettled(settling))):
        recorded()
    assert len(left) > 4 * 4
    assert left == sorted(left, reverse=True)
    assert left[-1] == 2  # the input and the output, which wait for the end


def unsettled(settling: Settling) -> int:
    return sum(not wire.settled for wire in settling.observation.wires)


@pytest.mark.parametrize("method", ["captum", "exact"])
def test_tensors_leave_memory_during_the_run(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """At any moment of the backward pass only a few of the run's tensors are alive."""
    alive: list[int] = []

    def count(settling: Settling, _wire: Wire) -> None:
        wires = settling.observation.wires
        tensors = [tensor for wire in wires for tensor in (wire.value, wire.reference, wire.multiplier)]
        storages = {
            tensor.untyped_storage().data_ptr() for tensor in tensors if tensor is not None and not tensor.is_meta
        }
        alive.append(len(storages))

    with watched_settling(monkeypatch, count):
        trace = recorded(method=method)
    gc.collect()
    # Each block makes four tensors, of which autograd keeps one; with the reference's run these are two.
    assert len(trace.nodes) >= 4 * 5
    assert max(alive) <= (7 if method == "captum" else 13)
    assert alive[-1] < max(alive)


def test_figures_do_not_depend_on_when_tensors_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    early = recorded()
    monkeypatch.setattr("tracer.ledger.settling._BATCH", 0)
    monkeypatch.setattr("tracer.recording.live_wires._LARGE", 2**60)
    kept = recorded()
    monkeypatch.setattr("tracer.recording.live_wires._LARGE", 0)
    monkeypatch.setattr("tracer.ledger.spill._SMALL", 0)
    monkeypatch.setattr("tracer.recording.run.Spill", lambda folder: Spill(folder, allowance=0))
    spilled = recorded()
    for other in (kept, spilled):
        np.testing.assert_array_equal(early.columns.self_leak, other.columns.self_leak)
        np.testing.assert_array_equal(early.columns.gain, other.columns.gain)
        for node in early.nodes:
            for mine, theirs in zip(early.edges(node.id), other.edges(node.id), strict=True):
                np.testing.assert_array_equal(mine.flow, theirs.flow)
                assert (mine.value, mine.reference, mine.multiplier) == (
                    theirs.value,
                    theirs.reference,
                    theirs.multiplier,
                )
                assert mine.difference_statistics == theirs.difference_statistics


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wires are settled in batches, the first long before the backward pass is over."""
    tensor = 2 * 2 * 300 * 200 * 4  # bytes, of the doubled batch
    monkeypatch.setattr("tracer.ledger.settling._BATCH", 4 * tensor)
    waiting: list[int] = []
    settle = Settling.settle

    def settled(self: Settling, wire: Wire) -> None:
        settle(self, wire)
        held = [other for other in self.observation.wires if other.multiplier is not None]
        waiting.append(len(held))

    monkeypatch.setattr(Settling, "settle", settled)
    recorded()
    assert max(waiting) == 3  # the output, and two of them with a multiplier each
    assert waiting.count(1) >= 4


def test_a_second_backward_pass_changes_nothing() -> None:
    torch.manual_seed(0)
    model, x = Wide(2), torch.randn(1, 300, 200)
    seen = []

    def again(_module: nn.Module, _args: object, output: torch.Tensor) -> None:
        if output.requires_grad:
            output.register_hook(seen.append)

    model.blocks[0].register_forward_hook(again)
    once = tracer.record(model, x, target=0)
    with tracer.watch(model) as watching:
        original = torch.autograd.grad

        def twice(*arguments: object, **options: object) -> object:
            original(*arguments, **{**options, "retain_graph": True})  # type: ignore[arg-type]
            return original(*arguments, **options)  # type: ignore[arg-type]

        torch.autograd.grad = twice  # type: ignore[assignment]
        try:
            captum.attr.DeepLift(model).attribute(x, target=0)
        finally:
            torch.autograd.grad = original
    assert len(seen) >= 3
    np.testing.assert_array_equal(once.columns.self_leak, watching.trace.columns.self_leak)


class Sums(nn.Module):
    """Large tensors that autograd does not keep, after `first` has done its part."""

    def __init__(self, first: Callable[[torch.Tensor], torch.Tensor], sums: int = 3) -> None:
        super().__init__()
        self.scale = nn.Identity()
        self.block = Repeated(first, sums)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(self.scale(x)).sum((1, 2))[:, None]


class Repeated(nn.Module):
    def __init__(self, first: Callable[[torch.Tensor], torch.Tensor], sums: int) -> None:
        super().__init__()
        self.first, self.sums = first, sums

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for _ in range(self.sums):
            x = x * 1.01 + 0.1
        return x


def gathered(x: torch.Tensor) -> torch.Tensor:
    return torch.gather(x, 1, torch.zeros(x.shape, dtype=torch.long), sparse_grad=True) + x


@pytest.mark.parametrize("method", ["captum", "exact", "gradient"])
@pytest.mark.parametrize(
    "first",
    [
        lambda x: x.sub_(0.5),  # the model's input, overwritten
        lambda x: x.to(torch.float8_e4m3fn).to(x.dtype) + x,  # a dtype that numpy does not know
        gathered,  # a sparse gradient
        lambda x: torch.view_as_real(torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2)) * 1j).reshape(x.shape),
    ],
    ids=["overwritten", "float8", "sparse", "complex"],
)
def test_odd_tensors_are_settled_too(
    monkeypatch: pytest.MonkeyPatch, first: Callable[[torch.Tensor], torch.Tensor], method: str
) -> None:
    if first is gathered and method != "captum":
        pytest.skip("only captum's run leaves sparse gradients as they are")
    monkeypatch.setattr("tracer.ledger.settling._BATCH", 0)
    monkeypatch.setattr("tracer.recording.live_wires._LARGE", 0)
    torch.manual_seed(0)
    trace = tracer.record(Sums(first), torch.randn(2, 6, 4), target=0, method=method)  # type: ignore[arg-type]
    leaks = np.array([node.self_leak for node in trace.nodes])
    np.testing.assert_allclose(leaks.sum(0), trace.delta, atol=1e-5)
    if not any("float8" in (edge.dtype or "") for node in trace.nodes for edge in trace.edges(node.id)):
        np.testing.assert_allclose(leaks, np.zeros_like(leaks), atol=1e-4)  # which rounding to float8 does not leave
    assert trace.attributions[0].shape == (2, 6, 4)


def test_examples_of_a_scalar_output_are_told_apart() -> None:
    class Scalar(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x.tanh() * x).sum()

    torch.manual_seed(0)
    x = torch.randn(3, 4)
    trace = tracer.record(Scalar(), x, method="exact")
    assert sum(trace.run.output) == pytest.approx(float((x.tanh() * x).sum()), rel=1e-6)


def test_modules_that_write_to_a_keyword_argument_keep_its_value() -> None:
    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.act = nn.Linear(4, 4), nn.SiLU(inplace=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(input=self.linear(x))

    torch.manual_seed(0)
    model, x = Keyword(), torch.randn(1, 4)
    trace = tracer.record(model, x, target=1, method="exact")
    leaks = [node.self_leak for node in trace.nodes]
    np.testing.assert_allclose(leaks, np.zeros_like(leaks), atol=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(
            trace.tensor(trace.find("act"), "input"), model.linear(x).numpy(), rtol=0, atol=of_sum(x.dtype, 4, x)
        )


def test_what_fails_while_a_wire_is_settled_leaves_the_attribution_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, x = Wide(2), torch.randn(1, 300, 200)
    alone = captum.attr.DeepLift(model).attribute(x, target=0)

    def fail(*_arguments: object) -> None:
        raise TypeError("a tensor of an unheard-of kind")

    monkeypatch.setattr("tracer.ledger.settling._BATCH", 0)
    monkeypatch.setattr("tracer.ledger.settling.figures_of", fail)
    found = []
    with pytest.raises(TypeError, match="unheard-of"), tracer.watch(model):
        found.append(captum.attr.DeepLift(model).attribute(x, target=0))
    assert torch.equal(found[0], alone)


def test_what_failed_once_makes_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    failed: list[bool] = []

    def fail_once(*arguments: object) -> object:
        if not failed:
            failed.append(True)
            raise RuntimeError("for a moment")
        return figures_of(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("tracer.ledger.settling._BATCH", 0)
    monkeypatch.setattr("tracer.ledger.settling.figures_of", fail_once)
    with pytest.raises(ObservationError, match=r"^no trace can be made of this run \(RuntimeError: for a moment\)"):
        recorded()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("consumers", [2, 4])
def test_nan_and_infinity_are_not_taken_for_a_loss(value: float, consumers: int) -> None:
    """However the sum with the finite numbers beside them was rounded."""

    class Spoilt(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = x.tanh()
            factor = torch.tensor([value, 1.0, 1.1, 1.2])
            parts = [h * (0.1 + index) for index in range(consumers - 1)] + [h * factor]
            return sum(parts[1:], parts[0])

    torch.manual_seed(0)
    trace = tracer.record(Spoilt(), torch.randn(2, 4), target=0)
    assert any(node.nonfinite for node in trace.nodes)
    assert [node.path for node in trace.nodes if node.kind == "lost"] == []


def test_a_loss_beside_nan_is_still_one() -> None:
    ones, nan = torch.ones(3), torch.tensor([1.0, float("nan"), 1.0])
    assert not _is_loss(nan, nan.clone(), [nan])
    assert _is_loss(nan, ones, [ones])
    assert _is_loss(nan * 2, nan, [nan])
    assert _is_loss(torch.tensor([1.0, float("inf")]), torch.tensor([1.0, -float("inf")]), [ones[:2]])
    assert not _is_loss(nan * (1 + 1e-7), nan, [nan])
    assert _is_loss(nan.to(torch.complex64), ones.to(torch.complex64), [ones])


def test_the_parts_of_a_multiplier_are_added_up_as_autograd_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same bits, so that equality shows that nothing was lost."""

    class Shared(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = x.tanh()
            return (h * 0.3).exp() + (h * 0.7).sin() + h.sigmoid() + h

    compared: list[object] = []
    monkeypatch.setattr("tracer.ledger.wire_figures._is_loss", lambda *arguments: compared.append(arguments))
    x = torch.randn(2, 1000, generator=torch.manual_seed(0))
    trace = tracer.record(Shared(), x, target=0)
    assert len(trace.nodes) > 5 and compared == []


def test_a_sink_that_fails_leaves_the_attribution_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Wide(2), torch.randn(1, 300, 200)
    alone = captum.attr.DeepLift(model).attribute(x, target=0)

    def fail(*_arguments: object) -> None:
        raise TraceFileError("cannot write it (database or disk is full)")

    monkeypatch.setattr("tracer.tracefile.writer.TraceWriter.put_tensor", fail)
    found = []
    with pytest.raises(TraceFileError, match="disk is full"), tracer.watch(model, tmp_path / "run.dltrace"):
        found.append(captum.attr.DeepLift(model).attribute(x, target=0))
    assert torch.equal(found[0], alone)


def test_tensors_leave_memory_though_the_sink_has_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_arguments: object) -> None:
        raise TraceFileError("cannot write it (database or disk is full)")

    monkeypatch.setattr("tracer.tracefile.writer.TraceWriter.put_tensor", fail)
    left: list[int] = []
    with (
        watched_settling(monkeypatch, lambda settling, _wire: left.append(unsettled(settling))),
        pytest.raises(TraceFileError, match="disk is full"),
    ):
        recorded(tmp_path / "run.dltrace")
    assert left[-1] == 2


class Turned(nn.Module):
    """Transposes a tensor twice; in between, at no call's argument or result, a hook doubles the gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Turning()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x).tanh().sum((1, 2))[:, None]


class Turning(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        step = (x * 2).transpose(1, 2)
        if step.requires_grad:
            step.register_hook(lambda gradient: 2 * gradient)
        return step.transpose(1, 2) * 0.5 + 1


def test_what_is_lost_between_calls_is_the_same_where_the_wire_was_put_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 4)
    kept = tracer.record(Turned(), x, target=0)
    sides = []
    put_aside = Settling._put_aside

    def noted(self: Settling, wires: list[Wire]) -> None:
        put_aside(self, wires)
        sides.extend(wire.value_figures for wire in wires if not wire.shown)

    monkeypatch.setattr("tracer.ledger.settling._BATCH", 0)
    monkeypatch.setattr("tracer.recording.live_wires._LARGE", 0)
    monkeypatch.setattr(Settling, "_put_aside", noted)
    aside = tracer.record(Turned(), x, target=0)
    assert sides
    assert all(side is not None and side.value is not None and side.value.elided for side in sides)
    assert kept.left_out == 0
    assert aside.left_out == 2  # the input run's tensor and the reference run's
    (mine,), (theirs,) = ([n for n in trace.nodes if n.kind == "lost"] for trace in (kept, aside))
    assert abs(mine.self_leak).min() > 0.1
    np.testing.assert_array_equal(mine.self_leak, theirs.self_leak)
    (whole,), (figures,) = kept.edges(mine), aside.edges(theirs)
    assert whole.difference_statistics == figures.difference_statistics
    assert figures.difference_statistics is not None
    assert whole.multiplier == figures.multiplier


class Halved(torch.autograd.Function):
    """x / 2: a custom function, which no `TorchFunctionMode` sees and which saves no tensor."""

    @staticmethod
    def forward(_ctx: object, x: torch.Tensor) -> torch.Tensor:
        return x / 2

    @staticmethod
    def backward(_ctx: object, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0] / 2


class Halving(nn.Module):
    """Gives a view to a custom function, whose result is used only after the module's call."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Keeping()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.inner(x)
        return self.inner.kept.pop().tanh().sum((1, 2))[:, None]


class Keeping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> None:
        self.kept.append(Halved.apply((x * 2).transpose(1, 2)))  # type: ignore[no-untyped-call]


def test_a_wire_that_unobserved_code_takes_has_its_flow_where_it_was_put_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 4)
    kept = tracer.record(Halving(), x, target=0)
    monkeypatch.setattr("tracer.ledger.settling._BATCH", 0)
    monkeypatch.setattr("tracer.recording.live_wires._LARGE", 0)
    aside = tracer.record(Halving(), x, target=0)
    unseen = [next(n for n in trace.nodes if n.kind == "unobserved") for trace in (kept, aside)]
    np.testing.assert_array_equal(unseen[0].self_leak, unseen[1].self_leak)
    edges = [trace.edges(node)[0] for trace, node in zip((kept, aside), unseen, strict=True)]
    np.testing.assert_array_equal(edges[0].flow, edges[1].flow)
    assert edges[0].difference_statistics == edges[1].difference_statistics is not None
    np.testing.assert_array_equal(kept.columns.leak, aside.columns.leak)


@pytest.mark.parametrize("architecture", ["bert", "deberta"])
@pytest.mark.parametrize("batch", [0, 2**26])
def test_figures_are_those_of_the_tensors(monkeypatch: pytest.MonkeyPatch, architecture: str, batch: int) -> None:
    """Also those of views, which share memory with their bases, and of gradients whose memory is used again."""
    monkeypatch.setattr("tracer.ledger.settling._BATCH", batch)
    monkeypatch.setattr("tracer.recording.live_wires._LARGE", 0)
    model = make_tiny(architecture)
    torch.manual_seed(1)
    x = torch.randn(2, 6, 16)

    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(inputs_embeds=x).logits
            return logits

    trace = tracer.record(Embedded(), x, target=0)
    places = {"in": ("input", "reference", "multiplier_in"), "out": ("output", "output_reference", "multiplier_out")}
    compared = 0
    for node in trace.nodes:
        for edge in trace.edges(node.id):
            stored = edge.value, edge.reference, edge.multiplier
            figures = edge.value_statistics, edge.reference_statistics, edge.multiplier_statistics
            for name, reference, found in zip(places[edge.direction], stored, figures, strict=True):
                if reference is not None:
                    assert found == approximately(statistics(trace.tensor(node, name, edge.slot)))
                    compared += 1
    assert compared > 300


def approximately(figures: Statistics) -> Statistics:
    """The figures; mean and norm up to rounding, which depends on the order of the elements in memory."""
    return replace(
        figures,
        mean=pytest.approx(figures.mean, rel=1e-4, abs=1e-6),
        norm=pytest.approx(figures.norm, rel=1e-4, abs=1e-12),
    )


def test_halves_that_overlap_have_their_own_figures() -> None:
    base, cache = torch.arange(8.0), StatisticsCache()
    cache.statistics(as_array(base[2:6]))
    whole = as_array(torch.as_strided(base, (4, 2), (1, 1)))
    first, second = whole.half(0, ExamplePlace(0, 1), 2), whole.half(1, ExamplePlace(0, 1), 2)
    for half in (first, second):
        assert half.numbers is not None
        assert cache.statistics(half) == statistics(half.numbers)


def test_figures_of_a_part_are_not_those_of_the_whole() -> None:
    tensor, cache = torch.arange(6.0).reshape(3, 2), StatisticsCache()
    for part in (tensor, tensor[:2], tensor[1:], tensor.T, tensor[:, :1], tensor.view(torch.int32), tensor.double()):
        recorded = as_array(part)
        expected = None if recorded.numbers is None else statistics(recorded.numbers)
        assert cache.statistics(recorded) == expected
