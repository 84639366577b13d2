"""ASCII characters of the same width, for terminals that cannot show the glyphs."""

from __future__ import annotations

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

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
