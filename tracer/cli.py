"""The command line: `main` is the only place that prints errors and sets exit codes.

Exit codes: 0 done, 1 a check that does not hold, 2 a mistake of the user (one line says which), 130 interrupted,
141 the output has no reader.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import tracer
from tracer import commands
from tracer.commands.out_of_memory import is_out_of_memory
from tracer.errors import TracerError
from tracer.text import clean

PROGRAM = "deeplift-tracer"
_LESS = "give fewer examples or a shorter text, bound the trace with --max-bytes, or close other programs"


class _Parser(argparse.ArgumentParser):
    """Says wrong usage in one line, as every other mistake; the commands' parsers are of this class too."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {clean(' '.join(message.split()))}; see {self.prog} --help\n")


def parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of these arguments; each command sets `run`, the function that does its work.

    Only the command that they name is loaded, all of them where they name none: the UI starts in half the time.
    """
    top = _Parser(PROGRAM, description="Shows which calls of a model make DeepLIFT's convergence delta.")
    top.add_argument("--version", action="version", version=f"{PROGRAM} {tracer.__version__}")
    parsers = top.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    names = commands.names()
    for name in arguments[:1] if arguments and arguments[0] in names else names:
        importlib.import_module(f"tracer.commands.{name}").add(parsers)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of one command; `arguments` None takes those of the process."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError):  # a stream that a test or a host put in place may not have it
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if arguments is None and isinstance(getattr(sys.stdout, "buffer", None), io.RawIOBase):
        # With PYTHONUNBUFFERED Python silently drops what a full disk or a slow pipe did not take.
        sys.stdout = open(  # noqa: SIM115
            sys.stdout.fileno(), "w", encoding=sys.stdout.encoding, errors="backslashreplace", closefd=False
        )
    given = tuple(sys.argv[1:] if arguments is None else arguments)
    try:
        options = parser(given).parse_args(given)
        options.arguments = given
        code: int | None = options.run(options)
        sys.stdout.flush()
    except TracerError as error:
        if _was_interrupted(error):
            return _failed("interrupted", 130)
        short = error.__cause__ is not None and is_out_of_memory(error.__cause__)
        return _failed(f"{error}: {_LESS}" if short else str(error))
    except KeyboardInterrupt:
        if arguments is None:  # a second Ctrl-C ends the process silently
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        return _failed("interrupted", 130)
    except BrokenPipeError:
        _drop_output()
        return 141
    except Exception as error:
        if _was_interrupted(error):
            return _failed("interrupted", 130)
        if is_out_of_memory(error):
            return _failed(f"out of memory ({error}): {_LESS}" if str(error) else f"out of memory: {_LESS}")
        if not isinstance(error, OSError):
            raise
        if error.filename is None and arguments is None:
            _drop_output()
        what = "" if error.filename is None else f" {error.filename}"
        return _failed(
            f"cannot read or write{what} ({error.strerror or error}): look at its name, rights and free space"
        )
    if arguments is None:  # the work is done: a late Ctrl-C must not end in a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return code or 0


def _was_interrupted(error: BaseException) -> bool:
    """Whether Ctrl-C is behind an error, which it caused in code that was cleaning up, say."""
    seen: set[int] = set()
    while error.__cause__ or error.__context__:
        seen.add(id(error))
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
        if isinstance(error, KeyboardInterrupt) or id(error) in seen:
            return isinstance(error, KeyboardInterrupt)
    return False


def _failed(message: str, code: int = 2) -> int:
    """The exit code, after one line on standard error."""
    with suppress(OSError):  # a full disk, perhaps
        print(f"{PROGRAM}: {clean(' '.join(message.split()))}", file=sys.stderr, flush=True)
    return code


def _drop_output() -> None:
    """Drop the rest of standard output: Python flushes it at exit, and would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
