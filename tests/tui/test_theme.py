"""Glyphs and colours, and what stands in for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color

from tui.theme import GLYPHS, AsciiFilter, Role, cursor_style, encodes_glyphs, style_of, to_ascii


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
        assert style_of(role, colour=True).color is not None
        assert style_of(role, colour=False).color is None
    assert cursor_style(focused=True, colour=False).reverse
    assert cursor_style(True, True) != cursor_style(False, True)
