"""The flow map as a picture: inline SVG that fits light and dark pages. Pure: a flow map in, text out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

import numpy as np

from tracer.analysis.flow_map import FlowMap
from tracer.text import clean, ending, figure, shorten

POSITIVE = "#e0701a"
NEGATIVE = "#2f7fd6"
"""Orange and blue: apart for every kind of colour vision, on white and on black."""
_CELL = 22
_CELL_LEAST = 3
_WIDEST = 1_600
_LETTER = 6.6
_NAME = 30
_TOKEN = 14
_FAINT = 0.02
_SIGNED = 0.35
_MOST_TITLES = 5_000


def flow_svg(flow: FlowMap, paths: list[str]) -> str:
    """The map as SVG: a line a row, the tokens above, each row's sum behind it.

    A cell's strength is |value| over the largest of its row, its sign the colour and, where it is strong, + or −. The
    exact value stands in a cell's title. `paths` are the full names of the rows.
    """
    rows, count = flow.values.shape
    cell = min(max(_WIDEST / max(count, 1), _CELL_LEAST), _CELL)
    tokens = [shorten(clean(token, 40), _TOKEN) for token in flow.tokens]
    names = [ending(clean(name), _NAME) for name in flow.names]
    sums = [figure(float(total), signed=True) if math.isfinite(total) else "" for total in _sums(flow)]
    left = max(map(len, names), default=0) * _LETTER + 10
    top = max(map(len, tokens), default=0) * _LETTER * 0.87 + 14
    lean = 0.5 * max(map(len, tokens), default=0) * _LETTER  # the last token's label leans to the right
    width = left + count * cell + max(max(map(len, sums), default=0) * _LETTER + 16, lean)
    height = top + rows * _CELL + 8
    parts = [
        f'<svg class="flow" xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="ui-monospace, monospace" font-size="11" '
        f'fill="currentColor" role="img" aria-label="flow map: {rows} layers by {count} tokens">'
    ]
    every = max(math.ceil(11 / cell), 1)
    for index in range(0, count, every):
        x = left + (index + 0.6) * cell
        turn = f'transform="rotate(-60 {x:.1f} {top - 6:.1f})"'
        parts.append(f'<text x="{x:.1f}" y="{top - 6:.1f}" {turn}>{escape(tokens[index])}</text>')
    for row in range(rows):
        y = top + row * _CELL
        middle = y + _CELL / 2 + 4
        parts.append(
            f'<text x="{left - 8:.1f}" y="{middle:.1f}" text-anchor="end"><title>{escape(clean(paths[row]))}</title>'
            f"{escape(names[row])}</text>"
        )
        parts += _cells(flow, row, left, y, cell)
        parts.append(f'<text x="{left + count * cell + 8:.1f}" y="{middle:.1f}">{escape(sums[row])}</text>')
    parts.append("</svg>")
    return "".join(parts)


def _sums(flow: FlowMap) -> list[float]:
    return [float(total) for total in flow.values.sum(axis=1)]


def _cells(flow: FlowMap, row: int, left: float, y: float, cell: float) -> Iterator[str]:
    values = flow.values[row]
    count = len(values)
    yield (
        f'<rect x="{left:.1f}" y="{y + 1:.1f}" width="{count * cell:.1f}" height="{_CELL - 2}" '
        'fill="#888" fill-opacity=".1"/>'
    )
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    if not np.isfinite(values).all():
        told = "left out of the trace to save room" if np.isnan(values).all() else "some are not finite"
        yield f'<text x="{left + 6:.1f}" y="{y + _CELL / 2 + 4:.1f}" font-style="italic">{told}</text>'
    titles = flow.values.size <= _MOST_TITLES
    for index, value in enumerate(values.tolist()):
        strength = abs(value) / largest if largest and math.isfinite(value) else 0.0
        if strength < _FAINT:
            continue
        x = left + index * cell
        title = f"{clean(flow.tokens[index], 40)}: {figure(value, signed=True)}"
        inner = f"<title>{escape(title)}</title>" if titles else ""
        gap = 1 if cell > 8 else 0
        yield (
            f'<rect x="{x + gap:.1f}" y="{y + 1:.1f}" width="{cell - gap:.1f}" height="{_CELL - 2}" '
            f'fill="{POSITIVE if value > 0 else NEGATIVE}" fill-opacity="{strength:.2f}">{inner}</rect>'
        )
        if strength >= _SIGNED and cell >= 10:
            yield (
                f'<text x="{x + cell / 2:.1f}" y="{y + _CELL / 2 + 4:.1f}" text-anchor="middle" '
                f'pointer-events="none">{"+" if value > 0 else "−"}</text>'
            )
