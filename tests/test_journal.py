"""What a trace file shows of a run that is under way, was killed, or could not be written."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

import tracer
from tracer.analysis.verdict import verdict
from tracer.errors import TraceFileError
from tracer.recording import journal

KILLS = 8  # 200 and more: python -m tests.benchmarks.kills


class Chain(nn.Module):
    """Layers in a row; `look()` is called in the middle of the forward pass."""

    def __init__(self, layers: int = 6, look: object = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(layers))
        self.look = look

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if callable(self.look) and torch.is_grad_enabled() and index == len(self.layers) // 2:
                self.look(x)
        return x.sum(1)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal writes at every call."""
    monkeypatch.setattr(journal, "_SECONDS", 0.0)
    monkeypatch.setattr(journal, "_SHARE", 0)


@pytest.mark.parametrize("method", ["captum", "exact"])
def test_a_running_trace_shows_the_calls_so_far(tmp_path: Path, eager: None, method: str) -> None:
    path, seen = tmp_path / "run.dltrace", []

    def look(x: torch.Tensor) -> None:
        with tracer.open_trace(path) as trace:
            if len(trace.nodes) and not seen:  # none yet in the reference's run
                paths = [node.path for node in trace.nodes]
                seen.append((trace.run.status, trace.run.message, paths, verdict(trace).level))

    def back(x: torch.Tensor) -> None:
        def in_backward(gradient: torch.Tensor) -> None:
            with tracer.open_trace(path) as trace:
                seen.append((trace.run.status, trace.run.message, len(trace.nodes)))

        look(x)
        if x.requires_grad and seen:
            x.register_hook(in_backward)

    torch.manual_seed(0)
    whole = tracer.record(Chain(look=back), torch.randn(2, 4), method=method, path=path)  # type: ignore[arg-type]
    status, message, paths, level = seen[0]
    assert (status, level) == ("recording", "unfinished")
    assert message == f"forward pass: {len(paths)} calls so far"
    assert paths == [node.path for node in whole.nodes][: len(paths)]
    assert 0 < len(paths) < len(whole.nodes)
    # 14 calls of modules and the sum; captum's doubling happens before the first.
    assert seen[1] == ("recording", f"backward pass through {len(whole.nodes)} calls", len(whole.nodes))
    assert whole.run.status == "complete"
    assert np.isfinite(whole.columns.self_leak).all()


def test_the_journal_leaves_no_mark_on_the_finished_trace(eager: None) -> None:
    torch.manual_seed(0)
    model, x = Chain(), torch.randn(2, 4)
    with_journal = tracer.record(model, x)
    journal._SECONDS = 1e9  # the fixture puts it back
    without = tracer.record(model, x)
    np.testing.assert_array_equal(with_journal.columns.self_leak, without.columns.self_leak)
    assert with_journal.columns.paths == without.columns.paths
    assert with_journal.run.message == without.run.message == ""


def test_an_interrupted_exact_run_keeps_its_calls(tmp_path: Path) -> None:
    runs = []

    def stop(x: torch.Tensor) -> None:
        runs.append(x)
        if len(runs) == 2:  # the reference's run comes first
            raise KeyboardInterrupt

    path = tmp_path / "run.dltrace"
    with pytest.raises(KeyboardInterrupt):
        tracer.record(Chain(look=stop), torch.randn(2, 4), method="exact", path=path)
    with tracer.open_trace(path) as trace:
        assert (trace.run.status, trace.run.message) == ("failed", "interrupted")
        assert [node.path for node in trace.nodes][-1] == "layers.3.1"


RECORDING = """
import sys, torch, tracer
from tracer.recording import journal
from tracer.tracefile.writer import TraceWriter
from tests.test_journal import Chain
journal._SECONDS, journal._SHARE = 0.0, 0
plain = TraceWriter.note_progress
def told(self, message, nodes):
    plain(self, message, nodes)
    print(self._connection.execute("select count(*) from node").fetchone()[0], flush=True)
TraceWriter.note_progress = told
torch.manual_seed(0)
model, x = Chain(120), torch.randn(2, 4)
print("ready", flush=True)
tracer.record(model, x, path=sys.argv[1], method=sys.argv[2])
print("done", flush=True)
"""


def kill_once(path: Path, method: str, lines: int) -> tuple[int, str, int]:
    """(calls committed, status, calls that the file shows) of a recording that is killed after so many commits."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(RECORDING), str(path), method],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1], env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        committed = 0
        for number, line in enumerate(process.stdout):
            committed = int(line) if line.strip().isdigit() else committed
            if number > lines:
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
    with tracer.open_trace(path) as trace:
        return committed, trace.run.status, len(trace.nodes)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(KILLS // 2))
@pytest.mark.parametrize("method", ["captum", "exact"])
def test_a_killed_recording_loses_no_committed_call(tmp_path: Path, method: str, seed: int) -> None:
    # 241 calls are committed one by one in the forward pass, then multipliers.
    lines = random.Random(seed).randrange(2, 400)
    committed, status, shown = kill_once(tmp_path / "run.dltrace", method, lines)
    assert status == "recording"
    assert 0 < committed <= shown


FULL_DISK = """
import resource, signal, sys, torch, captum.attr, tracer
from tests.test_journal import Chain
torch.manual_seed(0)
model, x = Chain(4), torch.randn(2, 50_000, 4)
free = captum.attr.DeepLift(model).attribute(x, target=0)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
try:
    with tracer.watch(model, sys.argv[1]):
        watched = captum.attr.DeepLift(model).attribute(x, target=0)
except tracer.errors.TraceFileError as error:
    print(error)
print(torch.equal(free, watched))
"""


def test_a_full_disk_leaves_the_attribution_and_a_file_that_opens(tmp_path: Path) -> None:
    path = tmp_path / "run.dltrace"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    said, same = done.stdout.strip().splitlines()[-2:]
    assert same == "True"
    assert said.startswith(f"cannot write {path}")
    with tracer.open_trace(path) as trace:
        assert trace.run.status in ("recording", "failed")


def test_a_budget_elides_tensors_and_keeps_figures() -> None:
    torch.manual_seed(0)
    model, x = Chain(), torch.randn(2, 4)
    trace = tracer.record(model, x, max_bytes=300)
    stored = sum(row[4] for row in trace.stored_tensors())
    assert 0 < stored <= 300 + 2 * 4 * 4  # and the attributions
    # What comes first is kept, and multipliers come from the output backwards.
    (edge,) = [edge for edge in trace.edges(trace.find("layers.0.0")) if edge.direction == "in"]
    assert edge.value is not None
    assert edge.value.elided
    assert edge.value_statistics is not None
    with pytest.raises(TraceFileError, match="was left out to save room"):
        trace.tensor(trace.find("layers.0.0"), "multiplier_in")
    assert trace.tensor(trace.find("layers.5.1"), "output").shape == (2, 4)
    unbounded = tracer.record(model, x)
    edges = [edge for node in trace.nodes for edge in trace.edges(node.id)]
    refs = [ref for edge in edges for ref in (edge.value, edge.reference, edge.multiplier)]
    assert trace.left_out == sum(ref is not None and ref.elided for ref in refs) > 10
    assert unbounded.left_out == tracer.record(model, x, capture="summary").left_out == 0
    np.testing.assert_array_equal(trace.columns.self_leak, unbounded.columns.self_leak)


def test_watch_takes_a_budget_too() -> None:
    torch.manual_seed(0)
    model, x = Chain(), torch.randn(2, 4)
    with tracer.watch(model, max_bytes=0) as watching:
        captum.attr.DeepLift(model).attribute(x)
    assert watching.trace.query("SELECT count(*) FROM tensor") == [(1,)]
    assert watching.trace.attributions[0].shape == (2, 4)  # kept whatever the budget
