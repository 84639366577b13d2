"""`deeplift-tracer report FILE`: the report on a saved trace, for people or as JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tracer.commands.view import terminal_width
from tracer.report import report_data, report_json, report_text
from tracer.trace import open_trace

_TOP = 10


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command."""
    command = commands.add_parser("report", help="print a report on a saved trace")
    command.add_argument("file", metavar="FILE", type=Path, help="a trace file, NAME.dltrace")
    command.add_argument("--json", action="store_true", help="print JSON (NaN is null, infinities are strings)")
    command.add_argument(
        "--top", type=count, metavar="N", help=f"the N worst calls only (default {_TOP}; with --json all)"
    )
    command.add_argument(
        "--example", type=count_from_zero, metavar="K", help="figures of example K, from 0 (default: sums over all)"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the report."""
    with open_trace(options.file) as trace:
        if options.json:
            data = report_data(trace, top=options.top, example=options.example)
            sys.stdout.write(report_json(data))
        else:
            top = _TOP if options.top is None else options.top
            sys.stdout.write(report_text(trace, top=top, example=options.example, width=terminal_width()))


def count(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def count_from_zero(text: str) -> int:
    """A whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)
