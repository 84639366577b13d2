"""`deeplift-tracer view FILE`: the terminal UI on a saved trace."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from tracer.report import report_text
from tracer.trace import open_trace


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command."""
    command = commands.add_parser("view", help="show a saved trace in the terminal UI")
    command.add_argument("file", metavar="FILE", type=Path, help="a trace file, NAME.dltrace")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Show the file."""
    show(options.file)


def show(path: Path) -> None:
    """The terminal UI on the trace at `path`; the plain report where there is no terminal to draw on."""
    if not has_terminal():
        with open_trace(path) as trace:
            sys.stdout.write(report_text(trace, width=terminal_width()))
        return
    from tui import app

    app.run(path)


def has_terminal() -> bool:
    """Whether a person sits at a terminal that can be drawn on; the UI draws on standard error."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return os.environ.get("TERM") != "dumb" and all(stream is not None and stream.isatty() for stream in streams)


def terminal_width() -> int:
    """Columns for plain text, between 60 and 160; 100 where the output is no terminal."""
    return min(max(shutil.get_terminal_size((100, 24)).columns, 60), 160)
