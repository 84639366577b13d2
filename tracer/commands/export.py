"""`deeplift-tracer export FILE --to FORMAT`: a saved trace for other programs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from tracer.commands.output_file import check_out, new_file
from tracer.commands.terminal import progress
from tracer.errors import InputError
from tracer.records import Progress
from tracer.report.csv_json import csv_lines, json_lines
from tracer.report.html import report_html
from tracer.report.safetensors import write_safetensors
from tracer.tracefile.trace import Trace, open_trace

FORMATS = ("safetensors", "json", "csv", "html")
_DESCRIPTION = """\
Write a trace for other programs. safetensors: all recorded tensors, named path#call/name.slot, with the run and its
calls as JSON metadata. json: the report with all calls and the figures of their tensors. csv: the ledger, a line a
call. html: the report as one page.
"""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    command = commands.add_parser("export", help="write a saved trace for other programs", description=_DESCRIPTION)
    command.add_argument("file", metavar="FILE", type=Path, help="a trace file, NAME.dltrace")
    command.add_argument("--to", metavar="FORMAT", choices=FORMATS, required=True, help=", ".join(FORMATS))
    command.add_argument("-o", "--out", metavar="OUT", type=Path, help="default: FILE with the format as its ending")
    command.add_argument("--force", action="store_true", help="overwrite OUT")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the file, and say where it is."""
    out: Path = options.out or options.file.with_suffix(f".{options.to}")
    with open_trace(options.file) as trace:
        check_out(out, options.force, options.file)
        with progress() as report, new_file(out, options.force) as file:
            said = _write(trace, options.to, file, report)
    if said:
        print(said, file=sys.stderr)
    print(out)


def _write(trace: Trace, form: str, file: BinaryIO, report: Progress) -> str:
    """Write the trace; gives back what to say of it."""
    if form == "safetensors":
        count, elided = write_safetensors(trace, file, report)
        if not count:
            raise InputError("the trace holds no tensors: record it with --capture tensors, or export to json")
        left = f"; {elided} were left out when it was recorded, or have no dtype there" if elided else ""
        return f"{count} tensor{'s' * (count > 1)}{left}"
    if form == "html":
        file.write(report_html(trace).encode("utf-8", "replace"))
        return ""
    lines = csv_lines(trace) if form == "csv" else json_lines(trace)
    _write_lines(lines, len(trace.nodes), file, report)
    return ""


def _write_lines(lines: Iterable[str], count: int, file: BinaryIO, report: Progress) -> None:
    for done, line in enumerate(lines):
        if done % 1_000 == 0:
            report("Exporting calls", min(done, count), count)
        file.write(line.encode("utf-8", "replace"))
