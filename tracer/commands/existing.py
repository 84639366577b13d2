"""What a command does where its output would overwrite a file."""

from __future__ import annotations

import sys
from pathlib import Path

from tracer.commands.output_file import check_new, description
from tracer.errors import InputError
from tracer.text import clean


def check_out(out: Path, force: bool, source: Path | None = None) -> None:
    """Refuse an output that must not be overwritten; of one that `force` overwrites, say what is lost.

    `source` is the file that is read, which no output may be. Said in one line on standard error.
    """
    if source is not None and out.exists() and out.samefile(source):
        raise InputError(f"{out} is the trace itself: give another file with -o")
    check_new(out, force)
    if out.exists():
        print(f"replacing {clean(str(out))}: {description(out)}", file=sys.stderr)
