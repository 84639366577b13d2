"""What a text model is asked: the class of the text, its next token, or a masked token."""

from __future__ import annotations

from typing import Any, Literal, get_args

Task = Literal["classify", "causal", "masked"]
TASKS: tuple[Task, ...] = get_args(Task)
MODEL_KINDS: dict[Task, str] = {
    "classify": "sequence classifier",
    "causal": "causal language model",
    "masked": "masked language model",
}
_ENDINGS: tuple[tuple[str, Task], ...] = (
    ("ForSequenceClassification", "classify"),
    ("ForCausalLM", "causal"),
    ("LMHeadModel", "causal"),
    ("ForMaskedLM", "masked"),
)


def task_of(architecture: str) -> Task | None:
    """The task of an architecture by its name ("GPT2LMHeadModel" is causal), None where the name does not tell.

    `XLMWithLMHeadModel` and its like do not: they are trained either way.
    """
    if architecture.endswith("WithLMHeadModel"):
        return None
    return next((task for ending, task in _ENDINGS if architecture.endswith(ending)), None)


def auto_class(task: Task) -> Any:
    """The class of transformers that loads a model with the head for a task."""
    import transformers

    classes: dict[Task, Any] = {
        "classify": transformers.AutoModelForSequenceClassification,
        "causal": transformers.AutoModelForCausalLM,
        "masked": transformers.AutoModelForMaskedLM,
    }
    return classes[task]
