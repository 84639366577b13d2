"""The tree's lines: exact widths at every size, the right columns, and what each cell says."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.tui.builders import EVIL, figures
from tracer.analysis.severity import Severity
from tui.lines import layers as rows
from tui.looks.roles import GLYPHS, Piece, Role
from tui.model.outline import Sort

NAMES = ["", "bert.encoder", "bert.encoder.layer.0", "bert.encoder.layer.0/softmax", "世界" * 30, EVIL, "x" * 500]
TREE = figures(
    [-1, 0, 1, 2, 0, 0, 0],
    [0.0, 0.0, 0.0, -770.0, math.nan, 1e-9, math.inf],
    paths=NAMES,
    kinds=["module", "module", "module", "op", "module", "module", "lost"],
    types=["Model", "Encoder", "Layer", "softmax", EVIL, "", "?"],
    call=[0, 0, 0, 1, 0, 0, 0],
    gain=[1.0, math.nan, 1e300, 2.0, 0.0, math.inf, 1.0],
)


def text_of(cells: list[Piece]) -> str:
    return "".join(text for text, _ in cells)


@given(st.integers(10, 220), st.integers(0, 6), st.booleans())
def test_a_line_is_exactly_as_wide_as_the_screen(width: int, call: int, expanded: bool) -> None:
    assert cell_len(text_of(rows.row(TREE, call, expanded, width))) == width
    assert cell_len(text_of(rows.heading(width))) == width


def test_columns_go_in_a_fixed_order_and_the_tree_keeps_its_minimum() -> None:
    seen = [tuple(column.name for column in rows.layout(width)[1]) for width in range(220, 0, -1)]
    assert list(dict.fromkeys(seen)) == [
        ("bar", "leak", "self", "gain", "type"),
        ("bar", "leak", "self", "gain"),
        ("bar", "leak", "self"),
        ("leak", "self"),
        ("leak",),
        (),
    ]
    for width in range(rows.MINIMUM_TREE + 2, 220):
        tree, columns = rows.layout(width)
        assert tree >= rows.MINIMUM_TREE
        assert 2 + tree + sum(column.width + 1 for column in columns) == width
    assert [column.name for column in rows.layout(40)[1]] == ["leak"], "forty cells still show a figure"


def test_the_axis_of_every_bar_stands_under_that_of_the_heading() -> None:
    for width in (80, 100, 120, 200):
        at = text_of(rows.heading(width)).index("│")
        assert all(text_of(rows.row(TREE, call, True, width))[at] == "│" for call in (0, 1, 2, 3, 6))


def test_a_name_is_what_the_parents_name_does_not_say() -> None:
    assert [rows.name_of(TREE, call, "MiniLM") for call in range(4)] == [
        "MiniLM",
        "bert.encoder",
        "layer.0",
        "softmax #1",
    ]
    assert rows.name_of(TREE, 0) == "Model"
    borrowed = figures([-1, 0], [0.0, 1.0], paths=["head", "headroom.dense"])
    assert rows.name_of(borrowed, 1) == "headroom.dense", "only a whole part of the path is left out"


def test_a_closed_call_has_the_glyph_of_the_worst_inside_it() -> None:
    quiet = figures([-1, 0, 0], [0.0, -770.0, 0.1])
    assert text_of(rows.row(quiet, 0, True, 80)).startswith(GLYPHS[Severity.QUIET])
    assert text_of(rows.row(quiet, 0, False, 80)).startswith(GLYPHS[Severity.LARGE])
    assert text_of(rows.row(TREE, 4, False, 80)).startswith(GLYPHS[Severity.NONFINITE])


def test_a_marker_says_what_can_be_opened() -> None:
    assert "▾ layer.0" in text_of(rows.row(TREE, 2, True, 120))
    assert "▸ layer.0" in text_of(rows.row(TREE, 2, False, 120))
    assert "▸" not in text_of(rows.row(TREE, 3, False, 120))


def test_sign_and_size_stand_in_words_and_on_a_side() -> None:
    cells = rows.row(figures([-1, 0, 0], [0.0, -770.4, 3.1]), 1, False, 120)
    line = text_of(cells)
    assert "-770.4" in line and "+" not in line
    left = next(text for text, role in cells if role is Role.NEGATIVE)
    right = next(text for text, role in cells if role is Role.POSITIVE)
    assert "█" in left and not right.strip()


def test_no_name_reaches_the_terminal_raw() -> None:
    for call in range(len(TREE)):
        line = text_of(rows.row(TREE, call, False, 200))
        assert line.isprintable() and "\x1b" not in line and "\u202e" not in line
    assert "[red]bold[/]" in text_of(rows.row(TREE, 5, False, 200)), "markup is text"


@pytest.mark.parametrize("width", [40, 80, 120])
def test_children_stand_deeper_than_their_parents_and_siblings_level(width: int) -> None:
    parents = [-1, *range(11), 10]
    deep = figures(parents, [0.0] * 13)
    starts = [
        cell_len(text_of(rows.row(deep, call, True, width)))
        - len(text_of(rows.row(deep, call, True, width))[2:].lstrip())
        for call in range(13)
    ]
    marked = starts[:11]
    assert marked == sorted(set(marked))
    assert starts[11] == starts[12]


def test_a_hit_is_marked() -> None:
    assert Role.HIT in [role for _, role in rows.row(TREE, 3, False, 80, hit=True)]
    assert Role.HIT not in [role for _, role in rows.row(TREE, 3, False, 80)]


def test_columns_can_be_chosen_and_the_one_sorted_by_goes_last() -> None:
    chosen = rows.Shape(columns=("time", "share"))
    assert [column.name for column in rows.layout(120, chosen)[1]] == ["share", "time"]
    assert [column.name for column in rows.layout(120, rows.Shape(columns=()))[1]] == []
    sorted_by_time = rows.Shape(columns=("leak", "type"), sort="time")
    names = [[column.name for column in rows.layout(width, sorted_by_time)[1]] for width in (120, 66, 60, 52, 51)]
    assert names == [["leak", "time", "type"], ["leak", "time"], ["time"], ["time"], []]


@given(
    st.integers(10, 220),
    st.integers(0, 6),
    st.lists(st.sampled_from([column.name for column in rows.ORDER]), unique=True),
    st.sampled_from(["order", "leak", "gain", "time"]),
    st.booleans(),
)
def test_a_line_is_as_wide_as_the_screen_with_any_columns(
    width: int, call: int, columns: list[str], sort: Sort, marked: bool
) -> None:
    shape = rows.Shape(tuple(columns), sort)
    cells = rows.row(TREE, call, False, width, marked=marked, shape=shape)
    assert cell_len(text_of(cells)) == width == cell_len(text_of(rows.heading(width, shape)))
    assert text_of(cells).isprintable()


def test_a_click_on_a_title_finds_its_column() -> None:
    shape = rows.Shape(columns=("leak", "time"), sort="leak")
    heading = text_of(rows.heading(100, shape))
    for title, name in (("call", "call"), ("self leak▼", "self"), ("time", "time")):
        for x in range(heading.index(title), heading.index(title) + len(title)):
            assert rows.column_at(x, 100, shape) == name, heading
    assert rows.column_at(100, 100, shape) is None and rows.column_at(-1, 100, shape) is None


def test_a_list_has_whole_paths_and_says_what_it_is_sorted_by() -> None:
    flat = rows.Shape(sort="time")
    assert "bert.encoder.layer.0/softmax #1" in text_of(rows.row(TREE, 3, False, 120, shape=flat))
    assert "▸" not in text_of(rows.row(TREE, 1, False, 120, shape=flat))
    assert "own time" not in text_of(rows.heading(120)) and "own time▼" in text_of(rows.heading(120, flat))
    timed = figures([-1, 0], [0.0, 1.0], seconds=[5.0, 2.0])
    assert "3.0 s" in text_of(rows.row(timed, 0, True, 120, shape=flat))
    assert "5.0 s" in text_of(rows.row(timed, 0, True, 120, shape=rows.Shape(columns=("time",))))


def test_a_mark_stands_beside_the_glyph() -> None:
    assert text_of(rows.row(TREE, 3, True, 80, marked=True)).startswith("◆●")
    assert text_of(rows.row(TREE, 3, True, 80)).startswith("◆ ")


def test_in_a_list_a_call_is_rated_alone() -> None:
    quiet = figures([-1, 0, 0], [0.0, -770.0, 0.1])
    assert text_of(rows.row(quiet, 0, False, 80, shape=rows.Shape(sort="leak"))).startswith(GLYPHS[Severity.QUIET])
