"""A Hugging Face text classifier, loaded and made ready for attribution on its embeddings."""

from __future__ import annotations

from tracer.subject.classifier import EmbeddingClassifier
from tracer.subject.loading import load_subject, quiet
from tracer.subject.text import ReferencePositions, Subject, make_subject

__all__ = ["EmbeddingClassifier", "ReferencePositions", "Subject", "load_subject", "make_subject", "quiet"]
