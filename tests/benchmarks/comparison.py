"""What observing costs, beside other tools: `python -m tests.benchmarks.comparison [--rounds N] [--shape SHAPE]`.

The work is the same for all: one forward and one backward pass on a doubled batch (input and reference), of which every
module's output and the gradient that arrives at it are kept, as copies. What several modules return is kept once.
torchlens keeps those of every op too; deeplift-tracer both of the modules and of the ops.

Each ratio is that of medians, measured in one process, in turn: the run observed, over the same run unobserved. For
deeplift-tracer that is a run of captum's DeepLift, the same two passes and captum's own hooks, inside `tracer.watch`,
as users of captum run it. A first round, not timed, checks that what a tool kept is there.

`pip install -e '.[benchmarks]'` installs torchlens and nnsight; a tool that is not installed is left out.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig

from tests.benchmarks.observers import LIBRARIES, Tool, frozen_subject, tools
from tests.benchmarks.observing import SHAPES, seconds
from tests.benchmarks.results import add_option, printed

NAMED_SHAPES = dict(zip(("minilm", "bert-base"), SHAPES, strict=True))


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: `ratio` of the run observed to the run unobserved."""

    name: str
    ratio: float
    tensors: int
    bytes: int
    sees: str


def once(tool: Tool, look: Callable[[Any], None]) -> float:
    """Seconds of one run, whose result `look` is shown."""
    kept: list[Any] = []
    gc.collect()  # what an earlier run left is not collected at this one's expense
    tool.before()
    try:
        elapsed = seconds(lambda: kept.append(tool.run()))
        look(kept[0])
    finally:
        for result in kept:
            tool.after(result)
    return elapsed


def measure(config: BertConfig, tokens: int, rounds: int, folder: Path) -> tuple[dict[str, list[float]], list[Row]]:
    """(seconds of each round of the two unobserved runs, "passes" and "captum"; the rows of the table)."""
    given = frozen_subject(config, tokens)
    bases: dict[str, Callable[[], None]] = {"passes": given.passes, "captum": given.captum}
    for work in bases.values():
        work()
    found = tools(config, tokens, folder)
    sizes: dict[str, tuple[int, int]] = {}
    for tool in found:

        def look(kept: Any, tool: Tool = tool) -> None:
            tool.check(kept)
            sizes[tool.name] = tool.kept(kept)

        once(tool, look)
    times: dict[str, list[float]] = {name: [] for name in (*bases, *sizes)}
    for _ in range(rounds):
        for name, work in bases.items():
            gc.collect()
            times[name].append(seconds(work))
        for tool in found:
            times[tool.name].append(once(tool, lambda _kept: None))
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    rows = [Row(tool.name, medians[tool.name] / medians[tool.base], *sizes[tool.name], tool.sees) for tool in found]
    return {name: times[name] for name in bases}, rows


def main() -> None:
    """Print the tables, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--shape", choices=NAMED_SHAPES, help="default: all")
    add_option(parser)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with printed(__file__, options.write) as line:
        compare(options.rounds, options.shape, line)


def compare(rounds: int, chosen: str | None, line: Callable[[str], None]) -> None:
    """Measure one shape, or all, and give `line` the table of each."""
    line(f"{torch.get_num_threads()} threads, medians of {rounds} rounds")
    for library in LIBRARIES:
        if find_spec(library) is None:
            line(f"{library} is not installed and left out: pip install -e '.[benchmarks]'")
    for short, shape in NAMED_SHAPES.items():
        if chosen not in (None, short):
            continue
        config, tokens = SHAPES[shape]
        with tempfile.TemporaryDirectory() as folder:
            bases, rows = measure(config, tokens, rounds, Path(folder))
        unobserved, alone = (
            f"{1000 * statistics.median(taken):.0f} ms ({1000 * min(taken):.0f}–{1000 * max(taken):.0f})"
            for taken in (bases["passes"], bases["captum"])
        )
        # A wide range tells that the machine was busy.
        line(f"\n{shape}: unobserved {unobserved}, captum alone {alone}\n")
        line("| tool | time | kept | sees |\n|---|---|---|---|")
        for row in rows:
            kept = f"{row.tensors} tensor{'s' * (row.tensors != 1)}, {row.bytes / 1e6:.1f} MB"
            line(f"| {row.name} | {row.ratio:.2f} × | {kept} | {row.sees} |")


if __name__ == "__main__":
    main()
