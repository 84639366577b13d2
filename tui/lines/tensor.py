"""What stands around a heatmap: which tensor and slice it is, the element under the cursor, figures and histogram."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.cells import cell_len

from tracer.records import Edge
from tracer.text import clean
from tui.lines.format import fit, number, shorten
from tui.lines.help import HelpText
from tui.lines.pieces import cut, paragraph
from tui.looks.roles import Line, Piece, Role
from tui.model.tensor_figures import Counts, Summary
from tui.model.tensor_source import QUANTITIES, Quantity, TensorSource, shape_text, title_of

_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = ".:-=+*#%"
_RANGE = ("min", "max", "mean", "norm")
_COUNTS = ("NaN", "inf", "colours")
READING: HelpText = (
    ("cell", "its element of the largest |value|, with that element's sign: a bad one is never averaged away"),
    ("colours", "in proportion to the slice's largest |value|, or over four decades of it (key s)"),
    ("? ∞ NN +i", "NaN and infinite; a cell with a NaN shows nothing else"),
    ("+9 -4", "instead of colours (key #): the sign, and the size in ninths of the scale"),
    ("histogram", "from the least to the largest finite value; a bar's height is the logarithm of its count"),
)
"""How to read a tensor, for the help."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The element under the cursor and, where its cell stands for several, the stretch of the cell and its extreme.

    `rows` and `columns` are the cell's first and last; `extreme` is the indices of its NaN or largest |value|.
    """

    row: int
    column: int
    value: complex
    rows: tuple[int, int]
    columns: tuple[int, int]
    extreme: tuple[int, int]
    extreme_value: complex

    @property
    def single(self) -> bool:
        """Whether the cell stands for this element alone."""
        return self.rows[0] == self.rows[1] and self.columns[0] == self.columns[1]


def tensor_title(path: str, source: TensorSource, place: int, places: int, width: int) -> Line:
    """Which call and which of its tensors: "layer.0/softmax   in 0 input   1×12×31×31 float32   (tensor 1 of 2)"."""
    edge = source.edge
    facts = f"{edge.direction} {edge.slot} {clean(edge.name, 40)}   {shape_text(source.shape)} {clean(source.dtype)}"
    count = f"   tensor {place + 1} of {places}"
    room = width - cell_len(facts) - 3
    if room < 16:
        return [(shorten(facts, width), Role.STRONG)]
    cells: list[Piece] = [(shorten(clean(path) or "(the model)", min(room, 80)), Role.STRONG), ("   ", Role.TEXT)]
    cells.append((facts, Role.TEXT))
    if sum(cell_len(text) for text, _ in cells) + len(count) <= width:
        cells.append((count, Role.MUTED))
    return cells


def quantity_line(edge: Edge, chosen: Quantity, source: TensorSource, number_: int, width: int) -> Line:
    """The quantities, the chosen one in brackets, and which slice is shown."""
    cells: list[Piece] = []
    for quantity in QUANTITIES:
        title = title_of(edge.direction, quantity)
        here = quantity == chosen
        cells.append((f"[{title}]" if here else f" {title} ", Role.KEY if here else Role.MUTED))
    slice_cells: list[Piece] = []
    if source.slices > 1 and not source.problem:
        where = ", ".join(map(str, source.index_of(number_)))
        slice_cells = [("   slice ", Role.MUTED), (f"[{where}]", Role.STRONG)]
        slice_cells.append((f" of {shape_text(source.leading)}", Role.MUTED))
    whole = cells + slice_cells
    if sum(cell_len(text) for text, _ in whole) > width:
        chosen_only = [cell for cell in cells if cell[1] is Role.KEY]
        whole = chosen_only + slice_cells
    return whole


def reading_line(
    reading: Reading, index: Sequence[int], rows: Sequence[str], columns: Sequence[str], vector: bool, width: int
) -> Line:
    """The element under the cursor with all its indices and the tokens it belongs to, and the largest of its cell.

    `index` are the indices on the leading axes; `vector` leaves out the row, which such a tensor does not have.
    """
    places = [*index, *([] if vector else [reading.row]), reading.column]
    cells: list[Piece] = [
        (f"[{', '.join(map(str, places))}] ", Role.MUTED),
        (value_text(reading.value), Role.STRONG),
    ]
    labels = [labels[place] for labels, place in ((rows, reading.row), (columns, reading.column)) if labels]
    if labels:
        cells.append((f"   {' × '.join(labels)}", Role.ACCENT))
    if not reading.single:
        parts = [_stretch("row", reading.rows)] * (not vector) + [_stretch("column", reading.columns)]
        stretch = f"largest of {', '.join(parts)}"
        if reading.extreme == (reading.row, reading.column):
            cells.append((f"   {stretch}", Role.MUTED))
        else:
            at = list(reading.extreme[vector:])
            cells += [("   in its cell ", Role.MUTED), (value_text(reading.extreme_value), Role.TEXT)]
            cells.append((f" at {at}, {stretch}", Role.MUTED))
    return cut(cells, width)


def _stretch(axis: str, ends: tuple[int, int]) -> str:
    return f"{axis} {ends[0]}" if ends[0] == ends[1] else f"{axis}s {ends[0]}–{ends[1]}"


def value_text(value: complex) -> str:
    """A value in full precision for reading: "+0.01234568", "3", "1+2j"."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, complex | np.complexfloating) and not isinstance(value, float):
        return f"{complex(value):.7g}"
    return f"{float(value.real):+.8g}"


def summary_lines(summary: Summary, logarithmic: bool, width: int) -> list[Line]:
    """Minimum, maximum, mean, norm and the non-finite counts of the slice, and the scale of its colours."""
    figures = {
        "min": number(summary.minimum, signed=True),
        "max": number(summary.maximum, signed=True),
        "mean": number(summary.mean, signed=True),
        "norm": number(summary.norm),
        "NaN": str(summary.nan),
        "inf": str(summary.infinite),
        "colours": f"±{number(summary.largest)} {'over four decades' if logarithmic else 'in proportion'}",
    }
    lines: list[Line] = []
    for names in lines_of_summary(width):
        line: list[Piece] = []
        for name in names:
            bad = (name == "NaN" and summary.nan) or (name == "inf" and summary.infinite)
            value = "-" if name in ("min", "max", "mean", "norm") and not summary.finite else figures[name]
            line += [(f"{'   ' if line else ''}{name} ", Role.MUTED), (value, Role.NONFINITE if bad else Role.TEXT)]
        lines.append(cut(line, width))
    return lines


def lines_of_summary(width: int) -> tuple[tuple[str, ...], ...]:
    """Which figures of a slice are on which line; known before the figures are, so that nothing moves later."""
    if width >= 130:
        return (_RANGE + _COUNTS,)
    return (_RANGE, _COUNTS) if width >= 64 else (("min", "max"), ("mean", "norm"), _COUNTS)


def histogram_line(counts: Counts | None, summary: Summary, width: int, ascii_only: bool) -> Line:
    """The histogram of the finite elements from minimum to maximum: bar heights are logarithms of the counts."""
    if not summary.finite:
        return [("No element is a number.", Role.NONFINITE)]
    low, high = number(summary.minimum, signed=True), number(summary.maximum, signed=True)
    if counts is None:
        return [(fit("histogram …", width), Role.MUTED)]
    bars = _ASCII_BARS if ascii_only else _BARS
    cells: list[Piece] = [(f"{low} ", Role.MUTED)]
    tallest = math.log1p(int(counts.max()))
    span = summary.maximum - summary.minimum
    for place, count in enumerate(counts.tolist()):
        middle = summary.minimum + span * (place + 0.5) / len(counts)
        text = bars[round(math.log1p(count) / tallest * (len(bars) - 1))] if count else " "
        cells.append((text, Role.POSITIVE if middle >= 0 else Role.NEGATIVE))
    return cut([*cells, (f" {high}", Role.MUTED)], width)


def histogram_bins(width: int) -> int:
    """How many bars there is room for beside their ends."""
    return max(min(width - 26, 64), 4)


def problem_lines(text: str, width: int) -> list[Line]:
    """Why there is nothing to see, in words."""
    return paragraph(clean(text), width, Role.MUTED)
