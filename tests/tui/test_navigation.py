"""Finding one's way, with real key presses and clicks: search, filters, sorting, marks, history, menus, examples."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.synthetic import write_synthetic
from tests.tui.builders import EVIL, edge, node, write
from tests.tui.test_app import run, screen_of, shown, text_of, tree_of, two_divergences, until
from tracer.tracefile.trace import Trace, open_trace
from tui.model.settings import Settings, load
from tui.screens.menu import MenuScreen
from tui.terminal import clipboard
from tui.widgets.crumbs import Crumbs
from tui.widgets.detail import Detail
from tui.widgets.header import Header
from tui.widgets.hint import Hint
from tui.widgets.layer_tree import LayerTree
from tui.widgets.tabs import Tabs


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """A trace of three examples with tensors."""
    path = tmp_path_factory.mktemp("traces") / "batch.dltrace"
    write_synthetic(path, layers=2, examples=3, tensors=True)
    return open_trace(path)


def toasts(pilot: Pilot[None]) -> list[str]:
    return [str(notification.message) for notification in pilot.app._notifications]


async def click_text(pilot: Pilot[None], widget: type, text: str, line: int = 0) -> None:
    """Click on a text that stands on a line of a widget."""
    found = pilot.app.screen.query_one(widget)
    strip = found.render_lines(found.size.region)[line]
    await pilot.click(widget, offset=(strip.text.index(text), line))
    await pilot.pause()


def test_loose_searches_say_so_and_go_by_rank(tmp_path: Path) -> None:
    async def story() -> None:
        async with shown(two_divergences(tmp_path / "t.dltrace")) as pilot:
            tree = tree_of(pilot)
            await pilot.press("slash", *"sfmx")
            assert tree.selected == 6 and "1 of 1 hit  not as written" in text_of(pilot)
            await pilot.press("escape", "slash", *"b.a")
            assert tree.hits.ranked.tolist() == [2, 5, 6], "the shortest stretch first"
            await pilot.press("enter", "n")
            assert tree.selected == 5 and "2 of 3 hits" in text_of(pilot)

    run(story)


def test_going_back_and_forward(tmp_path: Path) -> None:
    async def story() -> None:
        async with shown(two_divergences(tmp_path / "t.dltrace")) as pilot:
            tree = tree_of(pilot)
            await pilot.press("n", "slash", *"softmax", "enter")
            assert tree.selected == 6
            await pilot.press("escape", "b")
            assert tree.selected == 2
            await pilot.press("b")
            assert tree.selected == 5
            await pilot.press("b")
            assert tree.selected == 5 and "nothing to go back to" in toasts(pilot)[-1]
            await pilot.press("f", "alt+right")
            assert tree.selected == 6

    run(story)


def test_a_toast_that_is_repeated_stands_there_once(tmp_path: Path) -> None:
    async def story() -> None:
        quiet = write(tmp_path / "one", [node(0, None, 1, 0, "", 0.0)])
        async with shown(quiet) as pilot:
            for key in ("n", "n", "d", "d", "n", "d"):
                await pilot.press(key)
            assert toasts(pilot) == ["No call diverges."]

    run(story)


def test_filters_by_menu_and_by_text(tmp_path: Path) -> None:
    async def story() -> None:
        async with shown(two_divergences(tmp_path / "t.dltrace")) as pilot:
            tree = tree_of(pilot)
            await pilot.press("F")
            assert isinstance(pilot.app.screen, MenuScreen) and "normalisation" in text_of(pilot)
            await pilot.press("d")
            assert tree.outline.rows.tolist() == [0, 1, 2, 4, 5] and "only diverging" in text_of(pilot)
            await pilot.press("F", "n")
            assert "Nothing here: only diverging, normalisation" in toasts(pilot)[-1]
            assert tree.outline.rows.tolist() == [0, 1, 2, 4, 5]
            await pilot.press("F", "0", "F", "t", *"block.0.b")
            assert tree.outline.rows.tolist() == [0, 1, 3] and "1 call" in text_of(pilot)
            await pilot.press("enter")
            assert tree.has_focus and "only “block.0.b”" in text_of(pilot)
            await pilot.press("F", "t", *"xyz")
            assert tree.outline.rows.tolist() == [0]
            await pilot.press("escape")
            assert tree.outline.rows.tolist() == [0, 1, 3], "given up, the filter before is back"
            await pilot.press("escape")
            assert not tree.outline.filtered and 5 in tree.outline.rows

    run(story)


def test_a_jump_past_the_filter_takes_it_off_and_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        async with shown(two_divergences(tmp_path / "t.dltrace")) as pilot:
            tree = tree_of(pilot)
            await pilot.press("F", "t", *"block.0", "enter")
            assert tree.selected in (0, 1, 2, 3) and "only “block.0”" in text_of(pilot)
            await pilot.press("w")
            await pilot.pause()
            assert tree.selected == 5 and not tree.outline.filtered and "only “" not in text_of(pilot)

    run(story)


def test_sorting_by_key_and_by_click_keeps_the_call(tmp_path: Path) -> None:
    async def story() -> None:
        async with shown(two_divergences(tmp_path / "t.dltrace")) as pilot:
            tree = tree_of(pilot)
            await pilot.press("n")
            assert tree.selected == 2
            await pilot.press("s", "l")
            assert tree.outline.rows.tolist()[:2] == [5, 2] and tree.selected == 2
            assert "self leak▼" in text_of(pilot) and "by leak" in text_of(pilot)
            await click_text(pilot, LayerTree, "gain", 1)
            assert tree.outline.sort == "gain" and tree.selected == 2
            await click_text(pilot, LayerTree, "gain", 1)
            assert tree.outline.sort == "order" and tree.selected == 2
            await pilot.press("s", "t", "enter")
            assert tree.outline.sort == "order", "Enter shows the call in the tree"
            assert tree.selected == 2 and tree.outline.row_of(2) == tree.outline.cursor

    run(story)


def test_marks(tmp_path: Path) -> None:
    async def story() -> None:
        async with shown(two_divergences(tmp_path / "t.dltrace")) as pilot:
            tree = tree_of(pilot)
            await pilot.press("apostrophe")
            assert "No call is marked" in toasts(pilot)[-1]
            await pilot.press("m", "n", "m", "home")
            assert pilot.app.session.marks == {2, 5}  # type: ignore[attr-defined]
            assert text_of(pilot).count("●") == 2 and "2 marks" in text_of(pilot)
            seen = []
            for key in ("apostrophe", "apostrophe", "M", "M"):
                await pilot.press(key)
                seen.append(tree.selected)
            assert seen == [2, 5, 2, 5]
            await pilot.press("m")
            assert pilot.app.session.marks == {2}  # type: ignore[attr-defined]

    run(story)


def test_the_threshold_moves_without_a_word_of_its_own(tmp_path: Path) -> None:
    async def story() -> None:
        async with shown(two_divergences(tmp_path / "t.dltrace")) as pilot:
            assert "2 diverging (at least 1 % of" in text_of(pilot)
            for _ in range(4):
                await pilot.press("plus")
            assert "1 diverging (at least 20 % of" in text_of(pilot)
            await pilot.press("minus")
            assert "1 diverging (at least 10 % of" in text_of(pilot) and not toasts(pilot)

    run(story)


def test_crumbs_and_tabs_can_be_clicked(tmp_path: Path) -> None:
    async def story() -> None:
        async with shown(two_divergences(tmp_path / "t.dltrace")) as pilot:
            tree = tree_of(pilot)
            assert "synthetic › block.1 › a" in text_of(pilot)
            await click_text(pilot, Crumbs, "block.1")
            assert tree.selected == 4
            await pilot.press("b")
            assert tree.selected == 5
            await pilot.press("n")
            await until(pilot, lambda: "synthetic › block.0 › a" in text_of(pilot))
            await click_text(pilot, Tabs, "2 Flow")
            assert pilot.app.screen.SCOPE == "flow"  # type: ignore[attr-defined]
            await click_text(pilot, Tabs, "1 Layers")
            assert screen_of(pilot).layer_tree.selected == 2

    run(story)


def test_every_screen_is_a_key_away_and_comes_back_as_it_was(batch: Trace) -> None:
    async def story() -> None:
        async with shown(batch) as pilot:
            first = pilot.app.screen
            for key in ("2", "3", "4", "5", "6", "7", "2", "7", "1"):
                await pilot.press(key)
                await pilot.pause()
                assert len(pilot.app.screen_stack) <= 2
            assert pilot.app.screen is first

    run(story)


def test_the_example_is_chosen_by_key_click_and_menu(batch: Trace) -> None:
    async def story() -> None:
        async with shown(batch) as pilot:
            session = pilot.app.session  # type: ignore[attr-defined]
            assert "sums over 3 examples" in text_of(pilot)
            await pilot.press("right_square_bracket")
            assert session.example == 0 and "example 0 of 3" in text_of(pilot) and "in example 0" in text_of(pilot)
            figure = f"{float(batch.nodes[session.node].self_leak[0]):+.1f}"
            assert figure in text_of(pilot)
            line = next(
                place
                for place, strip in enumerate(
                    pilot.app.screen.query_one(Header).render_lines(pilot.app.screen.query_one(Header).size.region)
                )
                if "example 0 of" in strip.text
            )
            await click_text(pilot, Header, "›", line)
            assert session.example == 1
            await click_text(pilot, Header, "‹", line)
            assert session.example == 0
            await click_text(pilot, Header, "example 0", line)
            assert isinstance(pilot.app.screen, MenuScreen)
            await pilot.press("2")
            assert session.example == 2 and "example 2 of 3" in text_of(pilot)
            await pilot.press("E", "home", "enter")
            assert session.example is None

    run(story)


def test_a_menu_line_can_be_clicked(batch: Trace) -> None:
    async def story() -> None:
        async with shown(batch) as pilot:
            await pilot.press("s")
            await pilot.click("#menu", offset=(8, 4))
            await pilot.pause()
            assert tree_of(pilot).outline.sort == "gain"

    run(story)


def test_the_one_example_of_a_trace_is_said(tmp_path: Path) -> None:
    async def story() -> None:
        async with shown(two_divergences(tmp_path / "t.dltrace")) as pilot:
            await pilot.press("right_square_bracket", "E")
            assert toasts(pilot) == ["This trace has one example."]

    run(story)


def test_columns_and_theme_are_remembered(tmp_path: Path, batch: Trace) -> None:
    async def story() -> None:
        environment = {"HOME": str(tmp_path)}
        async with shown(batch, settings=load(environment)) as pilot:
            assert pilot.app.screen.query(Hint) and "Other screens:" in text_of(pilot)
            await pilot.press("C", "t", "b", "escape")
            assert "time" in text_of(pilot) and "-      leak" not in text_of(pilot)
            await pilot.press("T", "l")
            assert pilot.app.theme == "tracer-light"
            assert not pilot.app.screen.query(Hint), "gone with the first key"
        async with shown(batch, settings=load(environment)) as pilot:
            assert pilot.app.theme == "tracer-light" and not pilot.app.screen.query(Hint)
            assert "time" in text_of(pilot).splitlines()[8] or "time" in text_of(pilot)
            assert tree_of(pilot).columns == ("leak", "self", "gain", "time", "type")

    run(story)


def test_an_unknown_theme_is_the_dark_one(batch: Trace) -> None:
    async def story() -> None:
        async with shown(batch, settings=Settings(theme="mauve")) as pilot:
            assert pilot.app.theme == "tracer-dark"

    run(story)


def test_keys_of_ones_own_stand_in_footer_and_help(batch: Trace) -> None:
    async def story() -> None:
        settings = Settings(keys={"layers.worst": ("W",), "nonsense": ("x",)}, problems=("a.toml is odd",))
        async with shown(batch, settings=settings) as pilot:
            tree = tree_of(pilot)
            assert "W worst" in text_of(pilot).splitlines()[-1]
            said = toasts(pilot)
            assert len(said) == 2 and said[0] == "a.toml is odd" and "'nonsense'" in said[1]
            await pilot.press("home", "w")
            assert tree.selected == 0, "the key of the table does nothing any more"
            await pilot.press("W")
            assert tree.selected == 4
            await pilot.press("question_mark")
            assert "W            Go to the worst call" in text_of(pilot)

    run(story)


def test_the_help_begins_with_the_pane_that_has_the_keys(batch: Trace) -> None:
    async def story() -> None:
        async with shown(batch) as pilot:
            await pilot.press("question_mark")
            assert "In the layer tree" in text_of(pilot).splitlines()[1]
            await pilot.press("escape", "tab", "question_mark")
            assert "In this pane" in text_of(pilot).splitlines()[1]

    run(story)


def test_copying_says_where_it_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        copied: list[str] = []

        def copy(text: str, write: object) -> str:
            copied.append(text)
            return "to a test"

        monkeypatch.setattr(clipboard, "copy", copy)
        async with shown(two_divergences(tmp_path / "t.dltrace")) as pilot:
            await pilot.press("y", "Y")
            assert copied == ["block.1.a", "90.0"]
            assert toasts(pilot) == ["Copied 90.0 to a test."]

    run(story)


def test_picture_and_report_are_written_and_nothing_is_written_over(
    tmp_path: Path, batch: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "batch-layers.svg").write_text("mine", encoding="utf-8")
        async with shown(batch) as pilot:
            await pilot.press("S")
            assert str(tmp_path / "batch-layers-2.svg") in toasts(pilot)[-1]
            await pilot.press("R")
            assert str(tmp_path / "batch-report.md") in toasts(pilot)[-1]
        assert (tmp_path / "batch-layers.svg").read_text(encoding="utf-8") == "mine"
        assert "<svg" in (tmp_path / "batch-layers-2.svg").read_text(encoding="utf-8")
        assert "softmax" in (tmp_path / "batch-report.md").read_text(encoding="utf-8")
        monkeypatch.chdir("/proc")
        async with shown(batch) as pilot:
            await pilot.press("S", "R")
            assert "cannot be written" in toasts(pilot)[-1]

    run(story)


def test_a_click_on_a_tensors_figures_opens_it(batch: Trace) -> None:
    async def story() -> None:
        async with shown(batch) as pilot:
            detail = pilot.app.screen.query_one(Detail)
            lines = [strip.text for strip in detail.render_lines(detail.size.region)]
            line = next(place for place, text in enumerate(lines) if text.strip().startswith("reference"))
            await pilot.click(Detail, offset=(4, line))
            await pilot.pause()
            assert type(pilot.app.screen).__name__ == "TensorScreen"

    run(story)


def test_odd_names_are_harmless_everywhere(tmp_path: Path) -> None:
    async def story() -> None:
        names = [
            node(0, None, 3, 0, "", 1.0, type=EVIL),
            node(1, 0, 3, 1, EVIL, 1.0, source=EVIL, type=EVIL),
            node(2, 1, 3, 2, EVIL + "/" + EVIL, 5.0, kind="op", source=EVIL, type=EVIL),
        ]
        trace = write(tmp_path / "t", names, [edge(EVIL)], model=EVIL, tokens=((EVIL,),))
        async with shown(trace) as pilot:
            for keys in (["F"], ["escape", "s", "l"], ["slash", "b"], ["escape", "F", "t", "["], ["escape", "y"]):
                await pilot.press(*keys)
                text = text_of(pilot)
                assert "\x1b" not in text and "\u202e" not in text
                assert pilot.app.is_running

    run(story)
