"""Every screen at every size, with little colour or none, in ASCII; and on real terminals of few means."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.synthetic import write_synthetic
from tests.tui.builders import EVIL, node, write
from tests.tui.test_app import SIZES, run, text_of
from tracer.tracefile.trace import Trace, open_trace
from tui.app import TracerApp
from tui.screen_table import TABS

ROOT = Path(__file__).parent.parent.parent
NAN = float("nan")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("traces")
    write_synthetic(path / "ordinary", layers=2, examples=2, tensors=True)
    write_synthetic(path / "other", layers=2, examples=2, seed=1)
    write(path / "odd", [node(0, None, 1, 0, EVIL, NAN)], model=EVIL, tokens=((EVIL,) * 3,))
    write(path / "empty", [], tokens=(), reference_tokens=())
    return path


def pair(folder: Path, name: str) -> tuple[Trace, Trace | None]:
    """A trace, and for one of them another to compare it with."""
    return open_trace(folder / name), open_trace(folder / "other") if name == "ordinary" else None


@pytest.mark.parametrize("size", [*SIZES, (20, 5)])
@pytest.mark.parametrize("name", ["ordinary", "odd", "empty"])
def test_every_screen_says_something_at_every_size(folder: Path, name: str, size: tuple[int, int]) -> None:
    async def story() -> None:
        async with TracerApp(*pair(folder, name), ascii_only=name == "odd").run_test(size=size) as pilot:
            for entry in TABS:
                await pilot.press(entry.key)
                await pilot.pause()
                text = text_of(pilot)
                lines = text.splitlines()
                assert entry.name == pilot.app.screen.SCOPE
                assert len(lines) == size[1] and all(len(line) <= size[0] for line in lines)
                assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text
                assert name != "odd" or text.isascii()
                if size[0] >= 40:
                    assert "quit" in lines[-1] and "help" in lines[-1]
                    body = [line for line in lines[2:-1] if len(re.findall(r"\w{2}", line)) > 1]
                    assert body, f"{entry.name} is blank at {size}"
                if size[1] >= 24 and size[0] >= 80:
                    assert entry.title in text

    run(story)


def test_no_screen_has_a_colour_where_none_is_wanted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def story() -> None:
        async with TracerApp(*pair(folder, "ordinary")).run_test(size=(120, 40)) as pilot:
            for key in [*(entry.key for entry in TABS), "question_mark"]:
                await pilot.press(key)
                await pilot.pause()
                for strip in pilot.app.screen._compositor.render_strips():
                    for segment in strip:
                        colours = (segment.style.color, segment.style.bgcolor) if segment.style else ()
                        assert all(colour is None or colour.is_default for colour in colours), (key, segment)

    run(story)


def sent(file: Path, keys: str, **environment: str) -> tuple[bytes, int]:
    """What the view sends to a terminal of 100×30 while keys are pressed and `q` ends it; and its exit code."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLORTERM", "NO_COLOR", "TERM_PROGRAM")}
    process = subprocess.Popen(
        [sys.executable, "-m", "tracer", "view", str(file)],
        stdin=child,
        stdout=child,
        stderr=child,
        cwd=ROOT,
        env={**kept, "XDG_STATE_HOME": str(file.parent), "XDG_CONFIG_HOME": str(file.parent), **environment},
        start_new_session=True,
    )
    os.close(child)
    data = b""

    def take(seconds: float) -> None:
        nonlocal data
        end = time.monotonic() + seconds
        while time.monotonic() < end and select.select([parent], [], [], 0.1)[0]:
            try:
                data += os.read(parent, 65536)
            except OSError:  # the other side is closed
                return

    try:
        for _ in range(300):
            take(0.5)
            if b"quit" in data:
                break
        for key in keys + "q":
            os.write(parent, key.encode())
            take(0.5)
        for _ in range(100):
            take(0.2)
            if process.poll() is not None:
                break
        return data, process.wait(timeout=10)
    finally:
        if process.poll() is None:
            process.kill()
        os.close(parent)


def test_a_terminal_of_256_colours_is_sent_no_others(folder: Path) -> None:
    data, code = sent(folder / "ordinary", "234567", TERM="xterm-256color")
    assert code == 0 and b"\x1b[?1049l" in data, "the terminal is left as it was"
    assert b"38;5;" in data and not re.search(rb"[34]8;2;", data)


def test_no_color_sends_none(folder: Path) -> None:
    data, code = sent(folder / "ordinary", "23", TERM="xterm-256color", NO_COLOR="1")
    assert code == 0 and not re.search(rb"\x1b\[[\d;]*[34]8;[25];", data)


def test_an_ascii_terminal_is_sent_ascii(folder: Path) -> None:
    data, code = sent(folder / "ordinary", "235", TERM="xterm", PYTHONIOENCODING="ascii")
    assert code == 0 and data.isascii() and b"Do not read" in data
