"""The tensor view under real key presses: opening, quantities, slices, zoom, jumps, export, odd tensors and sizes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.pilot import Pilot

from tests.synthetic import write_synthetic
from tests.tui.test_tensor_source import random, recorded
from tracer.records import TensorRef
from tracer.tracefile.trace import Trace, open_trace
from tui.app import TracerApp
from tui.model.tensor_source import KEPT_ELEMENTS
from tui.screens.layers import LayersScreen
from tui.screens.tensor import TensorScreen
from tui.widgets.heatmap import Heatmap

SIZES = [(40, 10), (80, 24), (120, 40), (200, 60)]


@asynccontextmanager
async def shown(trace: Trace, size: tuple[int, int] = (120, 40), **options: Any) -> AsyncIterator[Pilot[None]]:
    """The application with the tensors of the first call in view."""
    app = TracerApp(trace, **options)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        app.open_tensor(0)
        await settle(pilot)
        yield pilot


async def settle(pilot: Pilot[None]) -> None:
    await pilot.pause()
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


async def press(pilot: Pilot[None], *keys: str) -> None:
    await pilot.press(*keys)
    await settle(pilot)


def view_of(pilot: Pilot[None]) -> TensorScreen:
    screen = pilot.app.screen
    assert isinstance(screen, TensorScreen)
    return screen


def heatmap_of(pilot: Pilot[None]) -> Heatmap:
    return view_of(pilot).heatmap


def text_of(pilot: Pilot[None]) -> str:
    return "\n".join(strip.text for strip in pilot.app.screen._compositor.render_strips())


def run(story: Callable[[], Any]) -> None:
    asyncio.run(story())


@pytest.fixture
def tensors(tmp_path: Path) -> Trace:
    """A call with an input of (2, 3, 12, 8), a vector, and an output without multiplier."""
    x = random(2, 3, 12, 8)
    x[1, 2, 7, 5] = 50.0
    y, m = random(2, 3, 12, 8, seed=1), random(2, 3, 12, 8, seed=2)
    return recorded(
        tmp_path / "t.dltrace",
        {"value": x, "reference": y, "multiplier": m},
        {"value": random(40), "reference": random(40, seed=1), "multiplier": random(40, seed=2)},
        {"value": y, "reference": x, "multiplier": None, "out": True},
        delta=np.zeros(2),
        output=np.ones(2),
        output_reference=np.zeros(2),
    )


def test_v_opens_the_tensors_of_the_selected_call_and_escape_comes_back(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "s.dltrace", layers=2, ops_per_layer=8, tensors=True)

    async def story() -> None:
        async with TracerApp(open_trace(tmp_path / "s.dltrace")).run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            for back in ("escape", "q"):
                await press(pilot, "v")
                assert view_of(pilot).node == pilot.app.session.node  # type: ignore[attr-defined]
                text = text_of(pilot)
                assert "[input]" in text and "1×12×8 float32" in text and "min " in text and "[CLS]" in text
                assert heatmap_of(pilot).has_focus
                await press(pilot, back)
                assert isinstance(pilot.app.screen, LayersScreen)

    run(story)


def test_quantities_tensors_and_slices_by_keys(tensors: Trace) -> None:
    async def story() -> None:
        async with shown(tensors) as pilot:
            view = view_of(pilot)
            for key, quantity, name in [("d", "difference", "Δ"), ("p", "product", "m·Δ"), ("i", "value", "input")]:
                await press(pilot, key)
                assert view.quantity == quantity and f"[{name}]" in text_of(pilot)
            for key, index in [(".", "[0, 1]"), (".", "[0, 2]"), (".", "[1, 0]"), (",", "[0, 2]"), (">", "[1, 2]")]:
                await press(pilot, "comma" if key == "," else key)
                assert f"slice {index} of 2×3" in text_of(pilot)
            assert "+50" in text_of(pilot), "its maximum"
            await press(pilot, "n")
            assert "tensor 2 of 3" in text_of(pilot) and "40 float32" in text_of(pilot)
            await press(pilot, ".")
            assert view.number == 0
            await press(pilot, "n", "m")
            assert "[multiplier]" in text_of(pilot) and "No multiplier came back along this edge." in text_of(pilot)
            await press(pilot, "N", "N")
            assert "tensor 1 of 3" in text_of(pilot)

    run(story)


def test_the_cursor_says_what_is_under_it(tensors: Trace) -> None:
    async def story() -> None:
        async with shown(tensors) as pilot:
            x = tensors.tensor(0, "input")
            await press(pilot, "down", "right", "l", "j")
            assert f"[0, 0, 2, 2] {x[0, 0, 2, 2]:+.8g}" in text_of(pilot) and "'" in text_of(pilot)
            await press(pilot, "G")
            assert f"[0, 0, 11, 7] {x[0, 0, 11, 7]:+.8g}" in text_of(pilot)
            await press(pilot, "@", *"1,2,7,4", "enter")
            assert f"[1, 2, 7, 4] {x[1, 2, 7, 4]:+.8g}" in text_of(pilot) and heatmap_of(pilot).has_focus
            await press(pilot, "w")
            assert "[1, 2, 7, 5] +50" in text_of(pilot)
            await press(pilot, "@", *"99,0", "enter")
            assert "axis 2 has 0 to 11" in text_of(pilot)
            await press(pilot, "escape")
            assert heatmap_of(pilot).has_focus and heatmap_of(pilot).cursor == (7, 5)

    run(story)


def test_zooming_and_panning_a_large_tensor(tmp_path: Path) -> None:
    size = 1100
    assert size * size > KEPT_ELEMENTS
    x = random(size, size)
    x[777, 333] = -1000.0
    trace = recorded(tmp_path / "t.dltrace", {"value": x, "reference": x, "multiplier": x})

    async def story() -> None:
        async with shown(trace) as pilot:
            heatmap = heatmap_of(pilot)
            assert "min -1 000" in text_of(pilot) or "min -1000" in text_of(pilot)
            await press(pilot, "w")
            assert heatmap.cursor == (777, 333) and "[777, 333] -1000" in text_of(pilot)
            await press(pilot, *"++++++++++")
            picture = heatmap._picture
            assert picture is not None and picture.down.single and picture.down.repeat == 8
            assert "-1e3" in text_of(pilot) or "-1000" in text_of(pilot) or "-1 000" in text_of(pilot)
            await press(pilot, "right", "right", "down")
            assert heatmap.cursor == (778, 335) and f"[778, 335] {x[778, 335]:+.8g}" in text_of(pilot)
            await press(pilot, *["down"] * 12)
            assert heatmap.cursor == (790, 335), "the view goes along"
            await press(pilot, "0")
            assert heatmap._picture is not None and heatmap._picture.view.whole
            await press(pilot, "@", *"5,6", "enter")
            assert f"[5, 6] {x[5, 6]:+.8g}" in text_of(pilot)

    run(story)


def test_the_mouse_puts_the_cursor_on_a_cell(tensors: Trace) -> None:
    async def story() -> None:
        async with shown(tensors) as pilot:
            heatmap = heatmap_of(pilot)
            picture = heatmap._picture
            assert picture is not None
            x, y, _, _ = picture.box((3, 2))
            # The pane's own padding lies left of its content.
            await pilot.click(heatmap, offset=(x + 1, y))
            await settle(pilot)
            assert heatmap.cursor == (3, 2)

    run(story)


@pytest.mark.parametrize("kind", ["npy", "csv"])
def test_export_says_where(tensors: Trace, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    async def story() -> None:
        async with shown(tensors) as pilot:
            await press(pilot, ".", "x" if kind == "npy" else "X")
            (file,) = folder.iterdir()
            read = np.load(file) if kind == "npy" else np.loadtxt(file, delimiter=",", dtype=np.float32)
            np.testing.assert_array_equal(read, tensors.tensor(0, "input")[0, 1])
            messages = [note.message for note in pilot.app._notifications]
            assert any(str(file) in message for message in messages)

    run(story)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(
    tensors: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    folder.mkdir(mode=0o500)
    monkeypatch.chdir(folder)

    async def story() -> None:
        async with shown(tensors) as pilot:
            await press(pilot, "x")
            assert any("Not written" in note.message for note in pilot.app._notifications)

    run(story)


ODD: dict[str, dict[str, Any]] = {
    "scalar": {"value": np.asarray(3.5, dtype=np.float32)},
    "one element": {"value": np.ones((1, 1, 1), dtype=np.float32)},
    "NaN everywhere": {"value": np.full((4, 5), np.nan, dtype=np.float32)},
    "infinite": {"value": np.array([[np.inf, -np.inf, 1.0]], dtype=np.float32)},
    "zeros": {"value": np.zeros((3, 3), dtype=np.float32)},
    "integers": {"value": np.arange(12).reshape(3, 4)},
    "booleans": {"value": np.eye(5, dtype=np.bool_)},
    "complex": {"value": np.ones((2, 2), dtype=np.complex64)},
    "empty": {"value": np.zeros((2, 0, 5), dtype=np.float32)},
    "many axes": {"value": random(1, 2, 1, 2, 1, 2, 3)},
    "elided": {"value": TensorRef(None, "float32", (2, 2), elided=True)},
    "long vector": {"value": random(20_000)},
    "tall": {"value": random(3000, 1)},
}


@pytest.mark.parametrize("size", SIZES)
def test_odd_tensors_at_every_size(tmp_path: Path, size: tuple[int, int]) -> None:
    edges = [given | {"reference": given["value"], "multiplier": given["value"]} for given in ODD.values()]
    trace = recorded(tmp_path / "t.dltrace", *edges)

    async def story() -> None:
        async with shown(trace, size=size) as pilot:
            # The actions themselves, as one key press takes the pilot a tenth of a second.
            view, heatmap = view_of(pilot), heatmap_of(pilot)
            for name in ODD:
                view.action_quantity("product")
                await settle(pilot)
                view.action_quantity("value")
                for act in (
                    lambda: heatmap.action_zoom(1), heatmap.action_largest, lambda: heatmap.action_cursor(1, 0),
                    lambda: heatmap.action_cursor(0, 1), heatmap.action_digits, heatmap.action_scale,
                    lambda: heatmap.action_zoom(-1), heatmap.action_digits, heatmap.action_last, heatmap.action_whole,
                ):  # fmt: skip
                    act()
                await settle(pilot)
                text = text_of(pilot)
                if name == "empty":
                    assert "no elements" in text
                elif name == "elided":
                    assert "left out" in text
                else:
                    assert heatmap.summary is not None, name
                    assert any(line.startswith(" [") for line in text.splitlines()), "the cursor's element"
                view.action_edge(1)
            assert view.place == 0

    run(story)


def test_without_colours_and_in_ascii(tensors: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def story() -> None:
        async with shown(tensors, ascii_only=True) as pilot:
            await press(pilot, "@", *"1,2,7,5", "enter")
            text = text_of(pilot)
            assert text.isascii() and "[  50.0]" in text and "+50" in text
            await press(pilot, "n")
            assert "+9" in text_of(pilot) and "-" in text_of(pilot)
            painted = [
                segment.style
                for strip in pilot.app.screen._compositor.render_strips()
                for segment in strip
                if segment.style is not None
            ]
            assert not any(style.color and style.color.name.startswith("#f5a1") for style in painted)

    run(story)


def test_a_trace_without_tensors_says_so(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "s.dltrace", layers=1, ops_per_layer=8)

    async def story() -> None:
        async with shown(open_trace(tmp_path / "s.dltrace")) as pilot:
            assert "--capture tensors" in text_of(pilot)
            await press(pilot, "n", "+", "w", "x", "@", ".", "down", "s")
            assert isinstance(pilot.app.screen, TensorScreen)

    run(story)


def test_a_call_without_any_tensor_says_so(tmp_path: Path) -> None:
    trace = recorded(tmp_path / "t.dltrace")

    async def story() -> None:
        async with shown(trace) as pilot:
            assert "No tensors were recorded for this call." in text_of(pilot)
            await press(pilot, "m", "n", ".", "x", "+", "w", "@")
            assert "No tensors were recorded for this call." in text_of(pilot)

    run(story)


def test_the_example_chosen_elsewhere_is_the_slice_that_opens(tensors: Trace) -> None:
    async def story() -> None:
        app = TracerApp(tensors)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            app.session.set_example(1)
            app.open_tensor(0)
            await settle(pilot)
            assert "slice [1, 0] of 2×3" in text_of(pilot)
            await press(pilot, ".", "[")
            assert app.session.example == 0 and "slice [0, 0] of 2×3" in text_of(pilot)

    run(story)


def test_a_damaged_tensor_is_said_in_words(tmp_path: Path) -> None:
    import sqlite3

    recorded(tmp_path / "t.dltrace", {"value": random(3, 4), "reference": None, "multiplier": None}).close()
    with sqlite3.connect(tmp_path / "t.dltrace") as connection:
        connection.execute("UPDATE tensor SET data = x'00'")
    connection.close()

    async def story() -> None:
        async with shown(open_trace(tmp_path / "t.dltrace")) as pilot:
            assert "damaged" in text_of(pilot)

    run(story)
