"""Traces of every version of the layout open, with what they hold."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.synthetic import write_synthetic
from tracer.errors import TraceFileError
from tracer.records import Counterfactual, Finding, Note
from tracer.tracefile.amend import amend
from tracer.tracefile.layout import SCHEMAS
from tracer.tracefile.trace import open_trace

GOLDEN = Path(__file__).parent / "golden"


def test_there_is_a_golden_trace_of_every_version() -> None:
    assert {path.name for path in GOLDEN.glob("*.dltrace")} == {f"schema-{v}.dltrace" for v in SCHEMAS}


@pytest.mark.parametrize("version", SCHEMAS)
def test_a_golden_trace_opens(version: int) -> None:
    with open_trace(GOLDEN / f"schema-{version}.dltrace") as trace:
        assert trace.version == version
        assert trace.run.model == "net"
        assert trace.run.tokens == (("a", "b", "c"), ("d", "e", "f"))
        np.testing.assert_allclose(trace.delta, [-0.24477172, -0.57470167], rtol=1e-6)
        np.testing.assert_allclose(trace.columns.self_leak.sum(), trace.delta.sum(), rtol=1e-5)
        assert [node.type for node in trace.nodes] == [
            "Net", "LayerNorm", "Linear", "matmul", "softmax", "matmul", "ReLU", "Linear", "sum",
        ]  # fmt: skip
        assert trace.tensor(trace.find("/softmax"), "output").shape == (2, 3, 3)
        assert trace.attributions[0].shape == (2, 3, 4)


def test_the_first_version_has_no_notes_and_is_not_amended() -> None:
    with open_trace(GOLDEN / "schema-1.dltrace") as trace:
        assert trace.notes == ()
        assert trace.counterfactuals == ()
        assert trace.run.command == ""
        with pytest.raises(TraceFileError, match=r"schema-1\.dltrace has the layout of an older version: record it"):
            amend(trace, findings=[])


def test_the_second_version_has_notes_and_counterfactuals() -> None:
    with open_trace(GOLDEN / "schema-2.dltrace") as trace:
        assert [note.kind for note in trace.notes] == ["approximated"]
        assert [run.change for run in trace.counterfactuals] == ["softmax exact"]
        assert trace.findings == ()


def test_the_third_version_has_findings_that_any_sqlite_client_reads() -> None:
    with open_trace(GOLDEN / "schema-3.dltrace") as trace:
        assert [note.kind for note in trace.notes] == ["approximated"]
        assert [run.change for run in trace.counterfactuals] == ["softmax exact"]
        assert [(one.kind, one.nodes) for one in trace.findings] == [
            ("unseen-op", (4,)), ("linearised-norm", (1,)), ("linearised-product", (5, 3)),
        ]  # fmt: skip
        assert trace.findings[0].issues == (351, 1082, 1085)
        assert dict(trace.findings[0].evidence) == {"example once exact": 0.0, "its delta once exact": -0.1}
    with closing(sqlite3.connect(GOLDEN / "schema-3.dltrace")) as connection:
        found = connection.execute("SELECT kind, path, call, share, caused_by, delta_after, advice FROM finding")
        rows = found.fetchall()
    assert [row[:3] for row in rows] == [("unseen-op", "/softmax", 0), ("linearised-norm", "norm", 0),
                                         ("linearised-product", "/matmul", 1)]  # fmt: skip
    assert sum(row[3] for row in rows) == pytest.approx(1)
    assert [row[4] for row in rows] == ["", "unseen-op", "unseen-op"]
    assert rows[0][5] == pytest.approx(-0.3) and "--rule 'softmax=exact'" in rows[0][6]


def test_a_trace_of_the_second_version_is_amended_in_its_own_layout(tmp_path: Path) -> None:
    path = tmp_path / "run.dltrace"
    path.write_bytes((GOLDEN / "schema-2.dltrace").read_bytes())
    with open_trace(path) as trace:
        run = replace(trace.counterfactuals[0], change="norm exact")
        amend(trace, counterfactuals=[run], findings=[_finding()])
    with open_trace(path) as trace:
        assert trace.version == 2
        assert [run.change for run in trace.counterfactuals] == ["norm exact"]
        assert trace.query("SELECT kind, path, call, delta_after FROM finding") == [("unseen-op", "a/b", 1, 0.5)]


def _run(nodes: int, step: int = 0) -> Counterfactual:
    return Counterfactual(
        step, "softmax exact (6 calls)", "softmax", ("softmax=exact",), np.array([0.5]), np.arange(float(nodes)), 0.25
    )


def _finding() -> Finding:
    return Finding("unseen-op", 3, "a/b", 1, "net.py:3 forward", 0.5, "it leaks", "make it a module", delta_after=0.5)


@pytest.mark.parametrize("in_memory", [False, True])
def test_what_amend_writes_is_read_back(tmp_path: Path, in_memory: bool) -> None:
    path = None if in_memory else tmp_path / "run.dltrace"
    writer = write_synthetic(path)
    with writer.trace() if path is None else open_trace(path) as trace:
        assert trace.counterfactuals == ()
        later, first = _run(len(trace.nodes), step=2), _run(len(trace.nodes))
        amend(trace, counterfactuals=[later, first], findings=[_finding()])
        read = trace.counterfactuals
        assert [run.step for run in read] == [0, 2]
        np.testing.assert_array_equal(read[0].self_leak, first.self_leak)
        assert (read[0].change, read[0].rules, read[0].seconds) == (first.change, first.rules, first.seconds)
        amend(trace, counterfactuals=[first])
        assert len(trace.counterfactuals) == 1
        rows = trace._reader.connection.execute(
            "SELECT kind, path, call, source, share, delta_after FROM finding"
        ).fetchall()
        assert rows == [("unseen-op", "a/b", 1, "net.py:3 forward", 0.5, 0.5)]  # kept where only the runs were given


def test_an_amended_trace_is_one_file(tmp_path: Path) -> None:
    path = tmp_path / "run.dltrace"
    write_synthetic(path)
    with open_trace(path) as trace:
        amend(trace, findings=[_finding()])
    assert [file.name for file in tmp_path.iterdir()] == ["run.dltrace"]


def test_a_failed_amendment_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.dltrace"
    write_synthetic(path)
    with open_trace(path) as trace:
        nodes = len(trace.nodes)
        amend(trace, counterfactuals=[_run(nodes)])
        bad = Counterfactual(0, "x", "y", (), np.zeros(1), np.zeros(1), seconds=object())  # type: ignore[arg-type]
        with pytest.raises((TraceFileError, sqlite3.Error)):
            amend(trace, counterfactuals=[_run(nodes, step=1), bad])
        assert [run.step for run in trace.counterfactuals] == [0]


def test_a_process_that_is_killed_while_it_amends_leaves_a_trace_that_opens(tmp_path: Path) -> None:
    path = tmp_path / "run.dltrace"
    write_synthetic(path, layers=20, ops_per_layer=500)
    code = (
        "import os, signal, sys, numpy as np\n"
        "import tracer\n"
        "from tracer.records import Counterfactual\n"
        "from tracer.tracefile.amend import amend\n"
        "class Runs(list):\n"
        "    def __iter__(self):\n"
        "        for _ in range(100): yield Counterfactual(0, 'x', 'y', (), np.zeros(1), np.zeros(10_121))\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "amend(tracer.open_trace(sys.argv[1]), counterfactuals=Runs())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], cwd=Path(__file__).parent.parent, check=False)
    assert done.returncode == -signal.SIGKILL
    with open_trace(path) as trace:  # SQLite had written some of its 8 MB
        assert trace.counterfactuals == () and len(trace.nodes) == 10_121


def test_a_trace_that_is_being_recorded_is_not_amended(tmp_path: Path) -> None:
    writer = write_synthetic(tmp_path / "run.dltrace", status="recording")
    writer.commit()
    with open_trace(tmp_path / "run.dltrace") as trace, pytest.raises(TraceFileError, match="is still being recorded"):
        amend(trace, findings=[])


def test_notes_are_read_back(tmp_path: Path) -> None:
    notes = (Note("training mode"), Note("pool", "net.pool", 1, "kernel_size=4, stride=2", 0.25, "net.py:3 forward"))
    writer = write_synthetic(tmp_path / "run.dltrace", status="recording")
    writer.add_notes(notes)
    writer.commit()
    with open_trace(tmp_path / "run.dltrace") as trace:
        read = trace.notes
    assert read[1] == notes[1]
    assert (read[0].kind, read[0].path, read[0].call, read[0].detail, read[0].source) == (
        "training mode",
        "",
        None,
        "",
        None,
    )
    assert np.isnan(read[0].amount)
