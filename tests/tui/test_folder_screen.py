"""The list of traces: opening, coming back, comparing, sorting; at every size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from textual.pilot import Pilot

from tests.synthetic import write_synthetic
from tests.tui.builders import EVIL, write
from tests.tui.test_app import SIZES, run, text_of
from tracer.analysis.folder import list_traces
from tui.app import TracerApp
from tui.lines import folder as folder_lines
from tui.lines.folder import SORTS, entry_lines, heading, row, sort_at, sorted_entries
from tui.screens.compare import CompareScreen
from tui.screens.folder import FolderScreen
from tui.screens.layers import LayersScreen


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_synthetic(tmp_path / "a-broken.dltrace", layers=1)
    write_synthetic(tmp_path / "b-other.dltrace", layers=1, seed=1)
    write(tmp_path / "c-holds.dltrace", [], delta=np.zeros(1), output=np.ones(1), output_reference=np.zeros(1))
    (tmp_path / "d-text.dltrace").write_text("hello")
    write(tmp_path / "e-odd.dltrace", [], model=EVIL, variant=EVIL, target=EVIL, message=EVIL)
    write_synthetic(tmp_path / "f-recording.dltrace", layers=1, status="recording")
    return tmp_path


@asynccontextmanager
async def listed(
    folder: Path, size: tuple[int, int] = (120, 40), ascii_only: bool = False
) -> AsyncIterator[Pilot[None]]:
    async with TracerApp(folder=folder, ascii_only=ascii_only).run_test(size=size) as pilot:
        await loaded(pilot)
        yield pilot


async def loaded(pilot: Pilot[None]) -> None:
    """Wait until the folder is read."""
    await pilot.pause()
    screen = list_of(pilot)
    for _ in range(200):
        if screen._loaded and not [each for each in pilot.app.workers if each.node is screen]:
            break
        await asyncio.sleep(0.02)
    await pilot.pause()


def list_of(pilot: Pilot[None]) -> FolderScreen:
    screen = pilot.app.screen
    assert isinstance(screen, FolderScreen)
    return screen


def test_open_one_and_come_back(folder: Path) -> None:
    async def story() -> None:
        async with listed(folder) as pilot:
            text = text_of(pilot)
            assert "a-broken.dltrace" in text and "300 times" in text and "is not a trace" in text
            assert "6 traces   2 broken   1 unreadable" in text
            await pilot.press("down", "enter")
            await pilot.pause()
            assert isinstance(pilot.app.screen, LayersScreen) and "Do not read" in text_of(pilot)
            await pilot.press("5", "escape")
            assert list_of(pilot).selected is not None and list_of(pilot).selected.path.name == "b-other.dltrace"
            await pilot.press("enter")
            await pilot.pause()
            assert pilot.app.screen.SCOPE == "layers"
            await pilot.press("d", "escape")
            assert pilot.app.screen.SCOPE == "layers", "the filter ends first"
            await pilot.press("escape")
            await loaded(pilot)
            await pilot.press("down", "down", "enter")
            await pilot.pause()
            assert isinstance(pilot.app.screen, FolderScreen) and "is not a trace" in text_of(pilot)
            await pilot.press("q")
        assert not pilot.app.is_running

    run(story)


def test_two_are_compared(folder: Path) -> None:
    async def story() -> None:
        async with listed(folder) as pilot:
            await pilot.press("c")
            await pilot.pause()
            assert ["Mark a trace" in note.message for note in pilot.app._notifications] == [True]
            await pilot.press("m", "down", "c")
            await pilot.pause()
            assert isinstance(pilot.app.screen, CompareScreen)
            assert pilot.app.session.trace.path.name == "a-broken.dltrace"
            assert pilot.app.session.other.path.name == "b-other.dltrace"
            await pilot.press("1", "escape")
            await loaded(pilot)
            await pilot.press("space", "down", "down", "down", "c")
            await pilot.pause()
            assert isinstance(pilot.app.screen, CompareScreen), "the marks, wherever the cursor is"
            assert pilot.app.session.other.path.name == "b-other.dltrace"

    run(story)


def test_opening_again_and_again_leaves_nothing_behind(folder: Path) -> None:
    async def story() -> None:
        async with listed(folder, (80, 24)) as pilot:
            for _ in range(4):
                await pilot.press("enter")
                await pilot.pause()
                await pilot.press("2", "3", "1", "escape")
                await loaded(pilot)
            assert len(pilot.app.screen_stack) == 1 and not pilot.app._installed_screens
            assert len([each for each in pilot.app.children if not isinstance(each, FolderScreen)]) == 0

    run(story)


def test_sorting_keeps_the_file(folder: Path) -> None:
    async def story() -> None:
        async with listed(folder) as pilot:
            await pilot.press("down", "s", "s")
            assert list_of(pilot).sort == "status" and list_of(pilot).selected.path.name == "b-other.dltrace"
            assert [entry.level for entry in list_of(pilot).entries][:3] == ["unreadable", "broken", "broken"]
            await pilot.click("#folder", offset=(10, 1))
            assert list_of(pilot).sort == "name"
            (folder / "b-other.dltrace").unlink()
            await pilot.press("r")
            await loaded(pilot)
            assert "b-other" not in text_of(pilot) and list_of(pilot).files.cursor == 1

    run(story)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ascii_only", [False, True])
def test_every_size_is_readable(folder: Path, size: tuple[int, int], ascii_only: bool) -> None:
    async def story() -> None:
        async with listed(folder, size, ascii_only) as pilot:
            text = text_of(pilot)
            assert "a-broken" in text and "quit" in text.splitlines()[-1]
            assert "\x1b" not in text and "\u202e" not in text and text.isascii() is ascii_only
            await pilot.press("question_mark")
            assert "In the list" in text_of(pilot)
            await pilot.press("escape", "s", "escape", "T", "escape")
            assert isinstance(pilot.app.screen, FolderScreen)

    run(story)


def test_an_empty_folder_is_said_in_words(tmp_path: Path) -> None:
    async def story() -> None:
        async with listed(tmp_path) as pilot:
            assert "holds no traces" in text_of(pilot)
            await pilot.press("enter", "m", "c", "s", "escape", "down", "G")
            assert isinstance(pilot.app.screen, FolderScreen)

    run(story)


def test_lines_are_as_wide_as_asked_for_and_orders_are_orders(folder: Path) -> None:
    entries = list_traces(folder)
    names = {sort: [entry.path.name[0] for entry in sorted_entries(entries, sort)] for sort in SORTS}
    assert names["name"] == list("abcdef")
    assert names["status"] == list("dabfce"), "unreadable, broken, unfinished, holds"
    assert names["relative"][0] in "ab" and names["relative"][-2:] == list("df")
    for width in (30, 40, 60, 80, 120, 200):
        for sort in SORTS:
            assert sum(cell_len(text) for text, _ in heading(width, sort)) == width
        title = "".join(text for text, _ in heading(width, "name"))
        for column in folder_lines.layout(width)[1]:
            assert sort_at(title.index(column.title), width) == column.name
        for entry in entries:
            assert sum(cell_len(text) for text, _ in row(entry, width, {entry.path})) == width
            for line in entry_lines(entry, width):
                assert sum(cell_len(text) for text, _ in line) <= width
                assert all(text.isprintable() for text, _ in line)
