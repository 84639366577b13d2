"""Which axes of a tensor run along the tokens, and what their positions are called."""

from __future__ import annotations

from collections.abc import Sequence

from tracer.records import Run
from tracer.text import clean


def axis_labels(run: Run, shape: Sequence[int], axis: int, index: Sequence[int], reference: bool = False) -> list[str]:
    """The tokens along an axis of a tensor, one a position; empty where the axis does not have the tokens' length.

    `index` are the indices on the tensor's leading axes: where the first is the example, its own tokens count.
    `reference` takes the reference's tokens.
    """
    rows = run.reference_tokens if reference and run.reference_tokens else run.tokens
    length = max(map(len, run.tokens), default=0)
    if not rows or not length or not -len(shape) <= axis < len(shape) or shape[axis] != length:
        return []
    batched = shape[0] == run.examples
    if len(shape) + axis == 0 and batched:
        return []  # the examples, which happen to be as many as the tokens
    example = index[0] if batched and index else 0
    tokens = rows[example] if example < len(rows) else ()
    return [clean(token, 40) for token in tokens[:length]] + [""] * (length - len(tokens))


def row_and_column_labels(
    run: Run, shape: Sequence[int], index: Sequence[int], reference: bool = False
) -> tuple[list[str], list[str]]:
    """The labels of the rows and of the columns of a slice."""
    rows = axis_labels(run, shape, -2, index, reference) if len(shape) > 1 else []
    columns = axis_labels(run, shape, -1, index, reference) if shape else []
    return rows, columns
