"""`deeplift-tracer demo`: the whole story on the bundled model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tracer.commands import view
from tracer.commands.progress import progress
from tracer.text import clean


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command."""
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
    from tracer.demo.run import check_folder, run_demo

    replaced = check_folder(options.out)
    if replaced:
        print(f"replacing an earlier demo: {clean(', '.join(map(str, replaced)))}", file=sys.stderr)
    with progress() as report:
        result = run_demo(options.out, report)
    sys.stdout.write(result.table)
    sys.stdout.flush()
    if not options.no_view and view.has_terminal():
        view.show(result.worst)
