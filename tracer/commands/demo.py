"""`deeplift-tracer demo`: the whole story on the bundled model."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from tracer.commands import terminal, view
from tracer.commands.output_file import check_new
from tracer.errors import TraceFileError
from tracer.subject.run import DEMO
from tracer.text import clean
from tracer.tracefile.opening import says_trace
from tracer.tracefile.trace import open_trace


def add(commands: argparse._SubParsersAction[Any]) -> None:
    command = commands.add_parser(
        "demo", help="trace the bundled film-review classifier: captum's DeepLIFT in three variants, then exact rules"
    )
    command.add_argument("--no-view", action="store_true", help="stop after the table, without the terminal UI")
    command.add_argument(
        "-o", "--out", metavar="FOLDER", type=Path, default=Path("deeplift-demo"), help="default: deeplift-demo"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Record captum's run in three variants and one with exact rules, print the table, open the worst trace."""
    from tracer.demo.run import run_demo

    replaced = check_folder(options.out)
    if replaced:
        print(f"replacing an earlier demo: {clean(', '.join(map(str, replaced)))}", file=sys.stderr)
    with terminal.progress() as progress:
        result = run_demo(options.out, progress)
    sys.stdout.write(result.table)
    sys.stdout.flush()
    if not options.no_view and terminal.has_terminal():
        view.show(result.worst)


def check_folder(folder: Path) -> list[Path]:
    """The files of `folder` that a demo replaces; TraceFileError where one is not an earlier demo's."""
    from tracer.demo.run import RUNS

    found = [path for name, _method, _kinds in RUNS if os.path.lexists(path := folder / f"{name}.dltrace")]
    for path in found:
        check_new(path, force=True)
        if not _is_of_demo(path):
            raise TraceFileError(f"{path} is not a trace of the demo: move it away, or give another folder with --out")
    return found


def _is_of_demo(path: Path) -> bool:
    try:
        with open_trace(path) as trace:
            kept = json.loads(trace.run.command)
            return isinstance(kept, dict) and kept.get("model") == DEMO
    except TraceFileError:
        return says_trace(path)  # of a killed demo, or damaged
    except (ValueError, RecursionError):
        return False
