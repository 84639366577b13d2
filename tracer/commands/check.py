"""`deeplift-tracer check FILE --max-relative-delta R`: a saved trace as a test, for scripts and CI."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tracer.analysis.verdict import relative_deltas, worst_example
from tracer.commands.arguments import bound, count_from_zero
from tracer.diagnosis.faults import ended_by
from tracer.errors import TraceFileError
from tracer.text import clean, figure, require_example
from tracer.tracefile.trace import Trace, open_trace


def add(commands: argparse._SubParsersAction[Any]) -> None:
    command = commands.add_parser(
        "check",
        help="hold the delta of a saved trace against a bound, for CI",
        description="Exit code 0: the bound holds. 1: it does not. 2: no such file, no complete trace, wrong usage.",
    )
    command.add_argument("file", metavar="FILE", type=Path, help="a trace file, NAME.dltrace")
    command.add_argument(
        "--max-relative-delta",
        metavar="R",
        type=bound,
        required=True,
        help="the largest |delta| / |f(x) − f(x')| that passes, such as 1e-3",
    )
    command.add_argument(
        "--example", type=count_from_zero, metavar="K", help="hold example K, from 0 (default: the worst of all)"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print one line with the figure, and give the exit code back."""
    with open_trace(options.file) as trace:
        holds, line = checked(trace, options.max_relative_delta, options.example)
    print(line)
    return 0 if holds else 1


def checked(trace: Trace, most: float, example: int | None = None) -> tuple[bool, str]:
    """Whether the relative delta is at most `most`, and that in one line; of one example, or of the worst of all.

    A relative delta that is not a number does not hold. TraceFileError where the run is not complete.
    """
    run = trace.run
    if run.status != "complete":
        fault = ended_by(trace)
        said = clean(run.message if fault is None else fault.message, 300).rstrip(" .:")
        reason = "is not finished" if run.status == "recording" else f"failed: {said}"
        raise TraceFileError(f"the run in {trace.path} {reason}: there is no delta to check")
    if not run.examples:
        raise TraceFileError(f"{trace.path} holds no example: there is no delta to check")
    if example is not None:
        require_example(example, run.examples)
    relative = relative_deltas(run)
    index = worst_example(relative) if example is None else example
    ratio, delta = float(relative[index]), float(run.delta[index])
    change = float(run.output[index]) - float(run.output_reference[index])
    holds = ratio <= most
    which = f" in example {index} of {run.examples}" if run.examples > 1 else ""
    line = (
        f"{'holds' if holds else 'does not hold'}: relative delta {figure(ratio)}{which} "
        f"{'<=' if holds else 'is not <='} {figure(most)} (delta {figure(delta, signed=True)}, "
        f"output's change {figure(change, signed=True)})"
    )
    return holds, line
