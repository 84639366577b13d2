"""`deeplift-tracer trace MODEL`: an attribution of a Hugging Face model and text, or of any model and tensors."""

from __future__ import annotations

import argparse
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracer.commands import view
from tracer.commands.progress import Report, progress
from tracer.errors import InputError, TraceFileError
from tracer.verdict import verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracer.records import HookReport, Panel
    from tracer.subject import Subject, TensorSubject
    from tracer.trace import Trace

METHODS = {"captum": "DeepLIFT (captum)", "exact": "DeepLIFT (exact)", "gradient": "gradient × Δ"}
"""Each method with its name in the sanity panel."""
TASKS = ("classify", "causal", "masked")
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
    """Add this command."""
    command = commands.add_parser(
        "trace",
        help="record an attribution of your own model",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("model", metavar="MODEL", help="a hub id, a model directory, or package.module:factory")
    command.add_argument("--text", metavar="T", help="the text to explain")
    command.add_argument(
        "--inputs", metavar="FILE", type=Path, help="with package.module:factory: a safetensors file, see below"
    )
    command.add_argument("--task", choices=TASKS, help="what the model does (default: what its config says)")
    command.add_argument(
        "--position",
        metavar="P",
        type=int,
        help="causal: explain the token that follows token P (default: the text's last; negative: from the end); "
        "masked: explain token P, masked out (default: where the text's mask is)",
    )
    command.add_argument(
        "--target",
        metavar="K",
        help="class or its label, token id or a text that is one token, or number of an output (I,J for more axes); "
        "default: what the model predicts",
    )
    command.add_argument("--method", choices=tuple(METHODS), default="captum", help="default: captum")
    command.add_argument(
        "--rule",
        metavar="PATTERN=RULE",
        action="append",
        default=[],
        dest="rules",
        help="another rule (exact, gradient, rescale, captum) for calls whose path, op or module type fits the "
        "pattern; may be repeated, the last that fits holds",
    )
    command.add_argument(
        "--explicit",
        metavar="KINDS",
        type=kinds,
        default=(),
        help="make functional ops modules: softmax or softmax,gelu",
    )
    command.add_argument("--reference", metavar="R", help="pad (default), mask, unk, zero, or a text of as many tokens")
    command.add_argument(
        "--reference-positions",
        choices=("zero", "same"),
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
    # Standard output is for the trace's path alone, whatever a model of somebody else's prints.
    with redirect_stdout(sys.stderr), progress() as report:
        report(f"Loading {options.model}", 0, 0)
        subject = _subject(options)
        with trace_subject(
            subject,
            options.explicit,
            path,
            report,
            options.method,
            options.capture,
            force=options.force,
            rules=options.rules,
        ) as trace:
            headline = verdict(trace).headline
    print(headline, file=sys.stderr)
    print(path)
    if options.view:
        view.show(path)


def _subject(options: argparse.Namespace) -> Subject | TensorSubject:
    """What the options name, loaded; `InputError` for options that do not go together, before anything is loaded."""
    from tracer.subject import (
        is_factory,
        load_factory,
        load_subject,
        make_subject,
        make_tensor_subject,
        read_inputs,
    )

    if is_factory(options.model):
        for option in ("text", "task", "position", "reference", "reference_positions"):
            if getattr(options, option) is not None:
                raise InputError(
                    f"--{option.replace('_', '-')} is for Hugging Face models and texts: "
                    f"{options.model} takes its tensors from --inputs FILE"
                )
        if options.inputs is None:
            raise InputError(f"--inputs is missing: give {options.model} a safetensors file with a tensor named input")
        given = read_inputs(options.inputs)
        return make_tensor_subject(load_factory(options.model), given, options.model, options.target)
    if options.inputs is not None:
        raise InputError(f"--inputs goes with package.module:factory: explain {options.model} for a text, with --text")
    if options.text is None:
        raise InputError(f"--text is missing: give the text to explain {options.model} for")
    model, tokenizer = load_subject(options.model, options.task)
    return make_subject(
        model,
        tokenizer,
        options.text,
        task=options.task,
        position=options.position,
        target=options.target,
        reference="pad" if options.reference is None else options.reference,
        reference_positions=options.reference_positions or "same",
    )


def trace_subject(
    subject: Subject | TensorSubject,
    explicit_kinds: tuple[str, ...],
    path: Path | None,
    report: Report,
    method: str = "captum",
    capture: str = "tensors",
    force: bool = False,
    like: Panel | None = None,
    rules: Sequence[str] = (),
) -> Trace:
    """The recorded trace of one subject, sanity panel included, with the ops of `explicit_kinds` made modules.

    `like` is the sanity panel of another run on this subject: the rankings that do not depend on the run come from it.
    """
    from tracer.explicit import explicit
    from tracer.methods import record
    from tracer.sanity import sanity_panel, tensor_panel
    from tracer.subject import Subject
    from tracer.watching import Details

    name = METHODS[method] if not rules else f"{METHODS[method]}, {len(rules)} own rule{'s' if len(rules) > 1 else ''}"

    def panel(attributions: tuple[Any, ...], delta: Any, hooks: HookReport | None) -> Panel:
        if isinstance(subject, Subject):
            return sanity_panel(subject, attributions, float(delta.sum()), name, hooks, progress=report, like=like)
        return tensor_panel(subject, attributions, float(delta[0]), name, hooks, progress=report)

    inputs = subject.inputs if isinstance(subject.inputs, tuple) else (subject.inputs,)
    with explicit(subject.model, explicit_kinds, (*inputs, *subject.additional_forward_args)) as variant:
        report(f"{name}, {variant}", 0, 0)
        return record(
            subject.model,
            subject.inputs,
            subject.baselines,
            target=subject.target,
            method=method,  # type: ignore[arg-type]
            rules=rules,
            path=path,
            capture=capture,  # type: ignore[arg-type]
            additional_forward_args=subject.additional_forward_args or None,
            force=force,
            details=Details(
                model=subject.model_name,
                type=type(getattr(subject.model, "inner", subject.model)).__name__,
                variant=variant,
                target=subject.target_name,
                text=subject.text,
                reference=subject.reference,
                tokens=subject.token_rows,
                reference_tokens=subject.reference_token_rows,
                names=subject.names,
            ),
            panel=panel,
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
