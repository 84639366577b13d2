"""Numbers and names as plain text for a terminal. Pure: text in, text out."""

from __future__ import annotations

import math
import unicodedata

_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_LONGEST = 1_000


def clean(text: str, limit: int = _LONGEST) -> str:
    """`text` in one line of at most `limit` characters, without anything that a terminal would obey.

    Names and tokens come from files: control, direction and private characters become pictures or "�".
    """
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_safe, text))


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` characters, its middle left out."""
    if len(text) <= width:
        return text
    tail = max((width - 1) * 2 // 3, 1)
    return text[: max(width - 1 - tail, 0)] + "…" + text[-tail:]


def ending(text: str, width: int) -> str:
    """The last `width` characters of `text`: of a path, the end tells where in the model it is."""
    return text if len(text) <= width else "…" + text[-max(width - 1, 1) :]


def figure(value: float, signed: bool = False) -> str:
    """`value` with four significant digits; thousands are set apart by spaces: "-770.1", "5 040 900", "2.4e-07"."""
    if math.isnan(value):
        return "nan"
    sign = "+" if signed else "-"
    if 1e3 <= abs(value) < 1e12:
        return f"{value:{sign},.0f}".replace(",", " ")
    return f"{value:{sign}.4g}" if value else "0"


def percentage(value: float) -> str:
    """A share as a percentage: "0.04 %", "51 %", "100 %"."""
    hundredths = value * 100
    if not math.isfinite(hundredths):
        return figure(hundredths)
    return f"{hundredths:.0f} %" if abs(hundredths) >= 9.5 else f"{hundredths:.2g} %"


def multiple(value: float) -> str:
    """A share as a percentage, past 1 000 % as a multiple: "51 %", "43 000 times"."""
    return f"{figure(float(f'{value:.2g}'))} times" if 10 <= value < math.inf else percentage(value)


def times(value: float) -> str:
    """`multiple` to stand before what it is a share of: "51 % of", "43 000 times"."""
    text = multiple(value)
    return text if text.endswith("times") else f"{text} of"


def _safe(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if unicodedata.category(character) in _UNSAFE:
        return "�"
    return " " if character.isspace() else character
