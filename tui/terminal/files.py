"""Writes what is shown into a new file of the working folder: a picture of the screen, or the report."""

from __future__ import annotations

import re
from pathlib import Path

from tracer.errors import TracerError
from tracer.tracefile.trace import Trace


def write_new(folder: Path, stem: str, suffix: str, text: str) -> str:
    """Write a file that was not there before; what is given back says where, or why not."""
    name = re.sub(r"[^\w.-]+", "-", stem)[:80].strip("-.") or "trace"
    for number in range(1, 1000):
        file = folder / f"{name}{'' if number == 1 else f'-{number}'}{suffix}"
        try:
            with file.open("x", encoding="utf-8") as stream:
                stream.write(text)
        except FileExistsError:
            continue
        except OSError as error:
            return f"{file} cannot be written: {error.strerror}"
        return f"Written to {file}"
    return f"{folder} holds too many files of the name {name}{suffix}"


def write_report(folder: Path, trace: Trace, example: int | None) -> str:
    """Write the report on a trace; what is given back says where, or why not."""
    from tracer.report.markdown import report_markdown

    try:
        text = report_markdown(trace, example=example)
    except TracerError as error:
        return f"There is no report: {error}"
    return write_new(folder, f"{stem_of(trace)}-report", ".md", text)


def stem_of(trace: Trace) -> str:
    """What files about a trace are called: as the trace's own file."""
    return trace.path.stem if trace.path is not None else "trace"
