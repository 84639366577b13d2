"""`deeplift-tracer view FILE [OTHER]`: the terminal UI on a saved trace, on two compared, or on a folder of traces."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tracer.analysis.folder import folder_text, list_traces
from tracer.commands import terminal
from tracer.commands.subprocess_line import command_line
from tracer.errors import InputError
from tracer.tracefile.trace import open_trace


def add(commands: argparse._SubParsersAction[Any]) -> None:
    command = commands.add_parser("view", help="show a saved trace in the terminal UI, or compare two")
    command.add_argument("file", metavar="FILE", type=Path, help="a trace file, NAME.dltrace, or a folder of them")
    command.add_argument("other", metavar="OTHER", type=Path, nargs="?", help="another, to compare the first with")
    command.add_argument("--web", action="store_true", help="show it in the browser, on this machine only")
    command.add_argument("--port", metavar="P", type=_port, help="with --web: default 8000")
    # What textual-serve runs for a browser window: it draws by a driver of its own, without a terminal.
    command.add_argument("--served", action="store_true", help=argparse.SUPPRESS)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Show the file or folder, or compare both files."""
    file, other = options.file, options.other
    if other is not None and (file.is_dir() or other.is_dir()):
        raise InputError("two traces are compared: give two files, or one folder to choose them from")
    if options.web:
        _serve(file, other, options.port)
    elif options.port is not None:
        raise InputError("--port goes with --web: add --web to show the trace in the browser")
    else:
        show(file, other, options.served)


def _serve(file: Path, other: Path | None, port: int | None) -> None:
    """Serve what `show` would show."""
    paths = [path for path in (file, other) if path is not None]
    if not file.is_dir():
        for path in paths:
            open_trace(path).close()  # said here, not in the browser
    from tui.terminal import web

    arguments = ["view", "--served", "--", *(str(path.absolute()) for path in paths)]
    web.serve(command_line(arguments), " and ".join(path.name for path in paths), web.PORT if port is None else port)


def show(path: Path, other: Path | None = None, served: bool = False) -> None:
    """The terminal UI on the trace at `path`, compared with `other` if there is one, or on the folder at `path`.

    Where there is no terminal to draw on, the plain report, the comparison or the list as text; `served` is in a
    browser.
    """
    if served or terminal.has_terminal():
        from tui import app

        if path.is_dir():
            app.run_folder(path, served)
        else:
            app.run(path, other, served)
        return
    # What the UI does not need is loaded here: it is there half a second sooner.
    from tracer.analysis.compare import compare
    from tracer.report.comparison import diff_text
    from tracer.report.text import report_text

    if path.is_dir():
        sys.stdout.write(folder_text(path, list_traces(path), terminal.terminal_width()))
        return
    with open_trace(path) as trace:
        if other is None:
            text = report_text(trace, width=terminal.terminal_width())
        else:
            with open_trace(other) as second:
                text = diff_text(trace, second, compare(trace, second), width=terminal.terminal_width())
    sys.stdout.write(text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 1 to 65535")
    return int(text)
