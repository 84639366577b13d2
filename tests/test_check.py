"""`deeplift-tracer check`: the exit code is the answer, one line says why."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.synthetic import synthetic_run, write_synthetic
from tests.test_cli import call
from tracer.tracefile.writer import TraceWriter

ROOT = Path(__file__).parent.parent


def written(path: Path, deltas: list[float], change: float = 2.0) -> Path:
    """A complete trace without calls, whose examples have these deltas."""
    ends = np.full(len(deltas), change), np.zeros(len(deltas))
    run = replace(synthetic_run(len(deltas)), output=ends[0], output_reference=ends[1], delta=np.array(deltas))
    with TraceWriter(path) as writer:
        writer.begin(run)
        writer.finish(run)
    return path


@pytest.mark.parametrize(
    ("deltas", "most", "options", "code", "line"),
    [
        ([2e-4], "1e-4", (), 0, "holds: relative delta 0.0001 <= 0.0001 (delta +0.0002, output's change +2)"),
        (
            [2.1e-4], "1e-4", (), 1,
            "does not hold: relative delta 0.000105 is not <= 0.0001 (delta +0.00021, output's change +2)",
        ),
        (
            [1e-4, -4.0, 1e-4], "0.1", (), 1,
            "does not hold: relative delta 2 in example 1 of 3 is not <= 0.1 (delta -4, output's change +2)",
        ),
        (
            [1e-4, -4.0, 4.0], "0.1", ("--example", "0"), 0,
            "holds: relative delta 5e-05 in example 0 of 3 <= 0.1 (delta +0.0001, output's change +2)",
        ),
        ([4.0, -4.0], "0.1", (), 1, "does not hold: relative delta 2 in example 0 of 2"),
        ([float("nan")], "1e9", (), 1, "does not hold: relative delta nan is not <= 1 000 000 000"),
        ([0.0], "0", (), 0, "holds: relative delta 0 <= 0"),
    ],
)  # fmt: skip
def test_the_exit_code_says_whether_the_worst_example_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], deltas: list[float], most: str, options: tuple[str, ...],
    code: int, line: str,
) -> None:  # fmt: skip
    file = written(tmp_path / "run.dltrace", deltas)
    assert call("check", file, "--max-relative-delta", most, *options) == code
    out, err = capsys.readouterr()
    assert out.startswith(line) and out.count("\n") == 1 and err == ""


def test_an_output_that_stays_holds_only_without_a_delta(tmp_path: Path) -> None:
    assert call("check", written(tmp_path / "a.dltrace", [0.0], 0.0), "--max-relative-delta", "0") == 0
    assert call("check", written(tmp_path / "b.dltrace", [1e-9], 0.0), "--max-relative-delta", "1e9") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("FOLDER/none", "--max-relative-delta", "1"), "FOLDER/none does not exist: give a file that"),
        (("FOLDER/text", "--max-relative-delta", "1"), "FOLDER/text is not a trace: give a file that"),
        (
            ("FOLDER/failed.dltrace", "--max-relative-delta", "1"),
            "the run in FOLDER/failed.dltrace failed: it failed on purpose: there is no delta to check",
        ),
        (
            ("FOLDER/killed.dltrace", "--max-relative-delta", "1"),
            "the run in FOLDER/killed.dltrace is not finished: there is no delta to check",
        ),
        (
            ("FOLDER/good.dltrace", "--max-relative-delta", "1", "--example", "2"),
            "there is no example 2: the trace holds 2, 0 to 1",
        ),
        (("FOLDER/good.dltrace",), "the following arguments are required: --max-relative-delta"),
        (("FOLDER/good.dltrace", "--max-relative-delta", "-1"), "'-1' is not a number from 0, such as 1e-3"),
        (("FOLDER/good.dltrace", "--max-relative-delta", "nan"), "'nan' is not a number from 0, such as 1e-3"),
    ],
)
def test_what_cannot_be_checked_is_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], line: str
) -> None:
    (tmp_path / "text").write_text("hello")
    write_synthetic(tmp_path / "failed.dltrace", status="failed")
    write_synthetic(tmp_path / "killed.dltrace", status="recording")
    written(tmp_path / "good.dltrace", [1.0, 1.0])
    assert call("check", *(argument.replace("FOLDER", str(tmp_path)) for argument in arguments)) == 2
    out, err = capsys.readouterr()
    assert out == "" and line.replace("FOLDER", str(tmp_path)) in err.splitlines()[-1] and "Traceback" not in err


def test_it_loads_no_torch(tmp_path: Path) -> None:
    file = written(tmp_path / "run.dltrace", [1.0])
    code = (
        "import sys; from tracer.cli import main;"
        f"code = main(['check', {str(file)!r}, '--max-relative-delta', '0.1']);"
        "sys.exit(code if not {'torch', 'captum', 'textual'} & set(sys.modules) else 99)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 1
