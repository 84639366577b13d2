"""Where a copied text goes, with what the machine has, and what is said about it."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest

from tui.terminal.clipboard import copy, osc52


def tool(folder: Path, name: str, works: bool = True) -> None:
    """A clipboard tool that writes what it is given to a file beside it."""
    file = folder / name
    file.write_text(f"#!/bin/sh\ncat > {folder}/got\nexit {0 if works else 1}\n", encoding="utf-8")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def copied(folder: Path, monkeypatch: pytest.MonkeyPatch, **environment: str) -> tuple[str, list[str]]:
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    sent: list[str] = []
    tools = {"wl-copy", "xclip", "xsel", "pbcopy"}
    said = copy(
        "bert.Δ",
        sent.append,
        {"HOME": str(folder), **environment},
        find=lambda name: str(folder / name) if name in tools and (folder / name).exists() else None,
    )
    return said, sent


@pytest.mark.parametrize(
    ("name", "environment"),
    [
        ("wl-copy", {"WAYLAND_DISPLAY": "wayland-0"}),
        ("xclip", {"DISPLAY": ":0"}),
        ("xsel", {"DISPLAY": ":0"}),
        ("pbcopy", {}),
    ],
)
def test_a_tool_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, environment: dict[str, str]
) -> None:
    tool(tmp_path, name)
    said, sent = copied(tmp_path, monkeypatch, TERM="xterm-256color", **environment)
    assert name in said and not sent
    assert (tmp_path / "got").read_text(encoding="utf-8") == "bert.Δ"


def test_a_tool_that_fails_or_has_no_display_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path, "xclip", works=False)
    tool(tmp_path, "wl-copy")
    said, sent = copied(tmp_path, monkeypatch, TERM="xterm", DISPLAY=":0")
    assert "OSC 52" in said and len(sent) == 1


def test_the_terminal_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, (sequence,) = copied(tmp_path, monkeypatch, TERM="xterm-256color")
    assert sequence.startswith("\x1b]52;c;") and sequence.endswith("\x07")
    assert base64.b64decode(sequence[len("\x1b]52;c;") : -1]).decode() == "bert.Δ"


def test_tmux_and_screen_pass_it_on() -> None:
    plain = osc52("x", {"TERM": "xterm"})
    for environment in ({"TERM": "tmux-256color"}, {"TERM": "screen-256color", "TMUX": "/tmp/tmux-0/default,1,0"}):
        sequence = osc52("x", environment)
        assert sequence == plain + "\x1bPtmux;\x1b" + plain + "\x1b\\"
    assert osc52("x", {"TERM": "screen"}) == plain + "\x1bP" + plain + "\x1b\\"


@pytest.mark.parametrize("terminal", ["linux", "dumb", ""])
def test_without_anything_it_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: str) -> None:
    said, sent = copied(tmp_path, monkeypatch, TERM=terminal)
    assert not sent and "copied.txt" in said
    file = tmp_path / ".local" / "state" / "deeplift-tracer" / "copied.txt"
    assert file.read_text(encoding="utf-8") == "bert.Δ\n"


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".local").write_text("no folder", encoding="utf-8")
    said, _ = copied(tmp_path, monkeypatch, TERM="linux")
    assert said.startswith("nowhere")


def test_what_is_too_long_for_a_terminal_is_not_sent_to_it() -> None:
    assert osc52("x" * 60_000, {"TERM": "xterm"}) == ""
