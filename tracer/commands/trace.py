"""`deeplift-tracer trace MODEL --text T`: record one attribution of a Hugging Face classifier."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracer.commands import view
from tracer.commands.progress import Report, progress
from tracer.errors import TraceFileError
from tracer.verdict import verdict

if TYPE_CHECKING:
    from tracer.records import Panel
    from tracer.subject import Subject
    from tracer.trace import Trace

METHODS = ("captum", "exact", "gradient")


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command."""
    command = commands.add_parser("trace", help="record an attribution of your own classifier and text")
    command.add_argument("model", metavar="MODEL", help="a Hugging Face hub id or a local model directory")
    command.add_argument("--text", metavar="T", required=True, help="the text to explain")
    command.add_argument("--target", metavar="K", type=int, help="the class to explain (default: the predicted one)")
    command.add_argument("--method", choices=METHODS, default="captum", help="default: captum")
    command.add_argument(
        "--explicit",
        metavar="KINDS",
        type=kinds,
        default=(),
        help="make functional ops modules: softmax or softmax,gelu",
    )
    command.add_argument(
        "--reference", default="pad", metavar="R", help="pad (default), mask, unk, zero, or a text of as many tokens"
    )
    command.add_argument(
        "--reference-positions",
        choices=("zero", "same"),
        default="same",
        help="position ids of the reference: the input's (same, the default) or all zero",
    )
    command.add_argument(
        "--capture", choices=("summary", "tensors"), default="tensors", help="figures only, or tensors too (default)"
    )
    command.add_argument(
        "-o", "--out", metavar="FILE", type=Path, help="trace file (default: the model's name, .dltrace)"
    )
    command.add_argument("--force", action="store_true", help="overwrite FILE")
    command.add_argument("--view", action="store_true", help="open the terminal UI afterwards")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Record, and say where the trace is and what it shows."""
    path = options.out or default_path(options.model)
    if path.exists() and not options.force:  # said before a model is loaded for minutes
        raise TraceFileError(f"{path} already exists: give another file with -o, or overwrite it with --force")
    with progress() as report:
        report(f"Loading {options.model}", 0, 0)
        from tracer.subject import load_subject, make_subject

        model, tokenizer = load_subject(options.model)
        subject = make_subject(
            model,
            tokenizer,
            options.text,
            target=options.target,
            reference=options.reference,
            reference_positions=options.reference_positions,
        )
        with trace_subject(
            subject, options.explicit, path, report, options.method, options.capture, force=options.force
        ) as trace:
            headline = verdict(trace).headline
    print(headline, file=sys.stderr)
    print(path)
    if options.view:
        view.show(path)


def trace_subject(
    subject: Subject,
    explicit_kinds: tuple[str, ...],
    path: Path | None,
    report: Report,
    method: str = "captum",
    capture: str = "tensors",
    force: bool = False,
    like: Panel | None = None,
) -> Trace:
    """The recorded trace of one subject, sanity panel included, with the ops of `explicit_kinds` made modules.

    `like` is the sanity panel of another run on this subject: the rankings that do not depend on the run come from it.
    """
    from tracer.explicit import explicit
    from tracer.methods import record
    from tracer.sanity import sanity_panel
    from tracer.watching import Details

    with explicit(subject.model, explicit_kinds, (subject.inputs, *subject.additional_forward_args)) as variant:
        report(f"DeepLIFT, {variant}", 0, 0)
        return record(
            subject.model,
            subject.inputs,
            subject.baselines,
            target=subject.target,
            method=method,  # type: ignore[arg-type]
            path=path,
            capture=capture,  # type: ignore[arg-type]
            additional_forward_args=subject.additional_forward_args or None,
            force=force,
            details=Details(
                model=subject.model_name,
                variant=variant,
                target=f"{subject.target} ({subject.labels[subject.target]})",
                text=subject.text,
                reference=subject.reference,
                tokens=(subject.tokens,),
                reference_tokens=(subject.reference_tokens,),
                names=subject.names,
            ),
            panel=lambda attributions, delta, hooks: sanity_panel(
                subject, attributions, float(delta.sum()), "DeepLIFT", hooks, progress=report, like=like
            ),
        )


def default_path(model: str) -> Path:
    """A file in the working directory named after a hub id or model directory: "org/name" gives name.dltrace."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model).expanduser().absolute().name).strip("-.")
    return Path(f"{name or 'model'}.dltrace")


def kinds(text: str) -> tuple[str, ...]:
    """The kinds of op in a comma-separated list."""
    wanted = tuple(kind.strip() for kind in text.split(",") if kind.strip())
    unknown = sorted(set(wanted) - {"softmax", "gelu"})
    if unknown or not wanted:
        raise argparse.ArgumentTypeError(f"{text!r}: expected softmax, gelu, or both with a comma")
    return wanted
