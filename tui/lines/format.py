"""Numbers, bars and names as text of a given width in cells.

Text from a file goes through `tracer.text.clean` first, which removes everything that a terminal would obey.
"""

from __future__ import annotations

import math
import re

from rich.cells import cell_len, chop_cells, set_cell_size

ELLIPSIS = "…"
_THOUSANDS = re.compile(r"(?<=\d) (?=\d{3}(?!\d)|%)")
_HELD = "\ue000"
"""A space inside a number, at which no line breaks; from the private area, so that no cleaned text has it."""


def fit(text: str, width: int, right: bool = False) -> str:
    """`text` in exactly `width` cells: cut with "…" if too long, padded on the right (or on the left) if short."""
    if width <= 0:
        return ""
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + ELLIPSIS
    return " " * (width - length) + text if right else text + " " * (width - length)


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` cells, with its middle left out: the two ends of a path tell the most."""
    if cell_len(text) <= width:
        return text
    if width <= 3:
        return set_cell_size(text, max(width, 0))
    tail = (width - 1) * 2 // 3
    head = width - 1 - tail
    return set_cell_size(text, head) + ELLIPSIS + _last_cells(text, tail)


def _last_cells(text: str, width: int) -> str:
    return set_cell_size(text[::-1], width)[::-1]


def wrap(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` cells, broken at spaces where that is possible, but not inside a number."""
    width = max(width, 4)
    lines = [""]
    for word in _THOUSANDS.sub(_HELD, text).split():
        for piece in chop_cells(word, width):
            if not lines[-1]:
                lines[-1] = piece
            elif cell_len(lines[-1]) + 1 + cell_len(piece) <= width:
                lines[-1] += " " + piece
            else:
                lines.append(piece)
    return [line.replace(_HELD, " ") for line in lines]


def number(value: float, signed: bool = False, digits: int = 4) -> str:
    """`value` with `digits` significant digits in at most 11 characters; "+" in front if `signed`."""
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "-inf" if value < 0 else ("+inf" if signed else "inf")
    if value == 0:
        return "0"
    sign = "+" if signed else "-"
    magnitude = abs(value)
    if 1e-3 <= magnitude < 10.0**digits:
        decimals = max(digits - 1 - math.floor(math.log10(magnitude)), 0)
        text = f"{value:{sign}.{decimals}f}"
    elif 10.0**digits <= magnitude < 1e8:
        text = f"{value:{sign},.0f}".replace(",", " ")
    else:
        text = number_with_exponent(value, digits - 1, sign)
    return text


def narrow(value: float, width: int) -> str:
    """`value` with three significant digits or, where that is longer than `width`, with an exponent and fewer."""
    text = number(value, digits=3)
    for decimals in (2, 1, 0):
        if len(text) <= width:
            break
        text = number_with_exponent(value, decimals)
    return text


def number_with_exponent(value: float, decimals: int, sign: str = "-") -> str:
    """`value` with an exponent of no more digits than it needs: "+1.257e-4"."""
    mantissa, _, exponent = f"{value:{sign}.{decimals}e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def log_length(value: float, largest: float, length: float, decades: float = 4.0) -> float:
    """Bar length of |value|, 0 … `length`: `largest` fills it, each decade less takes 1/`decades` of it away."""
    if math.isnan(value) or not largest > 0 or value == 0:
        return 0.0
    if math.isinf(value):
        return length
    below = math.log10(largest / abs(value)) if abs(value) < largest else 0.0
    return length * max(0.0, 1.0 - below / decades)


def signed_bar(value: float, largest: float, width: int, thin: bool = False) -> tuple[str, str]:
    """The left and the right half of a signed bar of `width` cells in all, logarithmic over four decades.

    A negative value grows to the left, a positive one to the right, in steps of half a cell; NaN is "?" on both sides.
    `width` is odd: the middle cell is the axis and not part of what is given back. `thin` draws a line, not a block.
    """
    half = (width - 1) // 2
    if math.isnan(value):
        return "?".rjust(half), "?".ljust(half)
    whole, rest = divmod(round(log_length(value, largest, half) * 2), 2)
    full, left, right = "━╺╸" if thin else "█▐▌"
    if value < 0:
        return (left * rest + full * whole).rjust(half), " " * half
    return " " * half, (full * whole + right * rest).ljust(half)


def bar(part: float, width: int) -> str:
    """A plain bar of `width` cells, `part` of it (0 … 1) filled in steps of half a cell."""
    if not part > 0:
        return " " * width
    whole, rest = divmod(round(min(part, 1.0) * width * 2), 2)
    return ("█" * whole + "▌" * rest).ljust(width)


def seconds(value: float) -> str:
    """A duration: "0.8 ms", "34 ms", "2.1 s"."""
    if not math.isfinite(value):
        return "-"
    if value < 1:
        return f"{value * 1e3:.1f} ms" if value < 0.01 else f"{value * 1e3:.0f} ms"
    return f"{value:.1f} s"


def plural(count: int, noun: str) -> str:
    """ "1 call", "3 calls", "101 101 calls"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}".replace(",", " ")
