"""Glyphs and colours, and what stands in for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color

from tui.looks.roles import GLYPHS, Role
from tui.looks.themes import LOOKS, PLAIN, Look
from tui.terminal.ascii import AsciiFilter, encodes_glyphs, to_ascii


@given(st.text())
def test_ascii_has_the_same_width(text: str) -> None:
    text = text.replace("\n", "")
    assert to_ascii(text).isascii()
    assert cell_len(to_ascii(text)) == cell_len(text)


def test_severities_stay_apart_without_unicode_and_without_colour() -> None:
    assert len({to_ascii(glyph) for glyph in GLYPHS.values()}) == len(GLYPHS)
    assert len(set(GLYPHS.values())) == len(GLYPHS)


def test_the_filter_keeps_styles() -> None:
    bold = Style(bold=True)
    (segment,) = AsciiFilter().apply([Segment("█▌ Σ 世", bold)], Color(0, 0, 0))
    assert segment.text == "## S ??" and segment.style is bold


@pytest.mark.parametrize(("encoding", "able"), [("utf-8", True), ("ascii", False), ("latin-1", False), (None, False)])
def test_what_a_terminal_can_show(encoding: str | None, able: bool) -> None:
    assert encodes_glyphs(encoding) is able


def test_without_colour_there_is_none() -> None:
    for role in Role:
        style = PLAIN.style(role)
        assert style.color is None and style.bgcolor is None
    assert PLAIN.over(focused=True).reverse


@pytest.mark.parametrize("look", LOOKS.values(), ids=lambda look: look.name)
def test_every_theme_has_every_role_and_shows_where_the_cursor_is(look: Look) -> None:
    for role in Role:
        assert look.style(role).color is not None, role
    assert look.over(True) != look.over(False)


def contrast(ink: str, ground: str) -> float:
    """The contrast ratio of WCAG 2.2, 1 to 21."""

    def luminance(colour: str) -> float:
        channels = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def hexadecimal(colour: object) -> str:
    return str(colour.triplet.hex)  # type: ignore[attr-defined]


@pytest.mark.parametrize("look", LOOKS.values(), ids=lambda look: look.name)
def test_text_can_be_read_in_every_theme(look: Look) -> None:
    least = 7.0 if look.name == "high-contrast" else 4.5
    grounds = [str(look.theme.background), hexadecimal(look.over(True).bgcolor), hexadecimal(look.over(False).bgcolor)]
    for role in Role:
        style = look.style(role)
        shown = grounds[:1] if role in (Role.TITLE, Role.ACCENT, Role.GOOD, Role.WARNING) else grounds
        own = [hexadecimal(style.bgcolor)] if style.bgcolor is not None else shown
        faint = role in (Role.FAINT, Role.QUIET)  # what does not matter may recede, but not be gone
        for ground in own:
            wanted = 2.0 if faint and look.name != "high-contrast" else least
            if role is Role.MUTED and ground != grounds[0]:
                wanted = min(wanted, 3.0)
            assert contrast(hexadecimal(style.color), ground) >= wanted, (role, ground)


# Linear maps of RGB for the two common colour blindnesses (Viénot, Brettel and Mollon 1999).
PROTANOPE = ((0.11238, 0.88762, 0.0), (0.11238, 0.88762, 0.0), (0.00401, -0.00401, 1.0))
DEUTERANOPE = ((0.29275, 0.70725, 0.0), (0.29275, 0.70725, 0.0), (-0.02234, 0.02234, 1.0))


@pytest.mark.parametrize("look", LOOKS.values(), ids=lambda look: look.name)
@pytest.mark.parametrize("eye", [PROTANOPE, DEUTERANOPE], ids=["protanope", "deuteranope"])
def test_the_two_signs_stay_apart_for_colour_blind_eyes(look: Look, eye: tuple[tuple[float, ...], ...]) -> None:
    def seen(role: Role) -> list[float]:
        triplet = look.style(role).color.triplet  # type: ignore[union-attr]
        linear = [(part / 255) ** 2.2 for part in triplet]  # type: ignore[union-attr]
        return [max(sum(a * b for a, b in zip(row, linear, strict=True)), 0.0) ** (1 / 2.2) for row in eye]

    for one, other in ((Role.POSITIVE, Role.NEGATIVE), (Role.LARGE, Role.NEGATIVE), (Role.RISE_4, Role.FALL_4)):
        distance = sum((a - b) ** 2 for a, b in zip(seen(one), seen(other), strict=True)) ** 0.5
        if one is not Role.RISE_4:
            assert distance > 0.4, (one, other, distance)


def test_inks_of_text_are_in_the_palette_of_256() -> None:
    levels = {0, 95, 135, 175, 215, 255}
    for look in LOOKS.values():
        if look.name == "colour-blind":  # its colours are Okabe and Ito's
            continue
        for role in Role:
            style = look.style(role)
            red, green, blue = style.color.triplet  # type: ignore[union-attr, misc]
            grey = red == green == blue and (red - 8) % 10 == 0
            assert style.bgcolor is not None or grey or {red, green, blue} <= levels, (look.name, role)
