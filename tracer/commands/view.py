"""`deeplift-tracer view FILE [OTHER]`: the terminal UI on a saved trace, or on two compared."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from tracer.compare import compare
from tracer.compare_report import diff_text
from tracer.report_text import report_text
from tracer.trace import open_trace


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command."""
    command = commands.add_parser("view", help="show a saved trace in the terminal UI, or compare two")
    command.add_argument("file", metavar="FILE", type=Path, help="a trace file, NAME.dltrace")
    command.add_argument("other", metavar="OTHER", type=Path, nargs="?", help="another, to compare the first with")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Show the file, or compare both."""
    show(options.file, options.other)


def show(path: Path, other: Path | None = None) -> None:
    """The terminal UI on the trace at `path`, compared with `other` if there is one.

    Where there is no terminal to draw on, the plain report, or the comparison as text.
    """
    if has_terminal():
        from tui import app

        app.run(path, other)
        return
    with open_trace(path) as trace:
        if other is None:
            text = report_text(trace, width=terminal_width())
        else:
            with open_trace(other) as second:
                text = diff_text(trace, second, compare(trace, second), width=terminal_width())
    sys.stdout.write(text)


def has_terminal() -> bool:
    """Whether a person sits at a terminal that can be drawn on; the UI draws on standard error."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return os.environ.get("TERM") != "dumb" and all(stream is not None and stream.isatty() for stream in streams)


def terminal_width() -> int:
    """Columns for plain text, between 60 and 160; 100 where the output is no terminal."""
    return min(max(shutil.get_terminal_size((100, 24)).columns, 60), 160)
