"""Text of a given width: the width is exact, and the figures say what they should."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui.lines.format import bar, fit, log_length, narrow, number, plural, seconds, shorten, signed_bar, wrap

WIDE_TEXT = st.text() | st.text(alphabet="ab 世界e\u0301👩")
ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (-770.44, "-770.4"),
        (2.125, "+2.125"),
        (0.001257, "+0.001257"),
        (1.257e-4, "+1.257e-4"),
        (-5159932.4, "-5 159 932"),
        (12_386_754.0, "+12 386 754"),
        (3e12, "+3.000e12"),
        (math.nan, "nan"),
        (math.inf, "+inf"),
        (-math.inf, "-inf"),
    ],
)
def test_numbers_have_four_significant_digits(value: float, text: str) -> None:
    assert number(value, signed=True) == text


@given(ANY_FLOAT)
def test_a_number_fits_its_column_and_keeps_its_sign(value: float) -> None:
    text = number(value, signed=True)
    assert len(text) <= 11
    assert len(narrow(value, 8)) <= 8
    if value < 0:
        assert text[0] == "-"
    if abs(value) < 1e300:
        assert float(text.replace(" ", "")) == pytest.approx(value, rel=6e-4)


@given(WIDE_TEXT, st.integers(0, 20), st.booleans())
def test_fit_is_exact_in_cells(text: str, width: int, right: bool) -> None:
    text = text.replace("\n", "")
    assert cell_len(fit(text, width, right)) == width


@given(WIDE_TEXT, st.integers(0, 20))
def test_shorten_never_passes_its_width_and_keeps_what_fits(text: str, width: int) -> None:
    short = shorten(text, width)
    assert cell_len(short) <= width
    assert short == text or cell_len(text) > width


def test_shorten_keeps_both_ends() -> None:
    assert shorten("bert.encoder.layer.0.attention.self", 20) == "bert.en…tention.self"


def test_a_number_is_not_broken() -> None:
    assert wrap("secants of 5 900 and 62 % of 12 tokens", 12) == ["secants of", "5 900 and", "62 % of 12", "tokens"]


@given(st.text(alphabet="ab 世界"), st.integers(4, 30))
def test_wrap_keeps_all_letters_within_the_width(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(cell_len(line) <= width for line in lines)


@given(ANY_FLOAT, st.floats(0, 1e12), st.sampled_from([5, 17, 25]), st.booleans())
def test_both_sides_of_a_bar_are_half_its_width(value: float, largest: float, width: int, thin: bool) -> None:
    left, right = signed_bar(value, largest, width, thin)
    assert len(left) == len(right) == (width - 1) // 2
    if value < 0:
        assert right.isspace()
    if value > 0:
        assert left.isspace()


def test_the_bar_is_logarithmic_over_four_decades() -> None:
    assert signed_bar(-100.0, 100.0, 17) == ("█" * 8, " " * 8)
    assert signed_bar(10.0, 100.0, 17) == (" " * 8, "█" * 6 + "  ")
    assert signed_bar(0.01, 100.0, 17) == (" " * 8, " " * 8)
    assert "?" in signed_bar(math.nan, 1.0, 17)[0]
    assert signed_bar(-math.inf, 100.0, 17)[0] == "█" * 8
    assert log_length(1.0, 0.0, 8) == 0


def test_a_plain_bar_counts_half_cells() -> None:
    assert bar(0.5, 5) == "██▌  "
    assert bar(math.nan, 3) == "   "
    assert bar(7.0, 3) == "███"


def test_words_around_numbers() -> None:
    assert plural(1, "call") == "1 call"
    assert plural(101_101, "call") == "101 101 calls"
    assert seconds(0.0004) == "0.4 ms"
    assert seconds(2.14) == "2.1 s"
    assert seconds(math.nan) == "-"
