"""The flow screen under real key presses: the cursor, changes of sign, scales, and the way to a call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.synthetic import SENTENCE, write_synthetic
from tests.tui.test_app import SIZES, run, shown, text_of
from tracer.analysis.flow_map import flow_map
from tracer.tracefile.trace import Trace, open_trace
from tui.lines.flow import FLIP
from tui.screens.flow import FlowScreen
from tui.screens.layers import LayersScreen


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """A synthetic trace of two examples with tensors."""
    path = tmp_path_factory.mktemp("traces") / "flow.dltrace"
    write_synthetic(path, layers=4, ops_per_layer=8, examples=2, tensors=True)
    return open_trace(path)


def flow_of(screen: object) -> FlowScreen:
    assert isinstance(screen, FlowScreen)
    return screen


def test_the_cursor_moves_over_cells_and_enter_goes_to_the_call(trace: Trace) -> None:
    flow = flow_map(trace, 0)

    async def story() -> None:
        async with shown(trace) as pilot:
            await pilot.press("2", "g", "home")
            screen = flow_of(pilot.app.screen)
            assert (screen.grid.row, screen.grid.column) == (0, 0)
            for key, place in [("down", (1, 0)), ("l", (1, 1)), ("j", (2, 1)), ("h", (2, 0)), ("k", (1, 0))]:
                await pilot.press(key)
                assert (screen.grid.row, screen.grid.column) == place
            await pilot.press("end", "G")
            assert (screen.grid.row, screen.grid.column) == (len(flow.nodes) - 1, len(SENTENCE) - 1)
            await pilot.press("l", "j")
            assert (screen.grid.row, screen.grid.column) == (len(flow.nodes) - 1, len(SENTENCE) - 1), "no cell beyond"
            text = text_of(pilot)
            assert "“[SEP]”" in text and f"{flow.values[-1, -1]:+.6f}"[:7] in text and flow.names[-1] in text
            await pilot.press("enter")
            assert isinstance(pilot.app.screen, LayersScreen)
            assert pilot.app.screen.layer_tree.selected == flow.nodes[-1]

    run(story)


def test_n_goes_from_change_to_change(trace: Trace) -> None:
    async def story() -> None:
        async with shown(trace) as pilot:
            await pilot.press("2", "g", "home")
            screen = flow_of(pilot.app.screen)
            assert screen.grid.table is not None
            flips = [tuple(place) for place in np.argwhere(screen.grid.table.flips).tolist()]
            assert len(flips) > 3
            for expected in [*flips, flips[0]]:
                await pilot.press("n")
                assert (screen.grid.row, screen.grid.column) == expected
            await pilot.press("N")
            assert (screen.grid.row, screen.grid.column) == flips[-1]
            assert f"{FLIP} was" in text_of(pilot)

    run(story)


def test_it_follows_the_example(trace: Trace) -> None:
    maps = [flow_map(trace, example).values for example in (0, 1)]
    assert not np.allclose(*maps)

    async def story() -> None:
        async with shown(trace) as pilot:
            await pilot.press("2")
            screen = flow_of(pilot.app.screen)
            assert screen.grid.table is not None
            assert np.array_equal(screen.grid.table.map.values, maps[0])
            assert "Example 0 of 2" in text_of(pilot)
            await pilot.press("]", "]")
            assert np.array_equal(screen.grid.table.map.values, maps[1])
            assert "Example 0 of 2" not in text_of(pilot)

    run(story)


def test_scale_and_numbers_are_a_key_each(trace: Trace) -> None:
    async def story() -> None:
        async with shown(trace, (80, 24)) as pilot:
            await pilot.press("2", "home")
            screen = flow_of(pilot.app.screen)
            assert "░" in text_of(pilot) and "of its row" in text_of(pilot)
            await pilot.press("s")
            assert "of the map" in text_of(pilot)
            await pilot.press("v")
            assert "▓" not in text_of(pilot).split("\n")[12], "numbers in place of shades"
            assert "tokens 0-" in text_of(pilot), "not all fit now"
            await pilot.press("end")
            assert screen.grid.first > 0 and "[SEP]" in text_of(pilot)
            await pilot.press("v", "home")
            assert screen.grid.first == 0

    run(story)


def test_a_move_in_view_repaints_few_lines(trace: Trace) -> None:
    async def story() -> None:
        async with shown(trace) as pilot:
            await pilot.press("2", "g", "home")
            grid = flow_of(pilot.app.screen).grid
            painted: list[int] = []
            render = grid.render_line
            grid.render_line = lambda y: painted.append(y) or render(y)  # type: ignore[func-returns-value,method-assign]
            await pilot.press("j")
            assert len(set(painted)) <= 2 + grid._headings

    run(story)


def test_a_click_selects_a_cell_and_a_second_goes_to_the_call(trace: Trace) -> None:
    async def story() -> None:
        async with shown(trace) as pilot:
            await pilot.press("2", "g", "home")
            grid = flow_of(pilot.app.screen).grid
            given = grid.layout_now
            assert given is not None
            at = (given.frozen + 2 * given.cell + 2, grid._headings + 1)
            await pilot.click("#flow-grid", offset=at)
            assert (grid.row, grid.column) == (1, 2)
            await pilot.click("#flow-grid", offset=at)
            assert isinstance(pilot.app.screen, LayersScreen)

    run(story)


@pytest.mark.parametrize(("options", "words"), [({"tokens": False}, "names no tokens"), ({}, "figures only")])
def test_what_is_missing_is_said_in_words(tmp_path: Path, options: dict[str, bool], words: str) -> None:
    write_synthetic(tmp_path / "t.dltrace", layers=1, **options, tensors="tokens" in options)  # type: ignore[arg-type]

    async def story() -> None:
        async with shown(open_trace(tmp_path / "t.dltrace")) as pilot:
            await pilot.press("2")
            assert "No flow map" in text_of(pilot) and words in text_of(pilot)
            for key in ("n", "s", "v", "enter", "j", "end", "G", "pagedown", "["):
                await pilot.press(key)
            assert isinstance(pilot.app.screen, FlowScreen)

    run(story)


@pytest.mark.parametrize("size", SIZES)
def test_the_map_is_seen_at_every_size(trace: Trace, size: tuple[int, int]) -> None:
    async def story() -> None:
        async with shown(trace, size) as pilot:
            await pilot.press("2")
            text = text_of(pilot)
            assert "layer" in text and "sum" in text and "+" in text and "-" in text
            grid = flow_of(pilot.app.screen).grid
            assert grid.page >= 2
            await pilot.press("G", "end", "g", "home")
            assert grid.scroll_y == 0 and grid.first == 0

    run(story)
