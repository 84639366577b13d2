"""Heatmaps without a terminal: which part of a matrix is seen, what its cells show, and how they are painted."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.color import ColorSystem

from tui.lines.heatmap import Picture, frame, picture
from tui.looks.ramp import INFINITE, NAN, TOP, characters_of, levels_of, ramp_of
from tui.looks.themes import DARK, LOOKS, PLAIN
from tui.model.matrix import View, extreme_of, fit, reduce
from tui.model.tensor_figures import Summary, histogram

TOKENS = ["[CLS]", "a", "great", "film"]


def slow_reduce(matrix: np.ndarray, view: View) -> np.ndarray:
    """The grid by going through the elements of each cell."""
    down, across = view.down.edges, view.across.edges
    grid = np.zeros((len(down) - 1, len(across) - 1))
    for row in range(len(down) - 1):
        for column in range(len(across) - 1):
            cell = [
                float(matrix[i, j])
                for i in range(down[row], down[row + 1])
                for j in range(across[column], across[column + 1])
            ]
            grid[row, column] = np.nan if np.isnan(cell).any() else max(cell, key=abs)
    return grid


def picture_of(matrix: np.ndarray, width: int = 40, height: int = 10, **options: object) -> Picture:
    rows = list(options.pop("rows", ()))
    columns = list(options.pop("columns", ()))
    look = options.pop("look", DARK)
    within = frame(width, height, len(matrix), rows, columns, bool(options.pop("blocks", True)))
    view = within.view(*matrix.shape)
    grid = reduce([matrix], view.down, view.across)
    largest = float(np.abs(matrix[np.isfinite(matrix)]).max(initial=0.0))
    return picture(within, view, grid, largest, bool(options.pop("logarithmic", False)), look, rows, columns)


def text_of(drawn: Picture, cursor: tuple[int, int] | None = None) -> list[str]:
    return ["".join(segment.text for segment in drawn.line(y, cursor)) for y in range(drawn.frame.height)]


@given(
    rows=st.integers(1, 60), columns=st.integers(1, 60), height=st.integers(1, 25), width=st.integers(1, 25),
    step=st.integers(1, 70), seed=st.integers(0, 99), zooms=st.integers(0, 4), nan=st.booleans(),
)  # fmt: skip
def test_a_cell_shows_its_largest_element_with_its_sign(
    rows: int, columns: int, height: int, width: int, step: int, seed: int, zooms: int, nan: bool
) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(rows, columns)).astype(np.float32)
    if nan:
        matrix[rng.integers(rows), rng.integers(columns)] = np.nan
    view = fit(rows, columns, height, width)
    for _ in range(zooms):
        view = view.zoomed(True, int(rng.integers(rows)), int(rng.integers(columns)))
    window = matrix[view.down.start : view.down.start + view.down.shown]
    blocks = [window[at : at + step] for at in range(0, len(window), step)]
    np.testing.assert_array_equal(reduce(blocks, view.down, view.across), slow_reduce(matrix, view))


def test_one_bad_element_is_never_averaged_away() -> None:
    matrix = np.full((4096, 300), 0.5, dtype=np.float32)
    matrix[1234, 56] = -7.0
    matrix[99, 1] = np.nan
    matrix[4000, 299] = -np.inf
    view = fit(*matrix.shape, 20, 30)
    grid = reduce([matrix], view.down, view.across)
    assert grid[view.down.group_of(1234), view.across.group_of(56)] == -7.0
    assert np.isnan(grid[view.down.group_of(99), view.across.group_of(1)])
    assert grid[view.down.group_of(4000), view.across.group_of(299)] == -np.inf
    assert (grid == 0.5).sum() == grid.size - 3


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint64, np.float16, np.complex64])
def test_every_dtype_has_a_grid(dtype: type) -> None:
    matrix = np.array([[0, 1], [1, 0]]).astype(dtype)
    view = fit(2, 2, 2, 2)
    np.testing.assert_array_equal(reduce([matrix], view.down, view.across), [[0, 1], [1, 0]])


def test_integers_and_complex_numbers_have_their_size() -> None:
    view, integers = fit(1, 2, 1, 1), np.array([[-128, 127]], dtype=np.int8)
    np.testing.assert_array_equal(reduce([integers], view.down, view.across), [[-128.0]])
    assert extreme_of(integers) == (0, 0)
    summary = Summary()
    summary.add(integers)
    assert (summary.minimum, summary.maximum, summary.mean) == (-128.0, 127.0, -0.5)
    assert summary.norm == pytest.approx(float(np.hypot(128, 127)))
    assert reduce([np.array([[3 + 4j, -4.5]])], view.down, view.across) == [[5.0]]


@given(
    rows=st.integers(1, 5000), columns=st.integers(1, 5000), height=st.integers(1, 120), width=st.integers(1, 200),
    moves=st.lists(st.tuples(st.sampled_from("ioaf"), st.integers(0, 4999), st.integers(0, 4999)), max_size=12),
)  # fmt: skip
def test_a_view_stays_in_the_matrix_and_in_the_grid(
    rows: int, columns: int, height: int, width: int, moves: list[tuple[str, int, int]]
) -> None:
    view = fit(rows, columns, height, width)
    assert view.whole
    for kind, row, column in moves:
        row, column = row % rows, column % columns
        if kind in "io":
            view = view.zoomed(kind == "i", row, column)
        else:
            view = view.at(row, column) if kind == "a" else view.following(row, column)
        for span, size, cells in ((view.down, rows, height), (view.across, columns, width)):
            assert span.start >= 0 and span.start + span.shown <= size
            assert 1 <= span.cells <= cells
            assert (np.diff(span.edges) >= 1).all()
        if kind == "f":
            assert view.down.start <= row < view.down.start + view.down.shown
            assert view.across.start <= column < view.across.start + view.across.shown


def test_zooming_in_and_out_again_shows_the_whole() -> None:
    view = fit(4096, 4096, 60, 100)
    closer = view.zoomed(True, 2000, 4000)
    assert closer.down.shown == pytest.approx(view.scale * 60 / 2, abs=1)
    assert closer.down.start + closer.down.shown // 2 == 2000
    assert closer.across.start + closer.across.shown == 4096, "as near to the element as the matrix goes"
    assert closer.zoomed(False, 2000, 4000).whole
    for _ in range(40):
        closer = closer.zoomed(True, 2000, 3000)
    assert closer.down.single and closer.down.repeat == 8, "an element is at most 8 cells"
    assert closer.zoomed(True, 2000, 3000) == closer


def test_a_small_matrix_is_drawn_large_and_near_to_square() -> None:
    view = fit(10, 20, 60, 100)
    assert (view.down.repeat, view.across.repeat) == (6, 4)
    low = fit(10, 10, 10, 100)
    assert (low.down.repeat, low.across.repeat) == (1, 2), "no wider than twice its height"
    assert view.resized(20, 20).whole, "a view of the whole stays one"


def test_where_the_extreme_is() -> None:
    assert extreme_of(np.array([[1, -3], [2, 0]])) == (0, 1)
    assert extreme_of(np.array([[np.inf, 1], [np.nan, 0]])) == (1, 0)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=50), st.integers(1, 7))
def test_figures_of_blocks_are_those_of_the_whole(values: list[float], step: int) -> None:
    array = np.array(values, dtype=np.float32)[:, None]
    summary = Summary()
    for _ in summary.watching([array[at : at + step] for at in range(0, len(array), step)]):
        pass
    assert (summary.count, summary.nan, summary.infinite) == (array.size, 0, 0)
    assert summary.minimum == array.min() and summary.maximum == array.max()
    rounding = 1e-15 * float(np.abs(array).sum(dtype=np.float64))
    assert summary.mean == pytest.approx(math.fsum(array[:, 0].tolist()) / array.size, rel=1e-12, abs=rounding)
    assert summary.norm == pytest.approx(float(np.linalg.norm(array.astype(np.float64))), rel=1e-5, abs=1e-30)
    counts = histogram([array], summary, 5)
    assert counts.sum() == array.size and counts[0] >= 1


def test_what_is_no_number_is_counted_and_left_out() -> None:
    array = np.array([[np.nan, np.inf, -np.inf, 1.0, -2.0]])
    summary = Summary()
    summary.add(array)
    assert (summary.count, summary.finite, summary.nan, summary.infinite) == (5, 2, 1, 2)
    assert (summary.minimum, summary.maximum, summary.mean, summary.largest) == (-2.0, 1.0, -0.5, 2.0)
    np.testing.assert_array_equal(histogram([array], summary, 3), [1, 0, 1])
    empty = Summary()
    empty.add(np.full((2, 2), np.nan))
    assert empty.finite == 0 and empty.largest == 0 and np.isnan(empty.mean)
    assert histogram([np.full((2, 2), np.nan)], empty, 3).sum() == 0


def test_values_beyond_their_own_precision_have_a_norm() -> None:
    summary = Summary()
    summary.add(np.full((1, 4), 1e30, dtype=np.float32))
    assert summary.norm == pytest.approx(2e30, rel=1e-6)
    one = Summary()
    one.add(np.array([[1.0] * 2000 + [1e4]]))
    assert one.outlying and not summary.outlying


def test_levels_keep_the_sign_and_mark_what_is_no_number() -> None:
    values = np.array([0.0, 1.0, -1.0, 0.5, -1e-3, np.nan, np.inf, -np.inf])
    assert levels_of(values, 1.0, False).tolist() == [0, TOP, -TOP, 6, 0, NAN, INFINITE, -INFINITE]
    assert levels_of(values, 1.0, True).tolist() == [0, TOP, -TOP, 11, -3, NAN, INFINITE, -INFINITE]
    assert levels_of(np.zeros(2), 0.0, True).tolist() == [0, 0]


def test_characters_stand_in_for_colours() -> None:
    assert [characters_of(level) for level in (TOP, -TOP, 1, -6, 0, NAN, INFINITE, -INFINITE)] == [
        "+9", "-9", "+1", "-4", " ·", "NN", "+i", "-i",
    ]  # fmt: skip


@pytest.mark.parametrize("look", sorted(LOOKS))
def test_the_signs_stay_apart_in_256_colours(look: str) -> None:
    ramp = ramp_of(look)
    for level in range(1, TOP + 1):
        shades = [ramp.colour(sign * level).downgrade(ColorSystem.EIGHT_BIT).number for sign in (1, -1)]
        assert level <= 2 or shades[0] != shades[1], f"level {level} of {look}"
    steps = {ramp.colour(level).downgrade(ColorSystem.EIGHT_BIT).number for level in range(TOP + 1)}
    assert len(steps) >= 5


def test_half_blocks_show_two_rows_a_line() -> None:
    drawn = picture_of(np.array([[1.0, -1.0], [0.0, 1.0]]), width=2, height=1)
    assert (drawn.frame.heading, drawn.frame.labels) == (0, 0)
    ramp, segments = ramp_of("dark"), drawn.line(0, None)
    assert [segment.text for segment in segments] == ["▀", "▀"]
    styles = [segment.style for segment in segments]
    assert styles[0] is not None and styles[0].color == ramp.colour(TOP) and styles[0].bgcolor == ramp.colour(0)
    assert styles[1] is not None and styles[1].color == ramp.colour(-TOP) and styles[1].bgcolor == ramp.colour(TOP)


def test_what_is_no_number_has_its_own_mark() -> None:
    matrix = np.array([[np.nan, 1.0, 0.0], [1.0, -np.inf, 0.0]])
    assert text_of(picture_of(matrix, width=3, height=1)) == ["?∞ "]
    assert text_of(picture_of(matrix, width=8, height=2, blocks=False, look=PLAIN))[0].endswith("NN+9 ·")


def test_digits_without_colours() -> None:
    matrix = np.array([[1.0, -0.5, 0.0], [0.25, np.nan, -np.inf]])
    lines = text_of(picture_of(matrix, width=9, height=3, blocks=False, look=PLAIN))
    assert [line.strip() for line in lines] == ["0", "0 +9-4 ·", "+2NN-i"]


def test_tokens_stand_beside_rows_and_upright_above_columns() -> None:
    matrix = np.eye(4)
    lines = text_of(picture_of(matrix, width=14, height=12, rows=TOKENS, columns=TOKENS, blocks=False, look=PLAIN))
    assert [line.split() for line in lines[:4]] == [
        ["[", "g", "f"],
        ["C", "r", "i"],
        ["L", "e", "l"],
        ["S", "a", "a", "m"],
    ]
    assert [line.split()[0] for line in lines[4:] if line.strip()] == ["[…", "a", "g…", "f…"]


def test_labels_of_groups_are_those_of_their_first_element_or_of_the_cursor() -> None:
    words = [f"{letter}bc" for letter in "abcdefgh"]
    drawn = picture_of(np.eye(8), width=11, height=9, rows=words, columns=words)
    assert (drawn.across.groups, drawn.down.groups) == (8, 8)
    letters = [word[0] for word in words]
    few = picture_of(np.eye(8), width=7, height=9, rows=letters, columns=words)
    assert few.across.groups < 8
    firsts = "".join(words[edge][0] for edge in few.across.edges[:-1])
    assert text_of(few)[0].strip() == firsts
    column = int(few.across.edges[1]) - 1
    assert text_of(few, (7, column))[0].strip() == words[column][0] + firsts[1:]
    beside = [line[0] for line in text_of(few, (7, 0))[few.frame.heading :] if line]
    assert beside[0] == "a" and "h" in beside and "h" not in "".join(line[:1] for line in text_of(few))


def test_the_cursor_is_seen_in_every_way_of_drawing() -> None:
    matrix = np.random.default_rng(0).normal(size=(8, 8))
    for options in ({}, {"blocks": False}, {"blocks": False, "look": PLAIN}):
        for width, height in ((12, 6), (80, 40)):
            drawn = picture_of(matrix, width=width, height=height, **options)
            x, y, wide, high = drawn.box(drawn.group_at(3, 5))
            assert wide >= 1 and high >= 1
            changed = [line for line in range(height) if drawn.line(line, None) != drawn.line(line, (3, 5))]
            assert y in changed, "the cell, beside its labels"
            if options == {} and width == 80:
                assert text_of(drawn, (3, 5))[y][x] == "["
            group = drawn.element_at(x, y)
            assert group is not None and group[1] == drawn.group_at(3, 5)[1]


def test_numbers_appear_when_elements_are_wide_enough() -> None:
    lines = text_of(picture_of(np.array([[0.125, -3.0]]), width=18, height=5))
    assert any("0.125" in line and "-3.0" in line for line in lines)


def test_another_theme_paints_in_its_own_colours() -> None:
    drawn = picture_of(np.array([[1.0, -1.0]]), width=2, height=1)
    light = replace(drawn, look=LOOKS["light"])
    assert drawn.line(0, None) != light.line(0, None)


@given(st.integers(1, 9), st.integers(1, 30), st.integers(1, 60), st.integers(1, 20), st.booleans(), st.booleans())
def test_no_line_is_wider_than_its_pane(
    rows: int, columns: int, width: int, height: int, blocks: bool, labelled: bool
) -> None:
    labels = {"rows": ["token"] * rows, "columns": ["映画"] * columns} if labelled else {}
    matrix = np.arange(rows * columns, dtype=float).reshape(rows, columns)
    drawn = picture_of(matrix, width, height, blocks=blocks, look=DARK if blocks else PLAIN, **labels)
    for line in text_of(drawn, (rows - 1, columns - 1)):
        assert len(line) <= max(width, drawn.frame.labels + drawn.frame.cell_width)
