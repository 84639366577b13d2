"""What the tensor view costs: `python -m tests.benchmarks.tensor_view [--size N] [--rounds N]`.

Prints, for one recorded float32 tensor of size × size, medians of wall and processor time: each quantity from the file
to the grid of its first view, and from the call that opens the view to the painted screen.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.benchmarks.results import add_option, printed
from tests.synthetic import synthetic_run
from tests.tui.builders import node
from tracer.records import Edge
from tracer.tracefile.trace import Trace, open_trace
from tracer.tracefile.writer import TraceWriter
from tui.app import TracerApp
from tui.model.matrix import fit, reduce
from tui.model.tensor_figures import Summary, histogram
from tui.model.tensor_source import QUANTITIES, Quantity, TensorSource, title_of
from tui.screens.tensor import TensorScreen

HEIGHT, WIDTH = 66, 112


def write(path: Path, size: int) -> None:
    """A trace of one call with one edge: input, reference and multiplier of size × size."""
    rng = np.random.default_rng(0)
    head = replace(synthetic_run(), capture="tensors")
    with TraceWriter(path) as writer:
        writer.begin(head)
        refs = [
            writer.put_tensor(rng.standard_normal((size, size), dtype=np.float32).tobytes(), "float32", (size, size))
            for _ in range(3)
        ]
        edge = Edge("in", 0, "input", (size, size), "float32", np.zeros(1), None, None, None, None, *refs)
        writer.add(node(0, None, 1, 0, "", 0.0), [edge])
        writer.finish(head)


Cost = tuple[float, float]
"""Wall and processor seconds."""


def measured(work: Callable[[], object]) -> Cost:
    """What a piece of work costs."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def grid_cost(trace: Trace, quantity: Quantity) -> Cost:
    """From the file to figures and grid of one quantity."""
    source = TensorSource(trace, 0, trace.edges(0)[0], quantity)
    view = fit(source.rows, source.columns, HEIGHT, WIDTH)
    return measured(lambda: reduce(Summary().watching(source.blocks(0, 0, source.rows)), view.down, view.across))


def histogram_cost(trace: Trace) -> Cost:
    """The histogram, which is counted after the picture is there."""
    source = TensorSource(trace, 0, trace.edges(0)[0], "value")
    summary = Summary()
    for block in source.blocks(0, 0, source.rows):
        summary.add(block)
    return measured(lambda: histogram(source.blocks(0, 0, source.rows), summary, 64))


async def opening_cost(path: Path) -> Cost:
    """From opening the view to its painted picture with the figures of the input."""
    with open_trace(path) as trace:
        app = TracerApp(trace)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            wall, processor = time.perf_counter(), time.process_time()
            app.open_tensor(0)
            while not _painted(app):
                await asyncio.sleep(0.001)
            return time.perf_counter() - wall, time.process_time() - processor


def _painted(app: TracerApp) -> bool:
    screen = app.screen
    if not isinstance(screen, TensorScreen) or not screen.is_mounted:
        return False
    return screen.heatmap.summary is not None and not screen._dirty_widgets and not screen._layout_required


def told(costs: list[Cost]) -> str:
    """The medians in milliseconds, as two cells."""
    wall, processor = (statistics.median(each) * 1000 for each in zip(*costs, strict=True))
    return f"{wall:.0f} ms | {processor:.0f} ms"


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    add_option(parser)
    options = parser.parse_args()
    rounds = range(options.rounds)
    with tempfile.TemporaryDirectory() as folder, printed(__file__, options.write) as line:
        path = Path(folder) / "large.dltrace"
        write(path, options.size)
        line(f"{options.size} × {options.size} float32, medians of {options.rounds}\n")
        line("| | wall time | processor time |\n|---|---|---|")
        with open_trace(path) as trace:
            for quantity in QUANTITIES:
                costs = [grid_cost(trace, quantity) for _ in rounds]
                line(f"| file to grid, {title_of('in', quantity)} | {told(costs)} |")
            line(f"| histogram, afterwards | {told([histogram_cost(trace) for _ in rounds])} |")
        line(f"| opened to painted | {told([asyncio.run(opening_cost(path)) for _ in rounds])} |")


if __name__ == "__main__":
    main()
