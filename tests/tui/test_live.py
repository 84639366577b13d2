"""The view of a trace that is being recorded: it fills in, and what the user does stays."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.pilot import Pilot

from tests.synthetic import synthetic_run
from tests.tui.test_app import run, shown, text_of, tree_of, until
from tests.tui.test_watch import NAN, begun, calls
from tracer.analysis.severity import Severity
from tracer.errors import TracerError
from tracer.tracefile.trace import open_trace
from tracer.tracefile.writer import TraceWriter
from tui import app as app_module
from tui.app import TracerApp
from tui.live import follow as following
from tui.live.process import RecordingProcess
from tui.screens.waiting import WaitingScreen


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_SECONDS", 0.02)
    monkeypatch.setattr(following, "_SHARE", 0)


def finish(writer: TraceWriter, leaks: list[float]) -> None:
    for each in calls(leaks):
        writer.add(each, [])
    writer.finish(replace(synthetic_run(), delta=np.array([sum(leaks)])))
    writer.close()


def test_it_grows_and_settles_on_the_worst_call(tmp_path: Path) -> None:
    async def story() -> None:
        writer = begun(tmp_path / "t")
        async with shown(open_trace(tmp_path / "t")) as pilot:
            assert "still being recorded" in text_of(pilot) and "No call was recorded" in text_of(pilot)
            writer.note_progress("forward pass: 3 calls so far", calls([NAN, NAN]))
            await until(pilot, lambda: "layer.2" in text_of(pilot))
            assert "forward pass: 3 calls so far" in text_of(pilot)
            assert not pilot.app.session.figures.severity.any() and "✖" not in text_of(pilot), "not known is not wrong"
            assert "?" not in tree_of(pilot).render_line(2).text and " - " in tree_of(pilot).render_line(2).text
            writer.note_progress("backward pass through 5 calls", calls([NAN] * 4))
            await until(pilot, lambda: "layer.4" in text_of(pilot) and "backward pass" in text_of(pilot))
            finish(writer, [1.0, 1.0, 1.0, -770.0])
            await until(pilot, lambda: "Do not read" in text_of(pilot))
            assert tree_of(pilot).selected == 4 and "still being recorded" not in text_of(pilot)
            await until(pilot, lambda: not [each for each in pilot.app.workers if each.group == "follow"])

    run(story)


def test_cursor_opening_marks_and_screen_stay(tmp_path: Path) -> None:
    async def story() -> None:
        writer = begun(tmp_path / "t")
        writer.note_progress("forward", calls([NAN, NAN, NAN]))
        async with shown(open_trace(tmp_path / "t")) as pilot:
            await pilot.press("down", "down", "m")
            writer.note_progress("forward still", calls([NAN] * 5))
            await until(pilot, lambda: "layer.5" in text_of(pilot))
            tree = tree_of(pilot)
            assert tree.selected == 2 and pilot.app.session.marks == {2}
            await pilot.press("home", "left", "5")
            finish(writer, [1.0, 1.0, 1.0, 1.0, -770.0, 1.0])
            await until(pilot, lambda: pilot.app.session.trace.run.status == "complete")
            assert pilot.app.screen.SCOPE == "findings", "the user is not sent elsewhere"

    run(story)


def test_a_cursor_that_was_moved_is_left_alone_at_the_end(tmp_path: Path) -> None:
    async def story() -> None:
        writer = begun(tmp_path / "t")
        writer.note_progress("forward", calls([NAN, NAN, NAN]))
        async with shown(open_trace(tmp_path / "t")) as pilot:
            await pilot.press("down")
            finish(writer, [1.0, 1.0, -770.0])
            await until(pilot, lambda: "Do not read" in text_of(pilot))
            assert tree_of(pilot).selected == 1
            assert pilot.app.session.figures.severity[3] == Severity.LARGE

    run(story)


def test_one_that_fails_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        writer = begun(tmp_path / "t")
        writer.note_progress("forward", calls([NAN]))
        async with shown(open_trace(tmp_path / "t")) as pilot:
            writer.__exit__(KeyboardInterrupt, None, None)
            await until(pilot, lambda: "interrupted" in text_of(pilot))
            assert "layer.1" in text_of(pilot), "what was recorded is still seen"

    run(story)


SLOW = """
import sys, time
from pathlib import Path
from tests.tui.test_live import finish
from tests.tui.test_watch import NAN, begun, calls
print('Loading the model', file=sys.stderr, flush=True)
go = Path(sys.argv[2])
while not go.exists(): time.sleep(0.01)
writer = begun(Path(sys.argv[1]))
with writer:
    writer.note_progress('forward pass: 2 calls so far', calls([NAN]))
    while go.exists(): time.sleep(0.01)
    finish(writer, [-770.0])
"""


def slow(tmp_path: Path) -> RecordingProcess:
    return RecordingProcess([sys.executable, "-c", SLOW, str(tmp_path / "t"), str(tmp_path / "go")], tmp_path / "t")


def test_waiting_then_growing(tmp_path: Path) -> None:
    async def story() -> None:
        recording = slow(tmp_path)
        try:
            async with TracerApp(recording=recording).run_test(size=(100, 30)) as pilot:
                await until(pilot, lambda: "Loading the model" in text_of(pilot))
                assert isinstance(pilot.app.screen, WaitingScreen) and "Waiting for" in text_of(pilot)
                await pilot.press("question_mark")
                (tmp_path / "go").touch()
                await until(pilot, lambda: "Recording, forward pass: 2 calls so far. The fig" in text_of(pilot))
                (tmp_path / "go").unlink()
                await until(pilot, lambda: "Do not read" in text_of(pilot))
                assert tree_of(pilot).selected == 1 and "Recording" not in text_of(pilot)
        finally:
            recording.stop()

    run(story)


def drive(monkeypatch: pytest.MonkeyPatch, act: Callable[[Pilot[None]], Any]) -> None:
    """Let `app.run` be a test run in which `act` is done."""

    def run_app(self: TracerApp) -> None:
        async def story() -> None:
            async with self.run_test(size=(80, 24)) as pilot:
                await act(pilot)

        asyncio.run(story())

    monkeypatch.setattr(TracerApp, "run", run_app)


def test_quitting_early_interrupts_the_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(pilot: Pilot[None]) -> None:
        (tmp_path / "go").touch()
        await until(pilot, lambda: "forward pass" in text_of(pilot))
        await pilot.press("q")

    drive(monkeypatch, act)
    command = [sys.executable, "-c", SLOW, str(tmp_path / "t"), str(tmp_path / "go")]
    with pytest.raises(KeyboardInterrupt):
        app_module.run_recording(command, tmp_path / "t")
    with open_trace(tmp_path / "t") as trace:
        assert (trace.run.status, trace.run.message) == ("failed", "interrupted")


def test_quitting_once_the_trace_is_complete_is_no_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "Do not read" in text_of(pilot))
        await pilot.press("q")

    drive(monkeypatch, act)
    code = """
import sys, time
from pathlib import Path
from tests.tui.test_live import finish
from tests.tui.test_watch import begun
finish(begun(Path(sys.argv[1])), [-770.0])
try:
    time.sleep(60)
except KeyboardInterrupt:
    print('The rest was not measured.', file=sys.stderr)
"""
    recording = app_module.run_recording([sys.executable, "-c", code, str(tmp_path / "t")], tmp_path / "t")
    assert list(recording.lines) == ["The rest was not measured."]


@pytest.mark.parametrize("shown_before", [True, False])
def test_a_recording_that_fails_is_the_users_one_line(
    shown_before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(pilot: Pilot[None]) -> None:
        if shown_before:
            await until(pilot, lambda: "out of luck" in text_of(pilot))
            await pilot.press("q")
        started = time.monotonic()
        while pilot.app.is_running and time.monotonic() - started < 8:
            await asyncio.sleep(0.02)
        assert not pilot.app.is_running, "it ends by itself"

    drive(monkeypatch, act)
    begin = "writer = begun(Path(sys.argv[1])); writer.note_progress('x', calls([NAN]))"
    code = f"""
import sys, time
from pathlib import Path
from tests.tui.test_watch import NAN, begun, calls
if {shown_before}:
    {begin}
    writer.__exit__(RuntimeError, RuntimeError('out of luck'), None)
print('deeplift-tracer: out of luck', file=sys.stderr)
sys.exit(2)
"""
    with pytest.raises(TracerError, match=r"^out of luck$"):
        app_module.run_recording([sys.executable, "-c", code, str(tmp_path / "t")], tmp_path / "t")


def test_figures_that_are_not_known_yet_are_no_nan(tmp_path: Path) -> None:
    async def story() -> None:
        unknown = np.full(1, NAN)
        with TraceWriter(tmp_path / "t") as writer:
            writer.begin(replace(synthetic_run(), delta=unknown, output=unknown, output_reference=unknown))
            writer.note_progress("forward pass: 3 calls so far", calls([NAN, NAN]))
            async with shown(open_trace(tmp_path / "t")) as pilot:
                text = text_of(pilot)
                assert "delta -" in text and "f(x) -" in text and "relative -" in text
                assert "not known: the run did not come so far" in text
                assert "nan" not in text

    run(story)
