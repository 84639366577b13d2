"""The colours of a heatmap: in even steps from the background to the colour of the sign.

Without colours an element is two characters, its sign and a digit: "+9", "-4", " ·".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.color import Color
from rich.segment import Segment
from rich.style import Style

from tui.looks.roles import Role
from tui.looks.themes import LOOKS

Levels = npt.NDArray[np.int8]
Floats = npt.NDArray[np.floating[Any]]

TOP = 12
NAN = 127
INFINITE = 126
DECADES = 4.0
_DIGITS = " 123456789"


def levels_of(values: Floats, largest: float, logarithmic: bool) -> Levels:
    """−12 … 12 for each value by its part of `largest`: in proportion, or by its distance in decades out of four.

    NaN is `NAN`, an infinity ±`INFINITE`. Only what is exactly zero, or under a 24th of `largest` (in decades: 10⁻⁴
    of it), has the level 0.
    """
    with np.errstate(all="ignore"):
        part = np.abs(values) / largest if largest > 0 else np.zeros(values.shape)
        if logarithmic:
            part = 1 + np.log10(part) / DECADES
        steps = np.rint(np.clip(np.nan_to_num(part, nan=0.0, neginf=0.0), 0, 1) * TOP)
    signed = np.where(values < 0, -steps, steps)
    signed = np.where(np.isinf(values), np.where(values < 0, -INFINITE, INFINITE), signed)
    levels: Levels = np.where(np.isnan(values), NAN, signed).astype(np.int8)
    return levels


def is_number(level: int) -> bool:
    """Whether this is the level of a finite value."""
    return abs(level) <= TOP


def characters_of(level: int) -> str:
    """An element in two characters: sign and digit, "NN" for NaN, "+i" and "-i" for infinities."""
    if level == NAN:
        return "NN"
    sign = "-" if level < 0 else "+"
    if not is_number(level):
        return f"{sign}i"
    digit = round(abs(level) / TOP * 9)
    return f"{sign}{_DIGITS[digit]}" if digit else " ·"


def mark_of(level: int) -> str:
    """The sign of a cell that is NaN or infinite."""
    return "?" if level == NAN else "∞"


@dataclass(frozen=True)
class Ramp:
    """Styles of levels between three colours ("#rrggbb"); `bad` is for NaN and infinities, `cursor` for the cursor."""

    zero: str
    positive: str
    negative: str
    bad: str
    cursor: str
    _styles: dict[tuple[int, int], Style] = field(default_factory=dict, compare=False, repr=False)

    def segment(self, top: int, bottom: int, count: int) -> Segment:
        """`count` cells whose upper and lower halves have these levels."""
        if not (is_number(top) and is_number(bottom)):
            worse = top if not is_number(top) else bottom
            return Segment(mark_of(worse) * count, self.style(worse, bottom if worse == top else top))
        if top == bottom:
            return Segment(" " * count, self.style(0, bottom))
        return Segment("▀" * count, self.style(top, bottom))

    def style(self, ink: int, ground: int) -> Style:
        """The style of text in the colour of level `ink` on that of `ground`."""
        key = (ink, ground)
        if key not in self._styles:
            ground = ground if is_number(ground) else 0
            self._styles[key] = Style(color=self.colour(ink), bgcolor=self.colour(ground), bold=not is_number(ink))
        return self._styles[key]

    def contrast(self, ground: int) -> Style:
        """The style of text that can be read on the colour of a level."""
        red, green, blue = self.colour(ground).get_truecolor()
        bright = 0.299 * red + 0.587 * green + 0.114 * blue > 120
        return Style(color="#000000" if bright else "#ffffff", bgcolor=self.colour(ground), bold=True)

    def colour(self, level: int) -> Color:
        """The colour of a level."""
        if not is_number(level):
            return Color.parse(self.bad)
        return (self._negative if level < 0 else self._positive)[abs(level)]

    @cached_property
    def _positive(self) -> list[Color]:
        return _between(self.zero, self.positive)

    @cached_property
    def _negative(self) -> list[Color]:
        return _between(self.zero, self.negative)


@cache
def ramp_of(look: str) -> Ramp:
    """The ramp of a theme, by its name: from its background to its colours of the signs."""
    chosen = LOOKS.get(look, LOOKS["dark"])

    def ink(role: Role) -> str:
        colour = chosen.style(role).color
        return "#808080" if colour is None else colour.get_truecolor().hex

    return Ramp(
        zero=chosen.theme.background or "#000000",
        positive=ink(Role.POSITIVE),
        negative=ink(Role.NEGATIVE),
        bad=ink(Role.NONFINITE),
        cursor=ink(Role.STRONG),
    )


def _between(zero: str, full: str) -> list[Color]:
    start, end = _channels(zero), _channels(full)
    colours = []
    for level in range(TOP + 1):
        # The first step stands clear of the background, the others are even.
        part = 0.12 + 0.88 * level / TOP if level else 0.0
        colours.append(Color.from_rgb(*(a + (b - a) * part for a, b in zip(start, end, strict=True))))
    return colours


def _channels(colour: str) -> Sequence[int]:
    if not re.fullmatch("#[0-9a-fA-F]{6}", colour):
        raise ValueError(f"{colour!r} is not a colour of the form #rrggbb")
    return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
