"""Progress of long work, on standard error, so that it never gets into the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tracer.text import clean

Report = Callable[[str, int, int], None]


@contextmanager
def progress() -> Iterator[Report]:
    """A function to call with (what is being done, steps done, steps in all; 0: not known) while the context lasts.

    One bar a kind of work on a terminal; one line a kind of work where standard error is a file or a pipe. The kind is
    what stands before a colon: "What if: softmax exact" and "What if: LayerNorm exact" share a bar.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

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
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def advance(what: str, done: int, total: int) -> None:
            what = clean(what)
            kind, colon, _one = what.partition(":")
            if kind not in tasks:
                tasks[kind] = bars.add_task(what, total=total or None)
            shown = f"{what} … {done + 1} of {total}" if colon and done < total else what
            bars.update(tasks[kind], description=shown, completed=done, total=total or None)

        yield advance
