"""What the UI shows after some keys, as an SVG: `python -m tui.pictures TRACE OUT.svg [--size 120x40] [--keys w,t]`."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from tracer.trace import open_trace
from tui.app import TracerApp


async def picture(trace_file: Path, keys: list[str], width: int, height: int) -> str:
    """The SVG of the screen of `width` × `height` cells."""
    with open_trace(trace_file) as trace:
        app = TracerApp(trace)
        async with app.run_test(size=(width, height)) as pilot:
            await pilot.pause()
            for key in keys:
                await pilot.press(key)
                await pilot.pause()
            return app.export_screenshot(title="deeplift-tracer")


def main() -> None:
    """Draw one picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", default="120x40")
    parser.add_argument("--keys", default="", help="separated by commas")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    keys = [key for key in options.keys.split(",") if key]
    options.out.write_text(asyncio.run(picture(options.trace, keys, width, height)), encoding="utf-8")


if __name__ == "__main__":
    main()
