"""Heat: sign and size of a value, also where there is no colour."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui.looks import heat
from tui.looks.roles import Role
from tui.looks.themes import PLAIN
from tui.terminal.ascii import to_ascii


def test_levels_grow_with_the_size_and_keep_the_sign() -> None:
    values = np.array([0.0, 0.01, 0.02, 0.1, 0.3, 0.6, 1.0])
    assert heat.levels(values, 1.0).tolist() == [0, 0, 1, 2, 3, 4, 4]
    assert heat.levels(-values, 1.0).tolist() == [0, 0, -1, -2, -3, -4, -4]


def test_what_is_no_number_has_a_level_of_its_own() -> None:
    found = heat.levels(np.array([np.nan, np.inf, -np.inf, 1.0]), 1.0).tolist()
    assert found == [heat.NO_NUMBER, 4, -4, 4]
    assert heat.levels(np.array([0.0, np.nan]), 0.0).tolist() == [0, heat.NO_NUMBER], "a map of nothing but zeros"
    assert heat.largest_of(np.array([np.nan, -3.0, np.inf, 2.0])) == 3.0
    assert heat.largest_of(np.array([np.nan])) == 0.0


@given(st.sampled_from([-4, -3, -2, -1, 0, 1, 2, 3, 4, heat.NO_NUMBER]), st.integers(1, 9))
def test_a_cell_says_its_sign_without_colour(level: int, width: int) -> None:
    text, _ = heat.shaded(level, width)
    assert cell_len(text) == width
    expected = "!" if level == heat.NO_NUMBER else "." if level == 0 else "+" if level > 0 else "-"
    assert to_ascii(text)[0] == expected


def test_each_level_is_told_apart() -> None:
    levels = [*range(-4, 5), heat.NO_NUMBER]
    assert len({heat.shaded(level, 3)[0] for level in levels}) == len(levels)
    assert len({to_ascii(heat.shaded(level, 3)[0]) for level in levels}) == len(levels)
    assert len({heat.role_of(level) for level in levels}) == len(levels)
    assert heat.role_of(heat.NO_NUMBER) is Role.NONFINITE


def test_without_colour_a_negative_value_is_underlined() -> None:
    assert all(PLAIN.style(heat.role_of(level)).underline for level in (-1, -2, -3, -4))
    assert not any(PLAIN.style(heat.role_of(level)).underline for level in (1, 2, 3, 4))
