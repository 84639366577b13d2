"""RESULTS.md: each script prints its figures as Markdown and, with `--write`, replaces its part of the file.

A script's figures stand between `<!-- NAME -->` and `<!-- /NAME -->`, NAME being the script's file without `.py`, under
a caption that says how they were made: command, date, processor and versions.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
OPTION = "--write"
PACKAGES = ("torch", "captum", "transformers")


def add_option(parser: argparse.ArgumentParser) -> None:
    """Let a script take `--write`."""
    parser.add_argument(OPTION, action="store_true", help=f"replace this script's part of {RESULTS.name} too")


@contextmanager
def printed(script: str, write: bool) -> Iterator[Callable[[str], None]]:
    """A `print` whose lines, with `write`, also replace the part of RESULTS.md of `script`, the caller's `__file__`.

    RESULTS.md stays as it is if an exception ends the block.
    """
    name, lines = Path(script).stem, list[str]()

    def line(text: str) -> None:
        print(text, flush=True)
        lines.append(text)

    yield line
    if write:
        text = RESULTS.read_text(encoding="utf-8")
        RESULTS.write_text(replaced(text, name, [caption(name, sys.argv[1:]), "", *lines]), encoding="utf-8")


def replaced(text: str, name: str, lines: Sequence[str]) -> str:
    """`text` with `lines` between the two markers of `name`; ValueError unless both stand there once, in that order."""
    opening, closing = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    before, found, rest = text.partition(opening)
    _old, ended, after = rest.partition(closing)
    if not (found and ended) or opening in rest or closing in before + after:
        raise ValueError(f"the markers of {name} do not stand once and in order in {RESULTS.name}")
    return before + opening + "\n".join(lines).strip("\n") + "\n" + closing + after


def caption(name: str, arguments: Sequence[str]) -> str:
    """How the figures of a script that was given these arguments come about, in one line of Markdown."""
    command = shlex.join(["python", "-m", f"{__package__}.{name}", *(a for a in arguments if a != OPTION)])
    versions = ", ".join([f"Python {platform.python_version()}", *(f"{each} {version(each)}" for each in PACKAGES)])
    return f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, {processor()}, {os.cpu_count()} cores, {versions}:"


def processor() -> str:
    """The processor's name, as Linux tells it; else the architecture's."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()
