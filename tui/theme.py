"""Colours, glyphs, and what stands in for them on terminals that have neither.

A figure never speaks by colour alone: severity is a glyph and a number, a sign is a side and a "+" or "-".
Blue and orange stay apart for every common colour blindness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter
from textual.theme import Theme

from tui.figures import Severity


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

THEME = Theme(
    name="tracer-dark",
    primary="#6cb6ff",
    secondary="#8b98a9",
    accent="#6cb6ff",
    warning="#ffb454",
    error="#ff8fbf",
    success="#5ec8b0",
    foreground="#d6dbe3",
    background="#12151b",
    surface="#171b23",
    panel="#1e2430",
    dark=True,
    variables={"footer-background": "#1e2430", "scrollbar": "#333c4c", "scrollbar-background": "#12151b"},
)

_COLOURS: Mapping[Role, Style] = {
    Role.TEXT: Style(color="#d6dbe3"),
    Role.STRONG: Style(color="#ffffff", bold=True),
    Role.MUTED: Style(color="#8b98a9"),
    Role.FAINT: Style(color="#4d5869"),
    Role.TITLE: Style(color="#8b98a9", bold=True),
    Role.ACCENT: Style(color="#6cb6ff"),
    Role.OP: Style(color="#9fb4cc", italic=True),
    Role.POSITIVE: Style(color="#f5a142"),
    Role.NEGATIVE: Style(color="#4fa3f7"),
    Role.QUIET: Style(color="#4d5869"),
    Role.DIVERGING: Style(color="#f7d08a"),
    Role.LARGE: Style(color="#ffa02e", bold=True),
    Role.NONFINITE: Style(color="#ff8fbf", bold=True),
    Role.GOOD: Style(color="#5ec8b0", bold=True),
    Role.WARNING: Style(color="#ffb454"),
    Role.HIT: Style(color="#ffffff", underline=True),
    Role.KEY: Style(color="#6cb6ff", bold=True),
}
_PLAIN: Mapping[Role, Style] = {
    Role.STRONG: Style(bold=True),
    Role.TITLE: Style(bold=True),
    Role.OP: Style(italic=True),
    Role.LARGE: Style(bold=True),
    Role.NONFINITE: Style(bold=True),
    Role.GOOD: Style(bold=True),
    Role.WARNING: Style(bold=True),
    Role.HIT: Style(underline=True),
    Role.KEY: Style(bold=True),
    Role.FAINT: Style(dim=True),
    Role.MUTED: Style(dim=True),
}
_CURSOR = Style(bgcolor="#2a3a55")
_CURSOR_AWAY = Style(bgcolor="#202836")
_PLAIN_CURSOR = Style(reverse=True, dim=False)
_PLAIN_CURSOR_AWAY = Style(underline=True)


def style_of(role: Role, colour: bool) -> Style:
    """How a role looks, with colours or by weight alone."""
    return _COLOURS[role] if colour else _PLAIN.get(role, Style.null())


def cursor_style(focused: bool, colour: bool) -> Style:
    """What is laid over the selected row; paler while another pane has the keys."""
    if colour:
        return _CURSOR if focused else _CURSOR_AWAY
    return _PLAIN_CURSOR if focused else _PLAIN_CURSOR_AWAY


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
