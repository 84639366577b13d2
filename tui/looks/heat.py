"""A signed number as heat: eight roles, four of each sign, and signs and shades where there are no colours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tracer.records import Floats
from tui.looks.roles import Role

Levels = npt.NDArray[np.int8]

BOUNDS = (0.02, 0.1, 0.3, 0.6)
"""A value of at least this part of the largest has the first, second, third or fourth level."""
NO_NUMBER = 99
SHADES = " ░▒▓█"
_RISE = (Role.FAINT, Role.RISE_1, Role.RISE_2, Role.RISE_3, Role.RISE_4)
_FALL = (Role.FAINT, Role.FALL_1, Role.FALL_2, Role.FALL_3, Role.FALL_4)


def levels(values: Floats, largest: Floats | float) -> Levels:
    """−4 … 4 for each value by its part of `largest` (broadcast), `NO_NUMBER` for NaN; infinities are ±4."""
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.abs(values) / largest
    size = np.searchsorted(BOUNDS, np.where(np.isnan(part), 0.0, part), side="right")
    signed = np.where(np.isinf(values), len(BOUNDS), size) * np.where(values < 0, -1, 1)
    return np.where(np.isnan(values), NO_NUMBER, signed).astype(np.int8)


def largest_of(values: Floats) -> float:
    """The largest finite |value|, 0 if no value is finite."""
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max(initial=0.0))


def role_of(level: int) -> Role:
    """How a cell of this level is painted: its background carries the heat, and its text a sign."""
    if level == NO_NUMBER:
        return Role.NONFINITE
    return _RISE[level] if level >= 0 else _FALL[-level]


def sign_of(level: int) -> str:
    """ "+" or "-", a dot for a value that is too small to matter, "!" for NaN."""
    if level == NO_NUMBER:
        return "!"
    return "·" if level == 0 else "+" if level > 0 else "-"


def shaded(level: int, width: int) -> tuple[str, Role]:
    """A cell without a number, in `width` cells: its sign, then its size as a shade."""
    if level == NO_NUMBER:
        return "!" * width, Role.NONFINITE
    if level == 0:
        return "·".ljust(width), Role.FAINT
    return sign_of(level) + SHADES[abs(level)] * (width - 1), Role.POSITIVE if level > 0 else Role.NEGATIVE


def legend() -> str:
    """What the shades mean."""
    return " ".join(f"{shade} ≥{bound * 100:.0f} %" for shade, bound in zip(SHADES[:0:-1], BOUNDS[::-1], strict=True))
