"""The compare screen under real key presses."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.synthetic import write_synthetic
from tests.tui.test_app import SIZES, run, text_of
from tests.tui.test_compare_rows import LEAKS_A, LEAKS_B, traced
from tracer.analysis.compare import compare
from tracer.cli import main
from tracer.tracefile.trace import Trace, open_trace
from tui.app import TracerApp
from tui.lines import compare as compare_rows
from tui.screens import compare as screen_module
from tui.screens.compare import CompareScreen
from tui.screens.layers import LayersScreen
from tui.widgets.compare_tree import CompareTree


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trace, Trace]:
    folder = tmp_path_factory.mktemp("pair")
    second = LEAKS_B | {"block.dense": 0.9}
    return traced(folder / "a.dltrace", LEAKS_A, 3.5), traced(folder / "b.dltrace", second, -729.1)


def tree_of(screen: object) -> CompareTree:
    assert isinstance(screen, CompareScreen) and screen.tree_or_none is not None
    return screen.tree_or_none


def test_two_traces_open_on_the_worst_divergence(traces: tuple[Trace, Trace]) -> None:
    async def story() -> None:
        async with TracerApp(*traces).run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            tree = tree_of(pilot.app.screen)
            text = text_of(pilot)
            assert tree.has_focus and tree.figures.paths[tree.selected] == "block/matmul"
            for part in ("A ✖ delta +3.5", "B ✖ delta -729.1", "A leak", "B − A", "-770.0", "‹", "›", "no such call"):
                assert part in text, part
            assert "Do not read" not in text, "the headlines of both stand in the place of one verdict"

    run(story)


def test_keys_for_first_worst_and_next(traces: tuple[Trace, Trace]) -> None:
    async def story() -> None:
        async with TracerApp(*traces).run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            tree = tree_of(pilot.app.screen)
            found = tree.pair.comparison
            diverging = tree.figures.diverging.tolist()
            await pilot.press("g", "f")
            assert tree.selected == found.first == diverging[0] != found.worst
            for expected in [*diverging[1:], diverging[0]]:
                await pilot.press("n")
                assert tree.selected == expected
            await pilot.press("N")
            assert tree.selected == diverging[-1]
            await pilot.press("w")
            assert tree.selected == found.worst
            await pilot.press("d")
            assert {tree.figures.paths[row] for row in tree.outline.rows} == {
                "", "block", "block.dense", "block/sdpa", "block/matmul", "block/softmax",
            }  # fmt: skip
            await pilot.press("d", "c")
            assert len(tree.outline.rows) == 2
            await pilot.press("e")
            assert len(tree.outline.rows) == len(tree.pair)

    run(story)


def test_o_shows_the_call_in_layers_where_a_has_it(traces: tuple[Trace, Trace]) -> None:
    async def story() -> None:
        async with TracerApp(*traces).run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            screen = pilot.app.screen
            await pilot.press("w", "o")
            assert pilot.app.screen is screen
            assert [toast.message for toast in pilot.app._notifications] == [
                "Only B has this call, and Layers shows A."
            ]
            tree = tree_of(screen)
            tree.go_to(list(tree.figures.paths).index("block/sdpa"))
            await pilot.press("o")
            assert isinstance(pilot.app.screen, LayersScreen)
            assert traces[0].nodes[pilot.app.screen.layer_tree.selected].path == "block/sdpa"
            await pilot.press("7")
            assert pilot.app.screen is screen and tree_of(screen) is tree, "the place is kept"

    run(story)


def test_it_follows_the_example(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        write_synthetic(tmp_path / name, layers=1, ops_per_layer=8, examples=2, seed=seed)
    traces = open_trace(tmp_path / "a"), open_trace(tmp_path / "b")

    async def story() -> None:
        async with TracerApp(*traces).run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            tree = tree_of(pilot.app.screen)
            await pilot.press("]", "]")
            expected = compare_rows.pair(compare(*traces, 1), *traces, 1)
            assert np.array_equal(tree.figures.self_leak, expected.figures.self_leak)
            for ids, leaks, trace in (
                (tree.pair.a, (tree.pair.leak_a, tree.pair.self_leak_a), traces[0]),
                (tree.pair.b, (tree.pair.leak_b, tree.pair.self_leak_b), traces[1]),
            ):
                for found, own in zip(leaks, trace.leaks(1), strict=True):
                    assert np.array_equal(found, own[ids]), "both models are the same"

    run(story)


@pytest.mark.parametrize("size", SIZES)
def test_both_leaks_are_seen_at_every_size(traces: tuple[Trace, Trace], size: tuple[int, int]) -> None:
    async def story() -> None:
        async with TracerApp(*traces).run_test(size=size) as pilot:
            await pilot.pause()
            text = text_of(pilot)
            assert "A leak" in text and "B leak" in text and "+3.5" in text and "-729.1" in text
            await pilot.press("tab", "shift+tab", "up", "down", "left", "right", "enter", "pagedown", "N", "n")
            assert isinstance(pilot.app.screen, CompareScreen)

    run(story)


def test_a_large_pair_is_compared_behind_the_screen(
    traces: tuple[Trace, Trace], monkeypatch: pytest.MonkeyPatch
) -> None:
    started, finish = threading.Event(), threading.Event()

    def slowly(*wanted: Any) -> Any:
        started.set()
        finish.wait(10)
        return compare(*wanted)

    monkeypatch.setattr(screen_module, "LARGE", 0)
    monkeypatch.setattr(screen_module, "compare", slowly)

    async def story() -> None:
        async with TracerApp(*traces).run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            assert started.wait(10) and "Comparing" in text_of(pilot)
            await pilot.press("w", "o", "1", "7")
            assert "Comparing" in text_of(pilot), "the keys work meanwhile"
            finish.set()
            await pilot.app.workers.wait_for_complete()
            await pilot.pause()
            assert "B − A" in text_of(pilot) and tree_of(pilot.app.screen).selected >= 0

    try:
        run(story)
    finally:
        finish.set()


def test_one_trace_has_nothing_to_compare_with(traces: tuple[Trace, Trace]) -> None:
    async def story() -> None:
        async with TracerApp(traces[0]).run_test(size=(80, 24)) as pilot:
            await pilot.press("7")
            assert "deeplift-tracer view A B" in text_of(pilot)
            for key in ("w", "f", "n", "N", "d", "e", "c", "o", "enter", "tab"):
                await pilot.press(key)
            assert isinstance(pilot.app.screen, CompareScreen)

    run(story)


def test_traces_of_different_models_are_refused_in_words(traces: tuple[Trace, Trace], tmp_path: Path) -> None:
    other = traced(tmp_path / "o.dltrace", {"": 0.0, "stack": 0.0, "stack.a": 1.0}, 1.0)

    async def story() -> None:
        async with TracerApp(traces[0], other).run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            assert "compare two traces of one model" in " ".join(text_of(pilot).split())

    run(story)


def test_a_large_pair_is_compared_in_a_moment(tmp_path: Path) -> None:
    """A generous bound against work a call at a time; the figures proper are the benchmark's."""
    for name, seed in (("a", 0), ("b", 1)):
        write_synthetic(tmp_path / name, layers=20, ops_per_layer=1000, seed=seed)
    traces = open_trace(tmp_path / "a"), open_trace(tmp_path / "b")
    for trace in traces:
        assert len(trace.columns.parent) == 20 * 1011 + 1
    start = time.process_time()
    compare_rows.pair(compare(*traces), *traces)
    assert time.process_time() - start < 2


def test_view_of_two_files_without_a_terminal_prints_the_comparison(
    traces: tuple[Trace, Trace], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["view", str(traces[0].path), str(traces[1].path)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("A and B ") and "block/matmul" in printed
    assert main(["view", str(traces[0].path), "nowhere.dltrace"]) == 2
    assert "nowhere.dltrace" in capsys.readouterr().err
