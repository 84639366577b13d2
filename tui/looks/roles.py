"""The role of a piece of text (what it is, not how it looks), and the glyphs of severity.

Nothing is said by colour alone: severity is a glyph and a number, a sign is a side and a "+" or "-".
`tui.looks.themes` says how each role looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from tracer.analysis.severity import Severity


class Role(StrEnum):
    """What a piece of text is; the theme says how it looks."""

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


Piece = tuple[str, Role]
"""A piece of a line: its text and its role."""
Line = Sequence[Piece]

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
