"""`deeplift-tracer report FILE`: the report on a saved trace, for people, for an issue thread, or as data."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tracer.commands.arguments import count, count_from_zero
from tracer.commands.output_file import check_out, new_file
from tracer.commands.terminal import terminal_width
from tracer.report.data import report_data, report_json
from tracer.report.html import report_html
from tracer.report.markdown import report_markdown
from tracer.report.text import report_text
from tracer.tracefile.trace import open_trace

_TOP = 10
_TOP_HTML = 25


def add(commands: argparse._SubParsersAction[Any]) -> None:
    command = commands.add_parser("report", help="print a report on a saved trace")
    command.add_argument("file", metavar="FILE", type=Path, help="a trace file, NAME.dltrace")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON (NaN is null, infinities are strings)")
    form.add_argument("--markdown", action="store_true", help="print Markdown, to be pasted into an issue thread")
    form.add_argument("--html", action="store_true", help="print one HTML page that needs nothing else")
    command.add_argument(
        "--top", type=count, metavar="N", help=f"the N worst calls only (default {_TOP}; with --json all)"
    )
    command.add_argument(
        "--example", type=count_from_zero, metavar="K", help="figures of example K, from 0 (default: sums over all)"
    )
    command.add_argument("-o", "--out", metavar="OUT", type=Path, help="write it to OUT instead (an old one is kept)")
    command.add_argument("--force", action="store_true", help="overwrite OUT")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print or write the report."""
    top = _TOP if options.top is None else options.top
    with open_trace(options.file) as trace:
        if options.json:
            text = report_json(report_data(trace, top=options.top, example=options.example))
        elif options.markdown:
            text = report_markdown(trace, top=top, example=options.example)
        elif options.html:
            text = report_html(trace, top=_TOP_HTML if options.top is None else options.top, example=options.example)
        else:
            text = report_text(trace, top=top, example=options.example, width=terminal_width())
    if options.out is None:
        sys.stdout.write(text)
    else:
        check_out(options.out, options.force, options.file)
        with new_file(options.out, options.force) as file:
            file.write(text.encode("utf-8", "replace"))
        print(options.out)
