"""A file that a command writes: it is complete or does not exist, and replaces no other without --force."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from tracer.errors import InputError, TraceFileError
from tracer.text import clean
from tracer.tracefile.opening import says_trace
from tracer.tracefile.reservation import refuse_running, refuse_special
from tracer.tracefile.trace import open_trace


def check_out(out: Path, force: bool, source: Path | None = None) -> None:
    """Refuse an output that must not be overwritten; of one that `force` overwrites, print what is lost.

    `source` is the file that is read, which no output may be.
    """
    if source is not None and out.exists() and out.samefile(source):
        raise InputError(f"{out} is the trace itself: give another file with -o")
    check_new(out, force)
    if out.exists():
        print(f"replacing {clean(str(out))}: {description(out)}", file=sys.stderr)


def check_new(path: Path, force: bool) -> None:
    """TraceFileError where `path` is a folder, a trace that is being recorded, or, without `force`, any file; and
    where its own folder does not exist or cannot be written."""
    if path.is_dir():
        raise TraceFileError(f"{path} is a folder: give a file in it")
    if not path.parent.is_dir():
        raise TraceFileError(
            f"cannot write {path}: there is no folder {path.parent}; make it, or give a file in another"
        )
    if not os.access(path.parent, os.W_OK):
        raise TraceFileError(
            f"cannot write {path}: its folder is not yours to write; give a file in a folder that you can write"
        )
    refuse_special(path)
    refuse_running(path)
    if path.exists() and not force:
        raise TraceFileError(f"{path} already exists: give another file with -o, or overwrite it with --force")


def description(path: Path) -> str:
    """What is lost when the file at `path` is overwritten: of a trace its run, of any other file its size."""
    try:
        with open_trace(path) as trace:
            run = trace.run
    except TraceFileError:
        size = f"{path.stat().st_size:,}".replace(",", " ")
        return f"{size} bytes" if not says_trace(path) else f"a trace that does not open, {size} bytes"
    words = (run.model, run.method, run.variant, f"recorded {run.started}", run.status)
    return ", ".join(clean(word, 60) for word in words if word)


@contextmanager
def new_file(path: Path, force: bool = False) -> Iterator[BinaryIO]:
    """`path`, open for writing bytes. The file appears when the context ends, and not after an error."""
    check_new(path, force)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        try:
            with part.open("xb") as file:
                yield file
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
    except OSError as error:
        # Reading a trace raises no OSError: it is the writing that failed.
        raise TraceFileError(
            f"cannot write {path} ({error.strerror}): give a file in a folder that you can write"
        ) from error
