"""Wires are settled while the run goes on, and their tensors leave memory."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import captum
import numpy as np
import pytest
import torch
from torch import nn

import tracer
from tracer.errors import TraceFileError
from tracer.observation import Wire
from tracer.settling import Settling
from tracer.spill import Spill


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
    """Call `after` when a wire was settled during the run."""
    settle = Settling.settle

    monkeypatch.setattr("tracer.settling._BATCH", 0)

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
    assert left[-1] == 2  # the input and the output, whose multipliers tell what is explained


def unsettled(settling: Settling) -> int:
    return sum(not wire.settled for wire in settling.observation.wires)


@pytest.mark.parametrize("method", ["captum", "exact"])
def test_tensors_leave_memory_during_the_run(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """At every moment of the backward pass only few of the tensors of the run are alive."""
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
    monkeypatch.setattr("tracer.settling._BATCH", 0)
    monkeypatch.setattr("tracer.live._LARGE", 2**60)
    kept = recorded()
    monkeypatch.setattr("tracer.live._LARGE", 0)
    monkeypatch.setattr("tracer.spill._SMALL", 0)
    monkeypatch.setattr("tracer.recording.Spill", lambda folder: Spill(folder, allowance=0))
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
    monkeypatch.setattr("tracer.settling._BATCH", 4 * tensor)
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


def test_a_sink_that_fails_leaves_the_attribution_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Wide(2), torch.randn(1, 300, 200)
    alone = captum.attr.DeepLift(model).attribute(x, target=0)

    def fail(*_arguments: object) -> None:
        raise TraceFileError("cannot write it (database or disk is full)")

    monkeypatch.setattr("tracer.store.TraceWriter.put_tensor", fail)
    found = []
    with pytest.raises(TraceFileError, match="disk is full"), tracer.watch(model, tmp_path / "run.dltrace"):
        found.append(captum.attr.DeepLift(model).attribute(x, target=0))
    assert torch.equal(found[0], alone)
