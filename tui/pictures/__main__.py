"""What the UI shows after some keys, as an SVG: `python -m tui.pictures TRACE OUT.svg [--size 120x40] [--keys w,t]`.

`python -m tui.pictures --readme FOLDER` draws the pictures of the README from the traces that the demo left in FOLDER.
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from textual.pilot import Pilot

from tracer.tracefile.trace import open_trace
from tui.app import TracerApp


@dataclass(frozen=True, slots=True)
class Screenshot:
    """A picture of the README: of which of the demo's traces, after which keys, in how many cells."""

    name: str
    trace: str
    other: str = ""
    keys: tuple[str, ...] = ()
    size: tuple[int, int] = (120, 36)


README = (
    Screenshot("layers", "softmax-gelu"),
    Screenshot("flow", "shipped", keys=("2",), size=(120, 26)),
    Screenshot("compare", "softmax-gelu", "exact", keys=("w",)),
)


async def picture(
    trace_file: Path, keys: tuple[str, ...], width: int, height: int, other_file: Path | None = None
) -> str:
    """The SVG of the screen of `width` × `height` cells, on one trace or on two."""
    with open_trace(trace_file) as trace, nullcontext() if other_file is None else open_trace(other_file) as other:
        app = TracerApp(trace, other)
        async with app.run_test(size=(width, height)) as pilot:
            await _settled(app, pilot)
            for key in keys:
                await pilot.press(key)
                await _settled(app, pilot)
            return app.export_screenshot(title="deeplift-tracer")


async def _settled(app: TracerApp, pilot: Pilot[None]) -> None:
    """Wait for what threads work out, and for the detail, which follows the cursor a moment later."""
    await app.workers.wait_for_complete()
    await pilot.pause(0.2)


def main() -> None:
    """Draw one picture, or those of the README."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--other", type=Path, help="a second trace, to compare with")
    parser.add_argument("--size", default="120x40")
    parser.add_argument("--keys", default="", help="separated by commas")
    parser.add_argument("--readme", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    if options.readme is not None:
        for each in README:
            files = [options.readme / f"{name}.dltrace" for name in (each.trace, each.other) if name]
            svg = asyncio.run(picture(files[0], each.keys, *each.size, files[1] if each.other else None))
            _write(Path(__file__).parent / f"{each.name}.svg", svg)
        return
    if options.out is None:
        parser.error("give a trace and the picture's file, or --readme FOLDER")
    width, height = map(int, options.size.split("x"))
    keys = tuple(key for key in options.keys.split(",") if key)
    _write(options.out, asyncio.run(picture(options.trace, keys, width, height, options.other)))


def _write(file: Path, svg: str) -> None:
    file.write_text(svg, encoding="utf-8")
    print(file)


if __name__ == "__main__":
    main()
