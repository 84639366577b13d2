"""The application under real key presses: what each key does, at every size, on odd traces."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.pilot import Pilot

import tui.screens
import tui.widgets
from tests.synthetic import write_synthetic
from tests.tui.builders import EVIL, edge, node, write
from tracer.records import Panel
from tracer.tracefile.trace import Trace, open_trace
from tui import actions
from tui.app import TracerApp
from tui.screens.base import TraceScreen
from tui.screens.help import HelpScreen
from tui.screens.layers import LayersScreen
from tui.widgets.layer_tree import LayerTree

SIZES = [(40, 10), (80, 24), (120, 40), (200, 60)]


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """A synthetic trace with one large divergence, on an own second one."""
    path = tmp_path_factory.mktemp("traces") / "synthetic.dltrace"
    write_synthetic(path, layers=4, ops_per_layer=16)
    return open_trace(path)


@asynccontextmanager
async def shown(trace: Trace, size: tuple[int, int] = (120, 40), **options: Any) -> AsyncIterator[Pilot[None]]:
    """The application on a trace, painted."""
    async with TracerApp(trace, **options).run_test(size=size) as pilot:
        await pilot.pause()
        yield pilot


def screen_of(pilot: Pilot[None]) -> LayersScreen:
    screen = pilot.app.screen
    assert isinstance(screen, LayersScreen)
    return screen


def tree_of(pilot: Pilot[None]) -> LayerTree:
    return screen_of(pilot).layer_tree


def text_of(pilot: Pilot[None]) -> str:
    """What stands on the screen, from the strips that were painted."""
    strips = pilot.app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in strips)


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    """Wait until something that comes a moment later is there."""
    for _ in range(400):
        await pilot.pause()
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(text_of(pilot))


def run(story: Callable[[], Any]) -> None:
    asyncio.run(story())


def two_divergences(path: Path) -> Trace:
    """A model with two blocks; the first call of each diverges."""
    nodes = [
        node(0, None, 7, 0, "", 99.0, self_leak=np.array([0.0]), type="Model"),
        node(1, 0, 4, 1, "block.0", 9.0, self_leak=np.array([0.0])),
        node(2, 1, 3, 2, "block.0.a", 9.0, source="a.py:1"),
        node(3, 1, 4, 2, "block.0.b", 0.0),
        node(4, 0, 7, 1, "block.1", 90.0, self_leak=np.array([0.0])),
        node(5, 4, 6, 2, "block.1.a", 90.0, source="a.py:2"),
        node(6, 4, 7, 2, "block.1/softmax", 0.0, kind="op", type="softmax", source="special.py:3"),
    ]
    return write(path, nodes, [edge()], delta=np.array([99.0]))


def test_the_first_screen_answers_the_question(trace: Trace) -> None:
    async def story() -> None:
        async with shown(trace) as pilot:
            text = text_of(pilot)
            worst = trace.worst(1)[0]
            assert tree_of(pilot).selected == worst.id
            assert "Do not read these attributions" in text and worst.path in text
            assert "self leak" in text and "-770" in text and "rule: captum" in text
            assert "1 of 13 non-linearities hooked" in text
            assert tree_of(pilot).has_focus

    run(story)


def test_moving_about_with_arrows_and_letters(trace: Trace) -> None:
    async def story() -> None:
        async with shown(trace) as pilot:
            tree = tree_of(pilot)
            start = tree.outline.cursor
            for key, row in [("down", 1), ("j", 2), ("up", 1), ("k", 0)]:
                await pilot.press(key)
                assert tree.outline.cursor == start + row
            last = len(tree.outline.rows) - 1
            for key, row in [("G", last), ("g", 0), ("end", last), ("home", 0)]:
                await pilot.press(key)
                assert tree.outline.cursor == row
            await pilot.press("e", "home", "pagedown")
            page = tree.outline.cursor
            assert page > 5
            await pilot.press("pagedown", "pageup")
            assert tree.outline.cursor == page
            await pilot.press("end")
            height = tree.size.height - 1
            assert tree.scroll_y <= tree.outline.cursor < tree.scroll_y + height
            assert tree.render_line(0).text.strip().startswith("call"), "the heading stays"

    run(story)


def test_opening_and_closing(tmp_path: Path) -> None:
    async def story() -> None:
        async with shown(two_divergences(tmp_path / "t.dltrace")) as pilot:
            tree = tree_of(pilot)
            assert tree.selected == 5
            await pilot.press("left")
            assert tree.selected == 4
            await pilot.press("left")
            assert tree.outline.rows.tolist() == [0, 1, 4]
            await pilot.press("enter")
            assert tree.outline.rows.tolist() == [0, 1, 4, 5, 6]
            await pilot.press("enter", "right")
            assert tree.outline.rows.tolist() == [0, 1, 4, 5, 6]
            await pilot.press("right")
            assert tree.selected == 5
            await pilot.press("e")
            assert tree.outline.rows.tolist() == list(range(7))
            await pilot.press("c")
            assert tree.outline.rows.tolist() == [0, 1, 4] and tree.selected == 4

    run(story)


def test_divergences_one_after_the_other(tmp_path: Path) -> None:
    async def story() -> None:
        async with shown(two_divergences(tmp_path / "t.dltrace")) as pilot:
            tree = tree_of(pilot)
            for key, call in [("n", 2), ("n", 5), ("N", 2), ("w", 5)]:
                await pilot.press(key)
                assert tree.selected == call
            await pilot.press("d")
            assert tree.outline.rows.tolist() == [0, 1, 2, 4, 5]
            await pilot.press("d")
            assert 6 in tree.outline.rows

    run(story)


def test_the_detail_follows_the_cursor(tmp_path: Path) -> None:
    async def story() -> None:
        async with shown(two_divergences(tmp_path / "t.dltrace")) as pilot:
            assert "block.1.a" in text_of(pilot) and "a.py:2" in text_of(pilot)
            await pilot.press("n")
            await until(pilot, lambda: "block.0.a" in text_of(pilot) and "a.py:1" in text_of(pilot))

    run(story)


def test_searching(tmp_path: Path) -> None:
    async def story() -> None:
        async with shown(two_divergences(tmp_path / "t.dltrace")) as pilot:
            tree, screen = tree_of(pilot), screen_of(pilot)
            await pilot.press("slash", *"block.0")
            assert tree.hits.ranked.tolist() == [1, 2, 3] and tree.selected == 1
            assert "1 of 3 hits" in text_of(pilot)
            await pilot.press("enter", "n")
            assert tree.selected == 2 and "2 of 3 hits" in text_of(pilot)
            await pilot.press("N", "N")
            assert tree.selected == 3, "it goes round"
            await pilot.press("escape")
            assert not len(tree.hits) and not screen.search.display and tree.selected == 3
            await pilot.press("slash", *"zzz")
            assert "nothing found" in text_of(pilot)
            await pilot.press("escape")
            assert tree.selected == 3 and tree.has_focus, "given up, it goes back to where it began"
            await pilot.app.workers.wait_for_complete()
            await pilot.press("slash", *"special.py")
            assert tree.selected == 6, "source lines count"

    run(story)


def test_quick_letters_go_into_the_query(trace: Trace) -> None:
    async def story() -> None:
        async with shown(trace) as pilot:
            await pilot.press("slash", "q", "w", "question_mark")
            assert screen_of(pilot).search.query_text == "qw?"

    run(story)


def test_help_tokens_panes_and_quitting(trace: Trace) -> None:
    async def story() -> None:
        async with shown(trace) as pilot:
            screen = screen_of(pilot)
            await pilot.press("question_mark")
            assert isinstance(pilot.app.screen, HelpScreen) and "In the layer tree" in text_of(pilot)
            await pilot.press("escape")
            assert screen_of(pilot) is screen
            assert not screen.tokens.display
            await pilot.press("t")
            assert screen.tokens.display and not screen.detail.display and "amazing" in text_of(pilot)
            assert screen.tokens.has_focus
            await pilot.press("t")
            assert screen.layer_tree.has_focus and screen.detail.display
            await pilot.press("tab")
            assert screen.detail.display and screen.detail.has_focus
            await pilot.press("G")
            assert screen.detail.scroll_y > 0
            await pilot.press("tab")
            assert screen.tokens.has_focus and screen.tokens.display
            await pilot.press("shift+tab", "escape")
            assert screen.layer_tree.has_focus
            await pilot.press("q")
        assert not pilot.app.is_running

    run(story)


@pytest.mark.parametrize("size", SIZES)
def test_every_size_is_readable_and_every_pane_reachable(trace: Trace, size: tuple[int, int]) -> None:
    async def story() -> None:
        async with shown(trace, size) as pilot:
            screen = screen_of(pilot)
            assert "◆" in text_of(pilot) and "-770" in text_of(pilot) and "softmax" in text_of(pilot)
            assert all(len(line) <= size[0] for line in text_of(pilot).splitlines())
            await pilot.press("t")
            assert screen.tokens.display
            await pilot.press("t")
            assert screen.layer_tree.display
            await pilot.press("tab")
            assert screen.detail.display and screen.detail.has_focus and "encoder.layer.0" in text_of(pilot)
            await pilot.press("tab")
            assert screen.tokens.display and screen.tokens.has_focus and "output" in text_of(pilot)
            await pilot.press("tab")
            assert screen.layer_tree.display and screen.layer_tree.has_focus
            assert "quit" in text_of(pilot).splitlines()[-1]
            if size[0] >= 140:
                assert screen.detail.display and screen.tokens.display

    run(story)


def test_a_window_that_changes_its_size(trace: Trace) -> None:
    async def story() -> None:
        async with shown(trace, (200, 60)) as pilot:
            for width, height in [(40, 10), (120, 40), (80, 24), (20, 5), (1, 1), (200, 60)]:
                await pilot.resize_terminal(width, height)
                await pilot.pause()
            assert screen_of(pilot).tokens.display and screen_of(pilot).detail.display

    run(story)


KEYS = ["j", "k", "G", "g", "enter", "left", "right", "n", "N", "w", "e", "d", "c", "t", "tab", "j", "slash", "a"]


def odd_traces(folder: Path) -> dict[str, Trace]:
    nan = float("nan")
    bad = {"gain": nan, "relative_leak": nan, "nonfinite": 8, "seconds": nan}
    nodes = [
        node(0, None, 3, 0, "", nan, self_leak=np.array([nan]), **bad),
        node(1, 0, 2, 1, "a", nan, self_leak=np.array([nan]), **bad),
        node(2, 0, 3, 1, "b", nan, self_leak=np.array([nan]), **bad),
    ]
    heads = dict.fromkeys(("delta", "output", "output_reference"), np.array([nan]))
    names = [
        node(0, None, 2, 0, "", 1.0, type=EVIL, self_leak=np.array([0.0])),
        node(1, 0, 2, 1, EVIL + "x" * 3000, 1.0, source=EVIL, type=EVIL),
    ]
    write_synthetic(folder / "hundred", layers=2, examples=100)
    write_synthetic(folder / "no-tokens", layers=1, tokens=False)
    write_synthetic(folder / "failed", layers=1, status="failed")
    write_synthetic(folder / "recording", layers=1, status="recording")
    return {
        "one node": write(folder / "one", [node(0, None, 1, 0, "", 0.0)], panel=Panel()),
        "no node": write(folder / "none", []),
        "NaN everywhere": write(folder / "nan", nodes, [edge("input", nan)], **heads),
        "names": write(
            folder / "names", names, [edge(EVIL)], model=EVIL, variant=EVIL, target=EVIL, tokens=((EVIL,) * 12,)
        ),
        **{name: open_trace(folder / name) for name in ("hundred", "no-tokens", "failed", "recording")},
    }


EXPECTED = {
    "one node": ["1 call", "0 diverging"],
    "no node": ["0 calls", "No call was recorded"],
    "NaN everywhere": ["✖", "nan"],
    "names": ["[red]bold[/]", "[@click=app.quit]"],
    "hundred": ["sums over 100 examples"],
    "no-tokens": ["No rankings of tokens"],
    "failed": ["it failed on purpose"],
    "recording": ["The recording of this trace was killed"],
}


def test_odd_traces_are_shown_and_survive_every_key(tmp_path: Path) -> None:
    async def story() -> None:
        for name, trace in odd_traces(tmp_path).items():
            async with shown(trace, (160, 40)) as pilot:
                text = text_of(pilot)
                for part in EXPECTED[name]:
                    assert part in text, name
                assert "\x1b" not in text and "\u202e" not in text
                for key in KEYS:  # without Pilot's wait after each
                    pilot.app.simulate_key(key)
                await pilot.pause()
                await pilot.press("escape", "escape")
                assert pilot.app.is_running, name

    run(story)


def test_a_terminal_without_unicode(trace: Trace) -> None:
    async def story() -> None:
        async with shown(trace, (80, 24), ascii_only=True) as pilot:
            assert text_of(pilot).isascii() and "#" in text_of(pilot)
            await pilot.press("question_mark")
            assert text_of(pilot).isascii()

    run(story)


def test_no_colour_leaves_the_cursor_visible(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def story() -> None:
        async with shown(trace, (80, 24)) as pilot:
            tree = tree_of(pilot)
            row = tree.outline.cursor - round(tree.scroll_y) + 1
            styles = [segment.style for segment in tree.render_line(row)]
            assert all(style is not None and style.reverse for style in styles)
            for strip in pilot.app.screen._compositor.render_strips():
                for segment in strip:
                    assert segment.style is None or segment.style.color is None or segment.style.color.is_default

    run(story)


def test_a_move_in_view_repaints_two_lines(trace: Trace) -> None:
    async def story() -> None:
        async with shown(trace) as pilot:
            tree = tree_of(pilot)
            painted: list[int] = []
            render = tree.render_line
            tree.render_line = lambda y: painted.append(y) or render(y)  # type: ignore[func-returns-value,method-assign]
            await pilot.press("j")
            assert len(set(painted)) == 2

    run(story)


def test_a_click_selects_and_a_second_opens(trace: Trace) -> None:
    async def story() -> None:
        async with shown(trace) as pilot:
            tree = tree_of(pilot)
            await pilot.click(LayerTree, offset=(12, 2))
            assert tree.outline.cursor == 0
            await pilot.click(LayerTree, offset=(12, 2))
            assert len(tree.outline.rows) == 1

    run(story)


def test_the_palette_offers_the_table(trace: Trace) -> None:
    async def story() -> None:
        async with shown(trace) as pilot:
            offered = [command.title for command in pilot.app.get_system_commands(pilot.app.screen)]
            assert offered == [action.title for scope in ("layers", "screen") for action in actions.of(scope)]
            tree = tree_of(pilot)
            await pilot.press("ctrl+p", *"Close", "enter")
            await until(pilot, lambda: not tree.outline.expanded[1:].any())

    run(story)


def test_a_page_key_right_after_the_palettes_own_ends_nothing(trace: Trace) -> None:
    async def story() -> None:
        async with shown(trace, (40, 10)) as pilot:
            for key in ("ctrl+p", "pagedown", "pageup"):
                pilot.app.simulate_key(key)
            await pilot.pause()
            assert pilot.app.is_running

    run(story)


def owners_of_scopes() -> dict[str, list[type]]:
    """The screens and panes of each scope: the classes that say so themselves."""
    owners: dict[str, list[type]] = {}
    for package in (tui.screens, tui.widgets):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for found in vars(importlib.import_module(module.name)).values():
                if isinstance(found, type) and found.__module__ == module.name and "SCOPE" in vars(found):
                    owners.setdefault(found.SCOPE, []).append(found)
    return owners


def test_every_action_of_the_table_is_carried_out_by_somebody() -> None:
    owners = owners_of_scopes()
    for action in actions.ACTIONS:
        assert owners.get(action.scope), f"nobody has the scope {action.scope}"
        assert any(hasattr(owner, action.method) for owner in owners[action.scope]), (action.scope, action.name)
    for scope in owners:
        keys = [key for action in actions.of(scope) for key in action.keys]  # type: ignore[arg-type]
        assert len(keys) == len(set(keys)), scope
    for key in (key for action in actions.of("layers", "screen") for key in action.keys):
        assert key not in {key for action in actions.of("tree") for key in action.keys}, "the tree would take it"


def test_every_footer_has_four_to_six_keys() -> None:
    for scope, owners in owners_of_scopes().items():
        if any(issubclass(owner, TraceScreen) for owner in owners) and scope != "screen":
            assert 4 <= len(actions.in_footer(scope)) <= 6, scope  # type: ignore[arg-type]
