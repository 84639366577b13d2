"""Recordings that end too soon: the file opens, shows what was committed, and says how far it got."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import captum.attr
import pytest
import torch
from torch import nn

import tracer
from tests.synthetic import synthetic_run, write_synthetic
from tests.test_journal import Chain
from tests.test_reservation import call
from tracer import cli
from tracer.commands import view
from tracer.commands.out_of_memory import is_out_of_memory
from tracer.errors import ObservationError
from tracer.report.text import report_text
from tracer.tracefile.writer import TraceWriter

ROOT = Path(__file__).parents[1]
LAYERS = 3
CALLS = [path for index in range(LAYERS) for path in (f"layers.{index}", f"layers.{index}.0", f"layers.{index}.1")]


@pytest.mark.slow
def test_a_sample_of_the_long_run() -> None:
    # 200 and more of each: python -m tests.benchmarks.kills --what all
    count, ways = 5, ("kill", "interrupt", "memory", "disk", "watch")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.kills", "--what", *ways, "--count", str(count)],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    words = re.findall(r"^\| (\d+) \| (.*) \|$", done.stdout, re.MULTILINE)
    assert sum(int(number) for number, _ in words) == count * len(ways)
    assert sum(int(number) for number, word in words if not word.startswith("done: ")) > count


class Fault(ValueError):
    """What the model's own code raises."""


def breaking(path: str, backward: bool, skipped: int = 0) -> nn.Module:
    """A model that raises where the module at `path` has run, or where the gradient comes back to it.

    Not in its first `skipped` runs with gradients, as that of the reference.
    """
    torch.manual_seed(0)
    model, runs = Chain(LAYERS).requires_grad_(False), 0
    module = model.get_submodule(path)
    forward = module.forward

    def raising(x: torch.Tensor) -> torch.Tensor:
        nonlocal runs
        y = forward(x)
        runs += y.requires_grad
        if not y.requires_grad or runs <= skipped:
            return y
        if not backward:
            raise Fault("boom")
        y.register_hook(back)
        return y

    def back(_: torch.Tensor) -> None:
        raise Fault("boom")

    module.forward = raising  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize("method", ["exact", "gradient"])
def test_an_error_in_the_reference_run_leaves_a_file_that_says_so(tmp_path: Path, method: str) -> None:
    model = breaking("layers.1", backward=False)
    model.requires_grad_(True)
    file = tmp_path / "run.dltrace"
    with pytest.raises(ObservationError, match="ended with Fault: boom"):
        tracer.record(model, torch.randn(2, 4), method=method, path=file)  # type: ignore[arg-type]
    with tracer.open_trace(file) as trace:
        assert (trace.run.status, trace.run.message) == ("failed", "Fault: boom (in the reference's run)")
        assert [node.path for node in trace.nodes] == [""]


@pytest.mark.parametrize("method", ["captum", "exact", "gradient"])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("path", CALLS)
def test_an_error_at_any_call_leaves_the_calls_before_it(
    tmp_path: Path, path: str, backward: bool, method: str
) -> None:
    model = breaking(path, backward, skipped=int(method != "captum"))
    file = tmp_path / "run.dltrace"
    with pytest.raises(ObservationError, match="ended with Fault: boom") as caught:
        tracer.record(model, torch.randn(2, 4), method=method, path=file)  # type: ignore[arg-type]
    assert str(file) in str(caught.value) and [each.name for each in tmp_path.iterdir()] == [file.name]
    check_failed(file, path, backward)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("path", CALLS)
def test_so_does_one_in_a_watched_run(tmp_path: Path, path: str, backward: bool) -> None:
    model = breaking(path, backward)
    file = tmp_path / "run.dltrace"
    with pytest.raises(Fault, match="boom"), tracer.watch(model, file):
        captum.attr.DeepLift(model).attribute(torch.randn(2, 4))
    check_failed(file, path, backward)


def check_failed(file: Path, path: str, backward: bool) -> None:
    with tracer.open_trace(file) as trace:
        assert (trace.run.status, trace.run.message) == ("failed", "Fault: boom")
        modules = [node.path for node in trace.nodes if node.kind == "module" and node.path]
        so_far = CALLS.index(path) + len([each for each in CALLS if f"{each}.".startswith(f"{path}.")])
        assert modules == (CALLS if backward else CALLS[:so_far])
        assert all(len(node.self_leak) == 2 for node in trace.nodes)
        tracer.diagnose(trace)  # reads what there is
        text = report_text(trace)
        assert "failed" in text and "Fault: boom" in text


def test_a_run_without_a_call_yet_is_shown_as_that(tmp_path: Path) -> None:
    file = tmp_path / "run.dltrace"
    with TraceWriter(file) as writer:
        writer.begin(synthetic_run(2))
        with tracer.open_trace(file) as trace:
            for example in (None, 0, 1):
                assert [figures.shape for figures in trace.leaks(example)] == [(0,), (0,)]
                assert "still being recorded" in report_text(trace, example=example)


def test_an_interrupt_between_a_commit_and_the_next_transaction_is_one_like_any(tmp_path: Path) -> None:
    file = tmp_path / "run.dltrace"
    with pytest.raises(KeyboardInterrupt), TraceWriter(file) as writer:
        writer.begin(synthetic_run())
        writer._connection.execute("COMMIT")
        raise KeyboardInterrupt
    with tracer.open_trace(file) as trace:
        assert (trace.run.status, trace.run.message) == ("failed", "interrupted")
    assert list(tmp_path.iterdir()) == [file]
    with TraceWriter(file, force=True) as writer:
        writer.begin(synthetic_run())
        writer._connection.execute("COMMIT")
        writer.finish(synthetic_run(status="failed"))  # as a recording does that was interrupted
    with tracer.open_trace(file) as trace:
        assert trace.run.status == "failed"


def test_what_came_of_an_interrupt_is_called_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Any) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise RuntimeError("trying to pop from empty mode stack") from None

    def named(_: Any) -> None:
        try:
            fail(_)
        except RuntimeError as error:
            raise ObservationError("it ended") from error

    for failing in (fail, named):
        monkeypatch.setattr(view, "run", failing)
        assert cli.main(["view", "x"]) == 130
        assert capsys.readouterr().err == "deeplift-tracer: interrupted\n"


# The command line.


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "out of memory: give fewer"),
        (MemoryError("Unable to allocate 9 GiB"), "out of memory (Unable to allocate 9 GiB): give fewer"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory (DefaultCPUAllocator: can't allo"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to\n"), "out of memory (CUDA out of memory. Tried to "),
        (ImportError("x.so: failed to map segment from shared object"), "out of memory (x.so: failed to map segment"),
        (SystemError("error return without exception set"), "out of memory (error return without exc"),
        (OSError(12, "Cannot allocate memory"), "out of memory ([Errno 12] Cannot allocate memory): give fewer"),
    ],
)
def test_out_of_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, line: str
) -> None:
    def fail(_: Any) -> None:
        raise error

    def named(_: Any) -> None:
        raise ObservationError("it ended") from error

    monkeypatch.setattr(view, "run", fail)
    assert cli.main(["view", "x"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"deeplift-tracer: {line}") and said.count("\n") == 1
    monkeypatch.setattr(view, "run", named)
    assert cli.main(["view", "x"]) == 2
    assert capsys.readouterr().err.startswith("deeplift-tracer: it ended: give fewer examples or a shorter text")


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), ImportError("no x"), SystemError("bad call")])
def test_other_errors_are_not_called_so(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(_: Any) -> None:
        raise error

    assert not is_out_of_memory(error)
    monkeypatch.setattr(view, "run", fail)
    with pytest.raises(type(error)):
        cli.main(["view", "x"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device here")
def test_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "run.dltrace", layers=1)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tracer", "report", str(tmp_path / "run.dltrace")],
            stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        "deeplift-tracer: cannot read or write (No space left on device): look at its name, rights and free space\n"
    )


def test_what_the_system_refuses_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "run.dltrace"
    write_synthetic(trace, layers=1)
    for length in (240, 248, 250, 252, 254, 255, 256, 300, 5000):
        name = tmp_path / ("x" * length)
        for command in (
            ("report", name), ("view", name), ("check", name, "--max-relative-delta", "1"), ("repair", name),
            ("report", trace, "-o", name), ("export", trace, "--to", "csv", "-o", name),
            ("trace", "none", "--text", "x", "-o", name),
            *[("demo", "--no-view", "-o", name)] * (length > 255),
        ):  # fmt: skip
            code = call(*command)
            _out, err = capsys.readouterr()
            assert code == 2 or (command[0] in ("report", "export") and code == 0 and length < 255), command[0]
            assert "Traceback" not in err and (code == 0 or err.splitlines()[-1].startswith("deeplift-tracer: "))
        if length < 256:
            with suppress(tracer.errors.TraceFileError), TraceWriter(name, force=True) as writer:
                writer.begin(synthetic_run())
                writer.finish(synthetic_run())
            if name.exists():
                assert tracer.open_trace(name).run.status == "complete"
                name.unlink()


def test_unbuffered_output_that_does_not_fit_is_said(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "run.dltrace").close()
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "from tracer.cli import main; sys.argv = ['deeplift-tracer', 'report', 'run.dltrace', '--html'];"
        "sys.exit(main())"
    )
    with (tmp_path / "out.html").open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-u", "-c", code],
            cwd=tmp_path,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "File too large" in done.stderr
