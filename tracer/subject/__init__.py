"""What is attributed: a Hugging Face text model on its embeddings, or any PyTorch model on tensors of a file."""

from __future__ import annotations

from tracer.subject.classifier import EmbeddingClassifier, EmbeddingLanguageModel
from tracer.subject.factory import is_factory, load_factory
from tracer.subject.inputs_file import GivenTensors, read_inputs
from tracer.subject.loading import load_subject
from tracer.subject.positions import ReferencePositions
from tracer.subject.task import TASKS, Task
from tracer.subject.tensors import TensorSubject, make_tensor_subject
from tracer.subject.text import Subject, make_subject

__all__ = [
    "TASKS",
    "EmbeddingClassifier",
    "EmbeddingLanguageModel",
    "GivenTensors",
    "ReferencePositions",
    "Subject",
    "Task",
    "TensorSubject",
    "is_factory",
    "load_factory",
    "load_subject",
    "make_subject",
    "make_tensor_subject",
    "read_inputs",
]
