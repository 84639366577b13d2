"""Pieces of HTML that the parts of the page share: escaped text, and lists of names and values."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tracer.text import clean


def text(value: str) -> str:
    """`value` in one line, escaped."""
    return escape(clean(value))


def value_list(rows: Sequence[tuple[str, str]]) -> str:
    """A list of names and values; the values are HTML."""
    return "<dl>" + "".join(f'<dt>{escape(name)}</dt><dd class="{name}">{value}</dd>' for name, value in rows) + "</dl>"
