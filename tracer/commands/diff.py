"""`deeplift-tracer diff A B`: two saved traces aligned call by call, and where they differ."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tracer.analysis.compare import compare
from tracer.commands.arguments import count, count_from_zero
from tracer.commands.terminal import terminal_width
from tracer.report.comparison import diff_text
from tracer.report.comparison_data import diff_data
from tracer.report.data import report_json
from tracer.tracefile.trace import open_trace

_TOP = 10
_DESCRIPTION = """\
Align two traces call by call, by path and number, and say where they differ first: in values, in the reference, or in
how the same values are attributed. For two methods, rulebooks, variants or package versions on one model and text, or
for two texts on one model.
"""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    command = commands.add_parser("diff", help="compare two saved traces", description=_DESCRIPTION)
    command.add_argument("a", metavar="A", type=Path, help="a trace file, NAME.dltrace")
    command.add_argument("b", metavar="B", type=Path, help="another")
    command.add_argument("--json", action="store_true", help="print JSON (NaN is null, infinities are strings)")
    command.add_argument(
        "--top", type=count, metavar="N", help=f"the N calls that differ most (default {_TOP}; with --json all)"
    )
    command.add_argument(
        "--example", type=count_from_zero, metavar="K", help="figures of example K, from 0 (default: sums over all)"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the comparison."""
    with open_trace(options.a) as a, open_trace(options.b) as b:
        comparison = compare(a, b, options.example)
        if options.json:
            sys.stdout.write(report_json(diff_data(a, b, comparison, options.top, options.example)))
        else:
            top = _TOP if options.top is None else options.top
            sys.stdout.write(diff_text(a, b, comparison, top, options.example, terminal_width()))
