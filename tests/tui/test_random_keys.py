"""Random keys, clicks and sizes on ordinary and odd traces: whatever is done, the view goes on.

`DEEPLIFT_TRACER_KEYS=10000 pytest tests/tui/test_random_keys.py` presses about that many. What fails is shrunk.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from textual.pilot import Pilot

from tests.synthetic import write_synthetic
from tests.tui.test_app import odd_traces
from tracer.tracefile.trace import Trace, open_trace
from tui import actions
from tui.app import TracerApp
from tui.screens.base import TraceScreen
from tui.screens.folder import FolderScreen

KEYS = int(os.environ.get("DEEPLIFT_TRACER_KEYS", "100"))
STEPS, AT_ONCE = 12, 8
SIZES = [(40, 10), (80, 24), (120, 40), (200, 60), (20, 5)]
LEFT_OUT = {"q", "S", "R", "y", "Y", "x", "X", "ctrl+l"}  # these leave, or write files
NAMES = {
    "/": "slash",
    "?": "question_mark",
    "[": "left_square_bracket",
    "]": "right_square_bracket",
    "+": "plus",
    "-": "minus",
    "'": "apostrophe",
    "=": "equals_sign",
    ".": "full_stop",
    "@": "at",
    "#": "number_sign",
    "<": "less_than_sign",
    ">": "greater_than_sign",
    "_": "underscore",
}
TABLE = sorted({NAMES.get(key, key) for action in actions.ACTIONS for key in action.keys} - LEFT_OUT)
KEY = st.sampled_from(TABLE) | st.sampled_from([*"abdefgnopt012", "escape", "enter", "tab", "ctrl+p", "backspace"])


@pytest.fixture(scope="module", autouse=True)
def short_waits() -> None:
    """Textual's own waits: its command palette fails where a key closes it while it opens."""


class View:
    """The application in a task of its own: what Textual keeps in context variables stays there."""

    def __init__(self, trace: Trace | Path, size: tuple[int, int]) -> None:
        self._loop = asyncio.new_event_loop()
        self._orders: asyncio.Queue[tuple[Callable[[Pilot[None]], Awaitable[None]] | None, asyncio.Future[None]]]
        self._orders = asyncio.Queue()
        self.app = TracerApp(folder=trace) if isinstance(trace, Path) else TracerApp(trace)
        self._task = self._loop.create_task(self._serve(size))
        self.do(lambda pilot: pilot.pause())

    async def _serve(self, size: tuple[int, int]) -> None:
        async with self.app.run_test(size=size) as pilot:
            while True:
                order, done = await self._orders.get()
                if order is not None:
                    await order(pilot)
                done.set_result(None)
                if order is None:
                    return

    def do(self, order: Callable[[Pilot[None]], Awaitable[None]] | None) -> None:
        """Carry this out and wait for it; an error of the application comes out here."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._orders.put_nowait((order, done))
        self._loop.run_until_complete(asyncio.wait({done, self._task}, return_when=asyncio.FIRST_COMPLETED))
        if self._task.done():
            self._task.result()

    def end(self) -> None:
        """Let the application go."""
        if not self._task.done():
            self.do(None)
            self._loop.run_until_complete(self._task)
        self._loop.close()


class Anything(RuleBasedStateMachine):
    """Keys in any order, several at once, clicks anywhere, and other sizes in between."""

    traces: dict[str, Trace | Path]
    view: View | None = None

    @initialize(data=st.data(), size=st.sampled_from(SIZES))
    def start(self, data: st.DataObject, size: tuple[int, int]) -> None:
        name = data.draw(st.sampled_from(sorted(self.traces)))
        self.view = View(self.traces[name], size)

    @rule(keys=st.lists(KEY, min_size=1, max_size=AT_ONCE))
    def press(self, keys: list[str]) -> None:
        async def order(pilot: Pilot[None]) -> None:
            for key in keys:  # without Pilot's wait after each
                pilot.app.simulate_key(key)
            await pilot.pause()

        self._do(order)

    @rule(across=st.floats(0, 0.999), down=st.floats(0, 0.999))
    def click(self, across: float, down: float) -> None:
        async def order(pilot: Pilot[None]) -> None:
            width, height = pilot.app.size
            await pilot.click(offset=(int(across * width), int(down * height)))

        self._do(order)

    @rule(size=st.sampled_from(SIZES))
    def resize(self, size: tuple[int, int]) -> None:
        self._do(lambda pilot: pilot.resize_terminal(*size))

    @precondition(lambda self: self.view is not None)
    @rule()
    def go_home(self) -> None:
        async def order(pilot: Pilot[None]) -> None:
            for _ in range(8):
                await pilot.press("escape")
            await pilot.press("1")
            await pilot.pause()
            screen = pilot.app.screen
            if pilot.app.folder is not None:
                assert isinstance(screen, FolderScreen), "Esc leads to the list"
            else:
                assert isinstance(screen, TraceScreen) and screen.SCOPE == "layers", "Esc and 1 lead home from anywhere"

        self._do(order)

    def teardown(self) -> None:
        if self.view is not None:
            self.view.end()

    def _do(self, order: Callable[[Pilot[None]], Awaitable[None]]) -> None:
        assert self.view is not None
        self.view.do(order)
        assert self.view.app.is_running


def test_nothing_that_is_pressed_ends_the_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # A footer or a palette may be clicked.
    monkeypatch.setattr("tui.terminal.clipboard.copy", lambda text, write: "nowhere")
    for screen in (TraceScreen, FolderScreen):
        monkeypatch.setattr(screen, "action_quit", lambda self: None)  # and quitting is not an accident
    write_synthetic(tmp_path / "ordinary", layers=3, examples=3, tensors=True)
    Anything.traces = {"ordinary": open_trace(tmp_path / "ordinary"), **odd_traces(tmp_path), "folder": tmp_path}
    runs = max(KEYS // (STEPS * AT_ONCE // 4), 2)
    run_state_machine_as_test(
        Anything,
        settings=settings(
            max_examples=runs,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
            derandomize=KEYS <= 100,
        ),
    )
