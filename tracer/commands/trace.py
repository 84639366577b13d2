"""`deeplift-tracer trace MODEL`: an attribution of a Hugging Face model and text, or of any model and tensors."""

from __future__ import annotations

import argparse
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tracer.analysis.ladder import headline
from tracer.analysis.verdict import verdict
from tracer.commands import subject_options, terminal, view
from tracer.commands.output_file import check_new, check_out
from tracer.commands.subprocess_line import command_line
from tracer.counterfactuals import measured
from tracer.errors import TracerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracer.records import Progress
    from tracer.subject.run import RunOptions
    from tracer.subject.tensors import TensorSubject
    from tracer.subject.text import Subject
    from tracer.tracefile.trace import Trace

_LIMIT_S = 60.0
"""Seconds after which `trace` stops measuring counterfactuals, which it does without being asked."""
_DESCRIPTION = """\
Record one attribution. MODEL is a Hugging Face hub id or a directory that save_pretrained wrote, explained for a
text; or package.module:factory for any PyTorch model, explained for the tensors of a safetensors file.
"""
_EPILOG = """\
examples:
  a classifier, captum's DeepLIFT as it is, then with exact rules:
    deeplift-tracer trace owner/classifier --text "a great film"
    deeplift-tracer trace owner/classifier --text "a great film" --method exact -o exact.dltrace
  a causal language model: why this next token, after the last token or after token 3
    deeplift-tracer trace gpt2 --text "The capital of France is" --target " Paris" --method exact
    deeplift-tracer trace gpt2 --text "The capital of France is" --position 3 --method exact
  a masked language model: the token behind the mask, or behind token 2 when it is masked out
    deeplift-tracer trace bert-base-uncased --text "Paris is the [MASK] of France." --target capital --method exact
    deeplift-tracer trace bert-base-uncased --text "Paris is the capital." --position 2 --method exact
  one rule changed for all softmaxes
    deeplift-tracer trace owner/classifier --text "a great film" --method exact --rule '*/softmax=gradient'
  any PyTorch model: net() in models.py here returns it
    deeplift-tracer trace models:net --inputs batch.safetensors --target 1 --method exact

tensors of the file for --inputs (the first axis is examples):
  input, or input.0, input.1, ...     the model's first arguments, floating point: what is attributed to
  baseline, or baseline.0, ...        their references, of the same shape or of one example; zeros where missing
  extra, or extra.0, ...              further arguments of any dtype, the same for input and reference
  its metadata may hold text, and tokens: a JSON list with a list of texts an example
"""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    command = commands.add_parser(
        "trace",
        help="record an attribution of your own model",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("model", metavar="MODEL", help="a hub id, a model directory, or package.module:factory")
    subject_options.add_subject_options(command)
    command.add_argument(
        "--capture", choices=("summary", "tensors"), default="tensors", help="figures only, or tensors too (default)"
    )
    command.add_argument(
        "--max-bytes",
        metavar="SIZE",
        type=size,
        help="keep at most so much of tensors, such as 500M or 2G; the rest is kept as figures",
    )
    command.add_argument(
        "-o", "--out", metavar="FILE", type=Path, help="trace file (default: the model's name, .dltrace)"
    )
    command.add_argument("--force", action="store_true", help="overwrite FILE")
    command.add_argument(
        "--no-repair",
        action="store_true",
        help="do not run captum again with some calls made exact, to find what makes its delta vanish",
    )
    command.add_argument("--view", action="store_true", help="open the terminal UI at once, and fill it in")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Record, and say where the trace is and what it shows."""
    path = options.out or default_path(options.model)
    if options.view and terminal.has_terminal():
        check_new(path, options.force)
        _run_in_view(options.arguments, path)
        return
    check_out(path, options.force)  # said before a model is loaded for minutes
    made = subject_options.run_options(options)
    made.check()
    # Standard output is for the trace's path alone, whatever the model prints.
    with redirect_stdout(sys.stderr), terminal.progress() as progress:
        progress(f"Loading {made.model}", 0, 0)
        subject = made.load()
        from tracer.recording.subject import record_subject

        with record_subject(
            subject, made, path, progress, capture=options.capture, force=options.force, max_bytes=options.max_bytes
        ) as trace:
            judged = verdict(trace)
            told = ""
            if made.method == "captum" and not options.no_repair and judged.level != "holds":
                finite = bool(np.isfinite(trace.delta).all())
                told = _what_if(subject, made, trace, progress) if finite else _not_finite(trace)
            left_out = trace.left_out
    print(judged.headline, file=sys.stderr)
    if left_out:
        print(f"Left out to save room: {left_out} of the calls' tensors; their figures are there.", file=sys.stderr)
    if told:
        print(told, file=sys.stderr)
    print(path)
    if options.view:
        view.show(path)


def _run_in_view(arguments: Sequence[str], path: Path) -> None:
    """Record in a process of its own, without --view, while the terminal UI shows the trace as it grows."""
    from tui import app

    # No option's value begins with "--", so none is dropped; argparse takes abbreviations too.
    kept = [each for each in arguments if len(each) < 3 or not "--view".startswith(each)]
    recording = app.run_recording(command_line(kept), path)
    for line in recording.lines:
        print(line, file=sys.stderr)
    print(path)


def _what_if(subject: Subject | TensorSubject, made: RunOptions, trace: Trace, progress: Progress) -> str:
    """What the counterfactual runs found, in one line. Whatever happens in them, the recording stays complete."""
    try:
        found = measured.measure(subject, made, trace, progress, limit_s=_LIMIT_S)
    except KeyboardInterrupt:
        return "Interrupted: the trace is complete; what would make its delta vanish was not measured."
    except TracerError as error:
        return f"What would make the delta vanish was not measured: {error}"
    more = f" To measure the rest: deeplift-tracer repair {trace.path}" if found.interrupted else ""
    return headline(found) + more


def _not_finite(trace: Trace) -> str:
    """Where NaN or infinity comes from: no rule makes such a delta vanish."""
    found = [finding for finding in trace.findings if finding.kind == "non-finite"]
    return f"{found[0].message}; {found[0].advice}." if found else ""


def default_path(model: str) -> Path:
    """A file in the working directory named after a hub id or model directory: "org/name" gives name.dltrace."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model).expanduser().absolute().name).strip("-.")
    return Path(f"{name or 'model'}.dltrace")


def size(text: str) -> int:
    """A number of bytes: "1000", "500k", "500M", "2G" (powers of 1 000)."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B?", text.strip(), re.IGNORECASE)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: expected a number of bytes, such as 500M or 2G")
    return int(float(found[1]) * 1_000 ** " kmgt".index(found[2].lower() or " "))
