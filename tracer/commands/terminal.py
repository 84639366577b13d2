"""The terminal that a command talks to: whether there is one, how wide it is, and the progress of long work on it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tracer.records import Progress
from tracer.text import clean


def has_terminal() -> bool:
    """Whether a person sits at a terminal that can be drawn on; the UI draws on standard error."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return os.environ.get("TERM") != "dumb" and all(stream is not None and stream.isatty() for stream in streams)


def terminal_width() -> int:
    """Columns for plain text, between 60 and 160; 100 where the output is not a terminal."""
    return min(max(shutil.get_terminal_size((100, 24)).columns, 60), 160)


@contextmanager
def progress() -> Iterator[Progress]:
    """A function to call with (what is being done, steps done, steps in all; 0: not known) while the context lasts.

    One bar a kind of work on a terminal; one line a kind of work where standard error is a file or a pipe. The kind is
    what stands before a colon: "What if: softmax exact" and "What if: LayerNorm exact" share a bar.
    """
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        said: set[str] = set()

        def say(what: str, done: int, total: int) -> None:
            what = clean(what)  # a trace may name the model
            kind = what.partition(":")[0]
            if kind not in said:
                said.add(kind)
                console.print(f"{what} …" if console.encoding.startswith("utf") else f"{what} ...", markup=False)

        yield say
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(30), TimeElapsedColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def advance(what: str, done: int, total: int) -> None:
            what = clean(what)
            kind, colon, _one = what.partition(":")
            if kind not in tasks:
                tasks[kind] = bars.add_task(what, total=total or None)
            shown = f"{what} … {done + 1} of {total}" if colon and done < total else what
            bars.update(tasks[kind], description=shown, completed=done, total=total or None)

        yield advance
