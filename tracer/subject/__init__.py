"""What is attributed: a Hugging Face text model on its embeddings, or any PyTorch model on tensors of a file."""

from __future__ import annotations

from tracer.subject.classifier import EmbeddingClassifier, EmbeddingLanguageModel
from tracer.subject.loading import load_subject, quiet
from tracer.subject.positions import ReferencePositions
from tracer.subject.task import TASKS, Task
from tracer.subject.text import Subject, make_subject

__all__ = [
    "TASKS",
    "EmbeddingClassifier",
    "EmbeddingLanguageModel",
    "ReferencePositions",
    "Subject",
    "Task",
    "load_subject",
    "make_subject",
    "quiet",
]
