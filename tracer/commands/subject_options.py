"""The options that say what to attribute: a model, a text or tensors, a target, a reference, a method.

Kept in a trace as JSON, they load the same subject again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracer.errors import InputError, TraceFileError
from tracer.rules.rulebook import Rulebook

if TYPE_CHECKING:
    from tracer.subject.tensors import TensorSubject
    from tracer.subject.text import Subject

METHODS = {"captum": "DeepLIFT (captum)", "exact": "DeepLIFT (exact)", "gradient": "gradient × Δ"}
"""Each method with its name in the sanity panel."""
TASKS = ("classify", "causal", "masked")
POSITIONS = ("zero", "same")
DEMO = "(demo)"
"""Stands as the model in the options that the demo keeps; no model of anybody's is called so."""
_KEPT = (
    "model", "text", "inputs", "task", "position", "target", "method", "rules", "explicit", "reference",
    "reference_positions",
)  # fmt: skip


def add_subject_options(command: argparse.ArgumentParser) -> None:
    """Add the options, `model` itself excepted."""
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


def check(options: argparse.Namespace) -> None:
    """InputError for options that do not go together, without anything of the model."""
    from tracer.subject.factory import is_factory

    if is_factory(options.model):
        for option in ("text", "task", "position", "reference", "reference_positions"):
            if getattr(options, option) is not None:
                raise InputError(
                    f"--{option.replace('_', '-')} is for Hugging Face models and texts: "
                    f"{options.model} takes its tensors from --inputs FILE"
                )
        if options.inputs is None:
            raise InputError(f"--inputs is missing: give {options.model} a safetensors file with a tensor named input")
        return
    if options.inputs is not None:
        raise InputError(f"--inputs goes with package.module:factory: explain {options.model} for a text, with --text")
    if options.text is None:
        raise InputError(f"--text is missing: give the text to explain {options.model} for")
    if not options.text.strip():
        raise InputError("the text is empty: give at least one word")
    if options.reference is not None and not options.reference.strip():
        raise InputError("the reference text is empty: give one, or pad, mask, unk or zero")


def load(options: argparse.Namespace) -> Subject | TensorSubject:
    """What the options name, loaded; `InputError` for options that do not go together, before anything is loaded."""
    check(options)
    from tracer.subject.factory import is_factory, load_factory
    from tracer.subject.inputs_file import read_inputs
    from tracer.subject.loading import load_subject
    from tracer.subject.tensors import make_tensor_subject
    from tracer.subject.text import make_subject

    if is_factory(options.model):
        given = read_inputs(options.inputs)
        return make_tensor_subject(load_factory(options.model), given, options.model, options.target)
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


def to_json(options: argparse.Namespace) -> str:
    """The options as a trace keeps them; files and directories by their absolute paths."""
    kept = {name: getattr(options, name) for name in _KEPT}
    if kept["inputs"] is not None:
        kept["inputs"] = str(Path(kept["inputs"]).absolute())
    local = Path(kept["model"]).expanduser()
    if local.is_dir():
        kept["model"] = str(local.absolute())
    return json.dumps({name: value for name, value in kept.items() if value not in (None, [], ())})


def from_json(text: str) -> argparse.Namespace:
    """The options that `to_json` wrote; TraceFileError where the text, which a trace brought, is not of that kind."""
    refused = TraceFileError("the trace does not say in a known way how its run was made: record it again")
    try:
        kept: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise refused from None
    if not isinstance(kept, dict) or not isinstance(kept.get("model"), str) or not kept.keys() <= set(_KEPT):
        raise refused
    lists = {"rules": kept.pop("rules", []), "explicit": kept.pop("explicit", [])}
    if not all(isinstance(value, list) and all(isinstance(item, str) for item in value) for value in lists.values()):
        raise refused
    position = kept.pop("position", None)
    if not all(isinstance(value, str) for value in kept.values()) or not isinstance(position, int | None):
        raise refused
    options = argparse.Namespace(**dict.fromkeys(_KEPT) | {"method": "captum"} | kept)
    if options.method not in METHODS or options.task not in (None, *TASKS):
        raise refused
    if options.reference_positions not in (None, *POSITIONS):
        raise refused
    options.position, options.rules = position, lists["rules"]
    options.explicit = tuple(lists["explicit"])
    options.inputs = None if options.inputs is None else Path(options.inputs)
    return options


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
