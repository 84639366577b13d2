"""`deeplift-tracer repair` and what `trace` measures by itself: files that say how they were made, and the ladder."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import tracer
from tests.models import Plain
from tests.synthetic import write_synthetic
from tests.test_cli import call
from tests.test_rows import same
from tests.tiny import TINY_TEXT
from tracer.analysis.ladder import headline, stored_repair
from tracer.commands import subject_options
from tracer.counterfactuals import measured
from tracer.errors import TracerError
from tracer.records import Finding
from tracer.subject.run import RunOptions
from tracer.tracefile.amend import amend

FACTORY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(SEED)
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)
    def forward(self, x):
        print("noise from the model")
        h = self.first(x)
        return self.last(h.softmax(-1) * h.exp())

def net():
    return Net().double()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a model, `made_here:net`, whose delta is off, and its inputs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    write_factory(tmp_path, monkeypatch)
    torch.manual_seed(1)
    inputs = {"input": torch.randn(2, 4, dtype=torch.float64), "baseline": torch.zeros(1, 4, dtype=torch.float64)}
    save_file(inputs, tmp_path / "in.safetensors")
    return tmp_path


def write_factory(folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> None:
    (folder / "made_here.py").write_text(FACTORY.replace("SEED", str(seed)))
    monkeypatch.delitem(__import__("sys").modules, "made_here", raising=False)


def trace_findings(path: str) -> tuple[Finding, ...]:
    with tracer.open_trace(path) as trace:
        return trace.findings


MADE = ("trace", "made_here:net", "--inputs", "in.safetensors", "--target", "1", "-o", "run.dltrace")


def test_trace_measures_the_ladder_and_writes_it_into_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*MADE) == 0
    out, err = capsys.readouterr()
    assert out == "run.dltrace\n"
    with tracer.open_trace("run.dltrace") as trace:
        found = stored_repair(trace)
        assert found.reached and {single.pattern for single in found.singles} == {"softmax", "exp", "mul"}
        lines = err.splitlines()
        assert "What if: 11 runs at most …" in lines
        assert lines[-1] == headline(found) and lines[-1].startswith("3 changes bring the delta from ")
        kept = json.loads(trace.run.command)
    path = str((folder / "in.safetensors").absolute())
    assert kept == {"model": "made_here:net", "inputs": path, "target": "1", "method": "captum"}


def test_what_trace_measured_is_confirmed_by_a_run_with_the_rules_it_names(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*MADE) == 0
    with tracer.open_trace("run.dltrace") as trace:
        found = stored_repair(trace)
    rules = [part for rule in found.rules for part in ("--rule", rule)]
    assert call(*MADE[:-1], "again.dltrace", *rules) == 0
    with tracer.open_trace("again.dltrace") as again:
        assert np.allclose(again.delta, found.ladder[-1].delta, atol=1e-12)
        assert again.counterfactuals == ()  # the delta holds: there is nothing to repair
    assert capsys.readouterr().err.splitlines()[-1].startswith("The attributions add up: ")
    assert call("check", "again.dltrace", "--max-relative-delta", "1e-3") == 0
    assert call("check", "run.dltrace", "--max-relative-delta", "1e-3") == 1


@pytest.mark.parametrize("options", [(), ("--no-repair",), ("--method", "exact")])
def test_trace_writes_what_is_wrong_into_the_file(folder: Path, options: tuple[str, ...]) -> None:
    assert call(*MADE, *options) == 0
    with tracer.open_trace("run.dltrace") as trace:
        assert same(trace.findings, tracer.diagnose(trace))
        assert bool(trace.findings) == ("exact" not in options)
    with closing(sqlite3.connect("run.dltrace")) as connection:
        rows = connection.execute("SELECT kind, message FROM finding ORDER BY id").fetchall()
    assert rows == [(finding.kind, finding.message) for finding in trace_findings("run.dltrace")]


def test_repair_replaces_the_findings_by_those_that_know_what_was_measured(folder: Path) -> None:
    assert call(*MADE, "--no-repair") == 0
    before = trace_findings("run.dltrace")
    assert before and all(finding.delta_after is None for finding in before)
    for _ in range(2):
        assert call("repair", "run.dltrace") == 0
        with tracer.open_trace("run.dltrace") as trace:
            found = trace.findings
            assert same(found, tracer.diagnose(trace))
        assert sorted(finding.kind for finding in found) == sorted(finding.kind for finding in before)
        assert any(finding.delta_after is not None for finding in found)


def test_repair_of_a_model_writes_findings_where_nothing_is_to_be_repaired(folder: Path) -> None:
    assert call("repair", *MADE[1:], "--bound", "1e9") == 0
    with tracer.open_trace("run.dltrace") as trace:
        assert trace.counterfactuals == ()
        assert trace.findings and same(trace.findings, tracer.diagnose(trace))


@pytest.mark.parametrize("options", [("--no-repair",), ("--method", "exact"), ("--method", "gradient")])
def test_trace_measures_nothing_where_it_is_not_asked_to(folder: Path, options: tuple[str, ...]) -> None:
    assert call(*MADE, *options) == 0
    with tracer.open_trace("run.dltrace") as trace:
        assert trace.counterfactuals == () and trace.run.status == "complete"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KeyboardInterrupt(), "Interrupted: the trace is complete; what would make its delta vanish was not measured."),
        (TracerError("no luck"), "What would make the delta vanish was not measured: no luck"),
    ],
)
def test_the_recording_is_complete_whatever_becomes_of_the_measuring(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException, line: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(measured, "measure", fail)
    assert call(*MADE) == 0
    out, err = capsys.readouterr()
    assert out == "run.dltrace\n" and err.splitlines()[-1] == line
    with tracer.open_trace("run.dltrace") as trace:
        assert trace.run.status == "complete" and len(trace.nodes) > 3


def test_repair_loads_the_subject_again_and_writes_the_ladder(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(*MADE, "--no-repair") == 0
    capsys.readouterr()
    assert call("repair", "run.dltrace", "--no-save") == 0
    out, err = capsys.readouterr()
    assert "noise" not in out and "written" not in err
    with tracer.open_trace("run.dltrace") as trace:
        assert trace.counterfactuals == ()
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert call("repair", folder / "run.dltrace") == 0
    same, err = capsys.readouterr()
    assert same == out and err.splitlines()[-1] == f"written into {folder / 'run.dltrace'}"
    lines = out.splitlines()
    assert lines[0].startswith("3 changes bring the delta from ") and lines[1] == ""
    assert lines[3].split()[:3] == ["0", "as", "recorded"]
    with tracer.open_trace(folder / "run.dltrace") as trace:
        found = stored_repair(trace)
        assert found.reached and lines[0] == headline(found)
        assert lines[-1] == "to confirm: " + " ".join(f"--rule {rule}" for rule in found.rules)


def test_repair_by_layer_keeps_the_families_measured_before(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*MADE) == 0
    assert call("repair", "run.dltrace", "--by", "call", "--bound", "0.5", "--json") == 0
    data = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert {"schema", "headline", "delta", "relative_delta", "bound", "reached", "rules", "ladder", "singles"} <= set(
        data
    )
    assert data["bound"] == 0.5 and data["reached"] and data["ladder"][-1]["relative_delta"] <= 0.5
    assert data["rules"] == data["ladder"][-1]["rules"]
    with tracer.open_trace("run.dltrace") as trace:
        patterns = [run.pattern for run in trace.counterfactuals if run.step == 0]
        assert len(patterns) == len(set(patterns)) and {"softmax", "/softmax", "exp", "/exp"} <= set(patterns)


def test_repair_of_a_model_records_it_first(
    tiny_bert_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.dltrace"
    made = ("repair", tiny_bert_folder, "--text", TINY_TEXT, "--target", 2, "--explicit", "softmax")
    assert call(*made) == 0
    in_memory = capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert call(*made, "-o", file) == 0
    out, err = capsys.readouterr()
    assert out == in_memory and "bring the delta from " in out.splitlines()[0]
    assert err.splitlines()[-1] == f"written into {file}"
    assert call("repair", file) == 0
    assert capsys.readouterr().out == out
    assert call(*made, "-o", file) == 2
    assert "already exists: give another file with -o" in capsys.readouterr().err


def test_a_model_that_has_changed_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(*MADE, "--no-repair") == 0
    write_factory(folder, monkeypatch, seed=7)
    capsys.readouterr()
    assert call("repair", "run.dltrace") == 2
    out, err = capsys.readouterr()
    assert out == "" and "the trace is of another run: it has f(x) = [" in err.splitlines()[-1]
    with tracer.open_trace("run.dltrace") as trace:
        assert trace.counterfactuals == ()


def test_ctrl_c_in_repair_prints_and_keeps_what_was_measured(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(*MADE, "--no-repair") == 0
    measure = measured.measure

    def stopped(subject: Any, options: Any, trace: Any, report: Any, **settings: Any) -> Any:
        def progress(text: str, done: int, total: int) -> None:
            if done == 3:
                raise KeyboardInterrupt

        return measure(subject, options, trace, progress, **settings)

    monkeypatch.setattr(measured, "measure", stopped)
    capsys.readouterr()
    assert call("repair", "run.dltrace") == 130
    out, _err = capsys.readouterr()
    assert out.startswith("Stopped early, before a ladder was found.") and "not every change was tried" in out
    with tracer.open_trace("run.dltrace") as trace:
        assert len(trace.counterfactuals) == 2


def test_a_trace_from_python_shows_what_is_stored_or_says_what_to_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_synthetic(tmp_path / "run.dltrace")
    assert call("repair", tmp_path / "run.dltrace") == 2
    assert "does not say how its model is loaded: call tracer.repair(model, inputs" in capsys.readouterr().err
    torch.manual_seed(0)
    model, x = torch.nn.Sequential(Plain(), torch.nn.Softmax(-1)).double().eval(), torch.randn(1, 4).double()
    with tracer.record(model, x, target=0, path=tmp_path / "own.dltrace") as trace:
        found = tracer.repair(model, x, target=0, trace=trace)
        assert found.reached and found.ladder
        amend(trace, counterfactuals=found.counterfactuals)
    capsys.readouterr()
    assert call("repair", tmp_path / "own.dltrace") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == headline(found) and "was recorded from Python" in err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("FOLDER/run.dltrace", "--text", "t"), "--text goes with a MODEL: FOLDER/run.dltrace is a trace, which says"),
        (("FOLDER/run.dltrace", "--rule", "a=exact"), "--rule goes with a MODEL: "),
        (("FOLDER/none.dltrace",), "FOLDER/none.dltrace does not exist: give a trace file, or a model"),
        (("FOLDER/failed.dltrace",), "the run in FOLDER/failed.dltrace is not complete: only a complete run can be"),
        (("FOLDER/text",), "FOLDER/text is not a trace"),
        (("m", "--bound", "0"), "argument --bound: rounding lets no delta reach 0: give a bound of 1e-6 or more"),
        (("m",), "--text is missing: give the text to explain m for"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], line: str
) -> None:
    (tmp_path / "text").write_text("hello")
    write_synthetic(tmp_path / "run.dltrace")
    write_synthetic(tmp_path / "failed.dltrace", status="failed")
    assert call("repair", *(argument.replace("FOLDER", str(tmp_path)) for argument in arguments)) == 2
    out, err = capsys.readouterr()
    assert out == "" and line.replace("FOLDER", str(tmp_path)) in err.splitlines()[-1] and "Traceback" not in err


@pytest.mark.parametrize(
    "command",
    [
        "no json", "[]", "{}", '{"model": 3}', '{"model": "m", "more": "x"}', '{"model": "m", "rules": "softmax"}',
        '{"model": "m", "rules": [1]}', '{"model": "m", "position": "1"}', '{"model": "m", "method": "magic"}',
        '{"model": "m", "task": "rule the world"}', '{"model": "m", "reference_positions": "none"}',
        '{"model": "m", "inputs": ["a"]}', '{"model": "m", "text": null}',
    ],
)  # fmt: skip
def test_a_command_that_a_file_made_up_is_refused(command: str) -> None:
    with pytest.raises(TracerError, match="does not say in a known way how its run was made"):
        RunOptions.from_json(command)


def test_the_options_that_a_trace_keeps_come_back_as_they_were(tmp_path: Path) -> None:
    from tracer.cli import parser

    words = ["trace", str(tmp_path), "--text", "a b", "--task", "causal", "--position", "-1", "--target", " x"]
    words += ["--rule", "a=exact", "--rule", "b=gradient", "--explicit", "softmax,gelu", "--reference", "mask"]
    options = parser(words).parse_args([*words, "--reference-positions", "zero"])
    made = subject_options.run_options(options)
    assert RunOptions.from_json(made.to_json()) == made
    assert made.model == str(tmp_path)
    for field in dataclasses.fields(made):
        value, given = getattr(made, field.name), getattr(options, field.name)
        assert value == (tuple(given) if isinstance(value, tuple) else given), field.name
