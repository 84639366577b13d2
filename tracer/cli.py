"""The command line: `main` is the only place that prints errors and sets exit codes.

Exit codes: 0 done, 1 a check that does not hold, 2 a mistake of the user's (one line says which), 130 interrupted, 141
nobody reads the output.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import tracer
from tracer.errors import TracerError
from tracer.plain import clean

PROGRAM = "deeplift-tracer"
COMMANDS = ("demo", "trace", "view", "report", "diff", "repair", "check", "export")


class _Parser(argparse.ArgumentParser):
    """Wrong usage is one line, as every other mistake; its commands' parsers are of this class too."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {clean(' '.join(message.split()))}; see {self.prog} --help\n")


def parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of these arguments; each command sets `run`, the function that does its work.

    Only the command that they name is loaded, all of them where they name none: the UI starts in half the time.
    """
    top = _Parser(PROGRAM, description="Shows which calls of a model make DeepLIFT's convergence delta.")
    top.add_argument("--version", action="version", version=f"{PROGRAM} {tracer.__version__}")
    commands = top.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    named = arguments[0] if arguments and arguments[0] in COMMANDS else None
    for name in COMMANDS if named is None else (named,):
        importlib.import_module(f"tracer.commands.{name}").add(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of one command; `arguments` None takes those of the process."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError):  # a stream that a test or a host put in place may not have it
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    given = tuple(sys.argv[1:] if arguments is None else arguments)
    options = parser(given).parse_args(given)
    options.arguments = given
    try:
        code: int | None = options.run(options)
        sys.stdout.flush()
    except TracerError as error:
        print(f"{PROGRAM}: {clean(' '.join(str(error).split()))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python flushes standard output once more at exit, and would complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code or 0
