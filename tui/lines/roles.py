"""What a piece of text is (its role), glyphs, and what stands in for them on terminals without them.

A figure never speaks by colour alone: severity is a glyph and a number, a sign is a side and a "+" or "-".
How a role looks is `tui.themes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from tracer.analysis.severity import Severity


class Role(StrEnum):
    """What a piece of text is; how that looks is the theme's business."""

    TEXT = "text"
    STRONG = "strong"
    MUTED = "muted"
    FAINT = "faint"
    TITLE = "title"
    ACCENT = "accent"
    OP = "op"
    POSITIVE = "positive"
    NEGATIVE = "negative"
    QUIET = "quiet"
    DIVERGING = "diverging"
    LARGE = "large"
    NONFINITE = "nonfinite"
    GOOD = "good"
    WARNING = "warning"
    HIT = "hit"
    KEY = "key"
    RISE_1 = "rise-1"
    RISE_2 = "rise-2"
    RISE_3 = "rise-3"
    RISE_4 = "rise-4"
    FALL_1 = "fall-1"
    FALL_2 = "fall-2"
    FALL_3 = "fall-3"
    FALL_4 = "fall-4"


Cell = tuple[str, Role]
Line = Sequence[Cell]

GLYPHS: Mapping[Severity, str] = {
    Severity.QUIET: "·",
    Severity.DIVERGING: "◇",
    Severity.LARGE: "◆",
    Severity.NONFINITE: "✖",
}
SEVERITY_ROLES: Mapping[Severity, Role] = {
    Severity.QUIET: Role.QUIET,
    Severity.DIVERGING: Role.DIVERGING,
    Severity.LARGE: Role.LARGE,
    Severity.NONFINITE: Role.NONFINITE,
}

_ASCII = {
    "·": ".",
    "◇": "o",
    "◆": "#",
    "✖": "!",
    "✔": "v",
    "▲": "!",
    "●": "*",
    "▸": "+",
    "▾": "-",
    "│": "|",
    "┃": "|",
    "─": "-",
    "━": "=",
    "█": "#",
    "▌": "#",
    "▐": "#",
    "╺": "-",
    "╸": "-",
    "…": "~",
    "−": "-",
    "×": "x",
    "Δ": "d",
    "Σ": "S",
    "′": "'",
    "→": ">",
    "∞": "i",
    "▼": "v",
    "“": '"',
    "”": '"',
    "‖": "|",
    "≥": ">",
    "—": "-",
    "–": "-",
    **dict.fromkeys("▁▂▃▄▅▆▇", "|"),
    **dict.fromkeys("╭╮╰╯", "+"),
    "↑": "^",
    "↓": "v",
    "←": "<",
    "↕": "x",
    "‹": "<",
    "›": ">",
    "░": ":",
    "▒": "%",
    "▓": "@",
}


def to_ascii(text: str) -> str:
    """`text` in ASCII and of the same width: glyphs by their stand-ins, everything else as "?" a cell."""
    if text.isascii():
        return text
    return "".join(_ascii_character(character) for character in text)


def _ascii_character(character: str) -> str:
    if character.isascii():
        return character
    return _ASCII.get(character, "?") * cell_len(character)


class AsciiFilter(LineFilter):
    """Makes every line of the screen ASCII, whoever drew it: own panes, scroll bars, the palette, tokens of a file."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments with their text in ASCII."""
        return [Segment(to_ascii(text), style, control) for text, style, control in segments]


def encodes_glyphs(encoding: str | None) -> bool:
    """Whether a terminal of this encoding can show the glyphs."""
    try:
        "·◇◆✖▸█▌▐│━…".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
