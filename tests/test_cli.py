"""Data on standard output, talk on standard error, one line for a mistake, and the right exit code."""

from __future__ import annotations

import argparse
import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tracer
from tests.synthetic import write_synthetic
from tracer import cli, commands
from tracer.commands import report, subject_options, view
from tracer.commands import trace as trace_command
from tracer.errors import TracerError

ROOT = Path(__file__).parent.parent


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_synthetic(tmp_path / "run.dltrace")
    return tmp_path / "run.dltrace"


def call(*arguments: object) -> int:
    """The exit code, argparse's own exits included."""
    try:
        return cli.main([str(argument) for argument in arguments])
    except SystemExit as leaving:
        return int(leaving.code or 0)


def test_report_prints_the_report(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("report", file, "--top", 2) == 0
    out, err = capsys.readouterr()
    assert out.startswith("BROKEN: Do not read these attributions") and "worst 2 of 115 calls" in out and err == ""


def test_report_prints_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("report", file, "--json") == 0
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert err == "" and len(data["nodes"]) == 115
    assert data["self_leak_sum"] == pytest.approx(data["delta"])
    assert call("report", file, "--json", "--top", 2, "--example", 0) == 0
    assert len(json.loads(capsys.readouterr().out)["nodes"]) == 2


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("report", "FOLDER/none"),
            "deeplift-tracer: FOLDER/none does not exist: give a file that 'deeplift-tracer trace' or",
        ),
        (("view", "FOLDER/none"), "deeplift-tracer: FOLDER/none does not exist: give a file that"),
        (("report", "FOLDER/text"), "deeplift-tracer: FOLDER/text is not a trace: give a file that"),
        (
            ("report", "FOLDER/run.dltrace", "--example", "1"),
            "deeplift-tracer: there is no example 1: the trace holds 1, 0 to",
        ),
        (("report", "FOLDER/run.dltrace", "--top", "0"), "argument --top: '0' is not a whole number from 1"),
        (("report", "FOLDER/run.dltrace", "--example", "-1"), "argument --example: "),
        (("trace", "m", "--text", "t", "--explicit", "relu"), "'relu': expected softmax, gelu, or both with a comma"),
        (
            ("trace", "m", "--text", "t", "-o", "FOLDER/text"),
            "FOLDER/text already exists: give another file with -o, or over",
        ),
        (
            ("trace", "m", "--text", "t", "-o", "FOLDER/none/out.dltrace"),
            "there is no folder FOLDER/none; make it, or give a file in another",
        ),
        (
            ("export", "FOLDER/run.dltrace", "--to", "html", "-o", "FOLDER/none/out.html"),
            "there is no folder FOLDER/none; make it, or give a file in another",
        ),
        (("trace", "m"), "deeplift-tracer: --text is missing: give the text to explain m for"),
        (("repair", "m"), "deeplift-tracer: --text is missing: give the text to explain m for"),
        (("trace", "m", "--text", " "), "deeplift-tracer: the text is empty: give at least one word"),
        (
            ("trace", "m", "--text", "t", "--reference", ""),
            "deeplift-tracer: the reference text is empty: give one, or",
        ),
        (("trace", "m", "--text", "t", "--task", "guess"), "argument --task: invalid choice: 'guess'"),
        (("trace", "m", "--text", "t", "--position", "first"), "argument --position: invalid int value: 'first'"),
        (("dance",), "invalid choice: 'dance'"),
        ((), "deeplift-tracer: error: the following arguments are required: COMMAND; see deeplift-tracer --help"),
        (
            ("report",),
            "deeplift-tracer report: error: the following arguments are required: FILE; "
            "see deeplift-tracer report --help",
        ),
        (("report", "f", "--top", "1\n\x1b[2J"), "argument --top: '1\\n\\x1b[2J' is not a whole number from 1; see"),
        (("report", "f", "a\n\x1b[2Jb"), "deeplift-tracer: error: unrecognized arguments: a ␛[2Jb; see"),
        (
            ("trace", "FOLDER/none", "--text", "t", "--rule", "softmax"),
            "argument --rule: rule 'softmax' is not of the form PATTERN=RULE, such as '*/softmax=exact'; see",
        ),
        (
            ("repair", "FOLDER/none", "--text", "t", "--rule", "softmax=exakt"),
            "argument --rule: no rule is called 'exakt'; there are exact, gradient, rescale, captum; see",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    file: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], line: str
) -> None:
    (file.parent / "text").write_text("hello")
    folder = str(file.parent)
    assert call(*(argument.replace("FOLDER", folder) for argument in arguments)) == 2
    out, err = capsys.readouterr()
    assert out == "" and line.replace("FOLDER", folder) in err.splitlines()[-1] and "Traceback" not in err
    assert err.count("\n") == 1


def test_an_error_is_one_line_whatever_it_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Any) -> None:
        raise TracerError("first\nsecond \x1b[31m")

    monkeypatch.setattr(report, "run", fail)
    assert call("report", "x") == 2
    assert capsys.readouterr().err == "deeplift-tracer: first second ␛[31m\n"


def test_an_interrupt_is_exit_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(view, "run", interrupt)
    assert call("view", "x") == 130
    assert capsys.readouterr().err == "deeplift-tracer: interrupted\n"


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out == f"deeplift-tracer {tracer.__version__}\n"
    assert call("--help") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("demo", "trace", "view", "report"))


def test_a_module_in_the_folder_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    files = {path.stem for path in Path(commands.__file__).parent.glob("[a-z]*.py")}
    names = commands.names()
    assert {*names} == files - commands.SHARED and files > commands.SHARED
    assert names[:4] == ["demo", "trace", "view", "report"]
    for name in names:
        assert call(name, "--help") == 0
        assert f"usage: deeplift-tracer {name}" in capsys.readouterr().out


def test_the_help_of_trace_shows_each_kind_of_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("trace", "--help") == 0
    out = capsys.readouterr().out
    lines = [line.strip() for line in out.splitlines()]
    examples = [line for line in lines if line.startswith("deeplift-tracer trace ")]
    assert all(any(word in line for line in examples) for word in (" Paris", "[MASK]", "models:net", "--rule"))
    for line in examples:  # as a shell would split them, they are options that there are
        words = shlex.split(line)[1:]
        assert cli.parser(words).parse_args(words).command == "trace"


def test_view_without_a_terminal_prints_the_report(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("view", file) == 0
    assert capsys.readouterr().out.startswith("BROKEN: ")


@pytest.mark.parametrize(("term", "shown"), [("xterm-256color", True), ("dumb", False)])
def test_view_on_a_terminal_runs_the_ui(file: Path, tmp_path: Path, term: str, shown: bool) -> None:
    code = (
        "import sys, types; app = types.ModuleType('tui.app');"
        "app.run = lambda path, *more, **how: print('UI on', path);"
        "sys.modules['tui.app'] = app; import tui; tui.app = app;"
        f"from tracer.cli import main; sys.exit(main(['view', {str(file)!r}]))"
    )
    parent, child = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdin=child,
        stdout=child,
        stderr=child,
        cwd=ROOT,
        env={**os.environ, "TERM": term},
    )
    text = os.read(parent, 100_000).decode()
    os.close(parent)
    os.close(child)
    assert done.returncode == 0
    assert (f"UI on {file}" in text) is shown and ("BROKEN" in text) is not shown


def test_a_closed_pipe_is_quiet(file: Path) -> None:
    command = [sys.executable, "-m", "tracer", "report", str(file), "--json"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141
    process.stderr.close()


def test_an_ascii_terminal_gets_the_report_too(file: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "tracer", "report", str(file)], cwd=ROOT, env=environment, capture_output=True
    )
    assert done.returncode == 0 and done.stderr == b"" and b"softmax \\xd7 6" in done.stdout


def test_the_trace_file_is_named_after_the_model() -> None:
    names = {
        model: str(trace_command.default_path(model)) for model in ("org/name", "a b/c:d", "./models/x/", "..name..")
    }
    assert names == {
        "org/name": "name.dltrace", "a b/c:d": "c-d.dltrace", "./models/x/": "x.dltrace", "..name..": "name.dltrace",
    }  # fmt: skip
    assert subject_options.kinds("gelu, softmax") == ("gelu", "softmax")


@pytest.mark.parametrize(
    ("text", "expected"), [("0", 0), ("1000", 1000), ("500k", 500_000), ("1.5M", 1_500_000), ("2 GB", 2_000_000_000)]
)
def test_sizes_have_units(text: str, expected: int) -> None:
    assert trace_command.size(text) == expected


@pytest.mark.parametrize("text", ["", "M", "-1", "5 miles", "1e9"])
def test_what_is_no_size_is_one_clear_line(text: str) -> None:
    expected = "is not a size: expected a number of bytes, such as 500M or 2G"
    with pytest.raises(argparse.ArgumentTypeError, match=expected):
        trace_command.size(text)
