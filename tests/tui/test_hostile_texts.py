"""A trace whose every text is made to take effect: on no screen does any."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.hostile_texts import ACTIVE, obeyed, write_hostile
from tests.synthetic import write_synthetic
from tests.tui.test_app import run
from tests.tui.test_heads import SOFTMAX, written
from tracer.tracefile.trace import open_trace
from tui.app import TracerApp
from tui.screen_table import TABS

# On every screen: its panes, its other orders, the tensors and the search, each left again.
TOUR = (
    *(entry.key for entry in TABS), "1", "v", "n", "d", "m", "escape", "5", "tab", "6", "tab", "3", "c", "t", "2",
    "s", "v", "4", "tab", "7", "e", "1", "e", "t", "slash", "a", "escape", "F", "escape", "C", "escape", "m",
    "question_mark", "escape", "ctrl+p", "escape",
)  # fmt: skip


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("traces")
    for status in ("complete", "failed"):
        write_synthetic(folder / f"{status}.dltrace", layers=1, tensors=True, status=status)  # type: ignore[arg-type]
    written(folder / "heads.dltrace", [SOFTMAX]).close()
    return {path.stem: path for path in folder.iterdir()}


def check(pilot: Pilot[None], where: str) -> str:
    """The screen's text, nothing in which takes effect."""
    strips = pilot.app.screen._compositor.render_strips()
    text = "\n".join(strip.text for strip in strips)
    assert obeyed(text) == [], where
    for strip in strips:
        for segment in strip:
            if segment.style is not None:
                assert segment.style.link is None, where
                assert "evil" not in str(segment.style.meta.get("@click")), where
    return text


@pytest.mark.parametrize(
    ("status", "name"), [("complete", "mixed"), ("complete", "markup"), ("failed", "mixed"), ("heads", "mixed")]
)
def test_no_screen_lets_a_text_take_effect(sources: dict[str, Path], tmp_path: Path, status: str, name: str) -> None:
    path = write_hostile(sources[status], tmp_path / "a.dltrace", ACTIVE[name], keep_types=status == "heads")

    async def story() -> None:
        with open_trace(path) as trace, open_trace(sources[status]) as other:
            async with TracerApp(trace, other).run_test(size=(150, 40)) as pilot:
                await pilot.pause()
                shown = {check(pilot, "at first")}
                for key in TOUR:
                    pilot.app.simulate_key(key)  # without Pilot's longer wait
                    await pilot.pause()
                    shown.add(check(pilot, key))
                assert len(shown) > 15  # it did go through the screens

    run(story)


@pytest.mark.parametrize("name", ["mixed", "markup"])
def test_a_folder_shows_names_without_effect(sources: dict[str, Path], tmp_path: Path, name: str) -> None:
    path = write_hostile(sources["complete"], tmp_path / "a.dltrace", ACTIVE[name])
    path.rename(tmp_path / f"{ACTIVE[name].replace('/', '')}.dltrace")
    (tmp_path / f"b{ACTIVE[name].replace('/', '')}.dltrace").write_text("no trace")

    async def story() -> None:
        async with TracerApp(folder=tmp_path).run_test(size=(150, 40)) as pilot:
            await pilot.pause()
            for key in ("down", "down", "enter", "m", "m", "c", "r", "s"):
                check(pilot, key)
                await pilot.press(key)

    run(story)
