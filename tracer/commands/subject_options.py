"""The options that say what to attribute and how: a model, a text or tensors, a target, a reference, a method."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from tracer.errors import InputError
from tracer.rules.rulebook import Rulebook
from tracer.subject.run import METHODS, POSITIONS, RunOptions
from tracer.subject.task import TASKS


def add_subject_options(command: argparse.ArgumentParser) -> None:
    """Add the options that say what to attribute and how, but for the model."""
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
        type=rule,
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
        choices=POSITIONS,
        help="position ids of the reference: the input's (same, the default) or all zero",
    )


def run_options(options: argparse.Namespace) -> RunOptions:
    """What the options of `add_subject_options`, and `model`, say."""
    given = {field.name: getattr(options, field.name) for field in fields(RunOptions)}
    return RunOptions(**given | {"rules": tuple(options.rules)})


def rule(text: str) -> str:
    """`text`, an override "PATTERN=RULE"; refused here, before a model is loaded for minutes."""
    try:
        Rulebook.parse(overrides=[text])
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def kinds(text: str) -> tuple[str, ...]:
    """The kinds of op in a comma-separated list."""
    wanted = tuple(kind.strip() for kind in text.split(",") if kind.strip())
    unknown = sorted(set(wanted) - {"softmax", "gelu"})
    if unknown or not wanted:
        raise argparse.ArgumentTypeError(f"{text!r}: expected softmax, gelu, or both with a comma")
    return wanted
