"""A recording in a process of its own: what it says, why it fails, and how it is ended."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.synthetic import write_synthetic
from tests.test_borders import loaded
from tracer import cli
from tracer.commands import terminal
from tui import app
from tui.live import process as recording
from tui.live.process import RecordingProcess


def started(code: str, path: Path) -> RecordingProcess:
    return RecordingProcess([sys.executable, "-c", code], path)


def test_what_it_says_comes_line_by_line(tmp_path: Path) -> None:
    code = r"""
import sys
sys.stderr.buffer.write('Loading m …\n 10 %\r 90 %\r\n\x1b[1mdone\x1b[0m \x07\n\n'.encode() + b'\xff')
print('t.dltrace')
"""
    running = started(code, tmp_path / "t")
    assert running.wait() == 0 and not running.running
    assert list(running.lines) == ["Loading m …", "10 %", "90 %", "done ␇", "\N{REPLACEMENT CHARACTER}"]
    assert running.said == 5 and running.output == "t.dltrace\n" and running.failure == ""


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; print('one\\ndeeplift-tracer: no model m', file=sys.stderr); sys.exit(2)", "no model m"),
        ("1 / 0", "the recording ended with exit code 1 (ZeroDivisionError: division by zero)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "the recording was ended by SIGKILL: look at the"),
        ("import os; os._exit(7)", "the recording ended with exit code 7"),
    ],
)
def test_why_it_fails(code: str, reason: str, tmp_path: Path) -> None:
    running = started(code, tmp_path / "t")
    running.wait()
    assert running.failure.startswith(reason)


def test_it_is_ended_as_by_ctrl_c(tmp_path: Path) -> None:
    code = """
import sys, time
try:
    print('ready', file=sys.stderr, flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print('cleaned up', file=sys.stderr)
"""
    running = started(code, tmp_path / "t")
    while not running.lines:
        time.sleep(0.01)
    running.stop()
    assert list(running.lines) == ["ready", "cleaned up"] and running.code == 0


def test_one_that_does_not_listen_is_ended_by_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_PATIENCE_S", 0.2)
    code = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('ready', file=sys.stderr, flush=True)
time.sleep(60)
"""
    running = started(code, tmp_path / "t")
    while not running.lines:
        time.sleep(0.01)
    running.stop()
    assert running.code == -9


@pytest.mark.parametrize("wish", ["--view", "--vi"])
def test_trace_view_runs_itself_without_view(
    wish: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: list[list[str]] = []

    def run_recording(command: list[str], path: Path) -> RecordingProcess:
        commands.append(command)
        ended = started("import sys; print('Holds.', file=sys.stderr)", path)
        ended.wait()
        return ended

    monkeypatch.setattr(terminal, "has_terminal", lambda: True)
    monkeypatch.setattr(app, "run_recording", run_recording)
    file = tmp_path / "t.dltrace"
    assert cli.main(["trace", wish, "m", "--text=--view", "-o", str(file)]) == 0
    assert commands[0][-5:] == ["trace", "m", "--text=--view", "-o", str(file)]
    assert capsys.readouterr() == (f"{file}\n", "Holds.\n")
    again = subprocess.run([*commands[0][:-5], "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert again.stdout.startswith("deeplift-tracer "), "it is this same program"


def test_a_file_that_exists_is_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "has_terminal", lambda: True)
    monkeypatch.setattr(app, "run_recording", lambda *_: pytest.fail("it started"))
    write_synthetic(tmp_path / "t", layers=1)
    assert cli.main(["trace", "--view", "m", "--text", "x", "-o", str(tmp_path / "t")]) == 2
    assert "already exists" in capsys.readouterr().err


def test_the_view_of_a_recording_loads_no_model_library() -> None:
    code = """
import types
from tracer import cli
from tracer.commands import terminal
import tui.app
terminal.has_terminal = lambda: True
tui.app.run_recording = lambda command, path: types.SimpleNamespace(lines=[])
assert cli.main(['trace', '--view', 'm', '--text', 'x', '-o', 'no-such-file']) == 0
"""
    assert loaded(code, "torch", "transformers", "captum", "textual") == {"textual"}
