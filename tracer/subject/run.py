"""What is attributed and how, as the command line says it and a trace keeps it, so that the run can be made again."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracer.errors import InputError, TraceFileError
from tracer.subject.task import TASKS

if TYPE_CHECKING:
    from tracer.subject.tensors import TensorSubject
    from tracer.subject.text import Subject

METHODS = {"captum": "DeepLIFT (captum)", "exact": "DeepLIFT (exact)", "gradient": "gradient × Δ"}
"""Each method with its name in the sanity panel."""
POSITIONS = ("zero", "same")
DEMO = "(demo)"
"""Stands as the model in the options that the demo keeps; no model of anybody's is called so."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of one attribution; `deeplift-tracer trace --help` says what each means. None: not given.

    `model` is a hub id, a directory or package.module:factory; `inputs` the safetensors file for the last.
    """

    model: str
    text: str | None = None
    inputs: Path | None = None
    task: str | None = None
    position: int | None = None
    target: str | None = None
    method: str = "captum"
    rules: tuple[str, ...] = ()
    explicit: tuple[str, ...] = ()
    reference: str | None = None
    reference_positions: str | None = None

    def check(self) -> None:
        """InputError for options that do not go together; loads nothing of the model."""
        from tracer.subject.factory import is_factory

        if is_factory(self.model):
            for option in ("text", "task", "position", "reference", "reference_positions"):
                if getattr(self, option) is not None:
                    raise InputError(
                        f"--{option.replace('_', '-')} is for Hugging Face models and texts: "
                        f"{self.model} takes its tensors from --inputs FILE"
                    )
            if self.inputs is None:
                raise InputError(f"--inputs is missing: give {self.model} a safetensors file with a tensor named input")
            return
        if self.inputs is not None:
            raise InputError(f"--inputs goes with package.module:factory: explain {self.model} for a text, with --text")
        if self.text is None:
            raise InputError(f"--text is missing: give the text to explain {self.model} for")
        if not self.text.strip():
            raise InputError("the text is empty: give at least one word")
        if self.reference is not None and not self.reference.strip():
            raise InputError("the reference text is empty: give one, or pad, mask, unk or zero")

    def load(self) -> Subject | TensorSubject:
        """The model with its text or tensors. InputError, ModelError where that fails."""
        self.check()
        from tracer.subject.factory import is_factory, load_factory
        from tracer.subject.inputs_file import read_inputs
        from tracer.subject.loading import load_subject
        from tracer.subject.tensors import make_tensor_subject
        from tracer.subject.text import make_subject

        if is_factory(self.model):
            assert self.inputs is not None
            given = read_inputs(self.inputs)
            return make_tensor_subject(load_factory(self.model), given, self.model, self.target)
        assert self.text is not None
        model, tokenizer = load_subject(self.model, self.task)  # type: ignore[arg-type]
        return make_subject(
            model,
            tokenizer,
            self.text,
            task=self.task,  # type: ignore[arg-type]
            position=self.position,
            target=self.target,
            reference="pad" if self.reference is None else self.reference,
            reference_positions=self.reference_positions or "same",  # type: ignore[arg-type]
        )

    def to_json(self) -> str:
        """The options that were given, as a trace keeps them; files and directories by their absolute paths."""
        kept: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.inputs is not None:
            kept["inputs"] = str(self.inputs.absolute())
        local = Path(self.model).expanduser()
        if local.is_dir():
            kept["model"] = str(local.absolute())
        return json.dumps({name: value for name, value in kept.items() if value not in (None, ())})

    @staticmethod
    def from_json(text: str) -> RunOptions:
        """What `to_json` wrote; TraceFileError where the text, which a file brought, is anything else."""
        refused = TraceFileError("the trace does not say in a known way how its run was made: record it again")
        try:
            kept: Any = json.loads(text)
        except (ValueError, RecursionError):
            raise refused from None
        known = {field.name for field in fields(RunOptions)}
        if not isinstance(kept, dict) or "model" not in kept or not kept.keys() <= known:
            raise refused
        lists = {"rules": kept.pop("rules", []), "explicit": kept.pop("explicit", [])}
        if not all(isinstance(value, list) and all(isinstance(one, str) for one in value) for value in lists.values()):
            raise refused
        position = kept.pop("position", None)
        if not all(isinstance(value, str) for value in kept.values()) or not isinstance(position, int | None):
            raise refused
        if "inputs" in kept:
            kept["inputs"] = Path(kept["inputs"])
        options = RunOptions(**kept, position=position, rules=tuple(lists["rules"]), explicit=tuple(lists["explicit"]))
        if options.method not in METHODS or options.task not in (None, *TASKS):
            raise refused
        if options.reference_positions not in (None, *POSITIONS):
            raise refused
        return options
