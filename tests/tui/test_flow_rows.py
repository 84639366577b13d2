"""The flow map's lines: widths, where the sign changes, which rows do not sum, and what is said about it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.tui.builders import EVIL
from tracer.analysis.flow_map import FlowMap
from tui.lines import flow as flow_rows
from tui.lines import flow_table
from tui.lines.flow import FLIP
from tui.lines.flow_table import FlowTable
from tui.looks import heat
from tui.looks.roles import Piece, Role

Floats = npt.NDArray[np.float64]
VALUES = np.array(
    [
        [1.0, -0.5, 0.2, 0.3],
        [0.9, 0.001, 0.2, -0.1],
        [0.5, 0.6, -0.3, 0.2],
        [0.4, 0.3, 0.2, 0.1],
    ]
)


def make(values: Floats, change: float = 1.0, whole: bool = False, names: str = "layer.") -> FlowTable:
    rows, columns = values.shape
    tokens = tuple(f"t{index}" for index in range(columns))
    flow = FlowMap(tuple(range(1, rows + 1)), tuple(f"{names}{index}" for index in range(rows)), tokens, values)
    return flow_table.table(flow, change, whole)


def text_of(cells: object) -> str:
    return "".join(text for text, _ in cells)  # type: ignore[attr-defined]


def changes_slowly(values: Floats) -> set[tuple[int, int]]:
    """Token by token down the rows: a sign that is not that of the last value that mattered."""
    found = set()
    for column in range(values.shape[1]):
        last = 0.0
        for row in range(values.shape[0]):
            finite = [abs(value) for value in values[row] if math.isfinite(value)]
            value = values[row, column]
            if not math.isfinite(value) or not finite or abs(value) < 0.02 * max(finite) or value == 0:
                continue
            if last * value < 0:
                found.add((row, column))
            last = math.copysign(1.0, value)
    return found


matrices = st.tuples(st.integers(1, 6), st.integers(1, 12)).flatmap(
    lambda shape: st.lists(
        st.one_of(st.floats(-3, 3), st.sampled_from([0.0, math.nan, math.inf, -math.inf, 1e9, -1e-9])),
        min_size=shape[0] * shape[1],
        max_size=shape[0] * shape[1],
    ).map(lambda flat: np.array(flat, dtype=np.float64).reshape(shape))
)


@given(matrices)
def test_a_change_of_sign_is_marked_where_it_happens(values: Floats) -> None:
    found = {(int(row), int(column)) for row, column in np.argwhere(flow_table.sign_changes(values))}
    assert found == changes_slowly(values)


def test_noise_around_zero_is_not_a_change_of_sign() -> None:
    marked = flow_table.sign_changes(VALUES)
    assert np.argwhere(marked).tolist() == [[1, 3], [2, 1], [2, 2], [2, 3], [3, 2]]
    assert not flow_table.sign_changes(np.array([[1.0, 1.0], [1.0, -1e-9], [1.0, 1.0]])).any()


@settings(max_examples=60)
@given(matrices, st.integers(20, 200), st.booleans(), st.booleans(), st.integers(0, 12))
def test_every_line_keeps_within_its_width(values: Floats, width: int, numbers: bool, whole: bool, first: int) -> None:
    flow = make(values, whole=whole)
    given_layout = flow_rows.layout(flow, width, numbers)
    first = min(first, values.shape[1] - given_layout.visible)
    room = max(width, given_layout.frozen + given_layout.cell)
    expected = given_layout.frozen + given_layout.cell * given_layout.visible
    for lines in (1, 3):
        for line in flow_rows.headings(flow, given_layout, first, first, lines):
            assert cell_len(text_of(line)) == expected <= room
    for row in range(values.shape[0]):
        cells, at = flow_rows.row(flow, given_layout, row, first, first)
        assert cell_len(text_of(cells)) == expected
        assert at is not None
        for line in flow_rows.cursor_lines(flow, row, first, width):
            assert cell_len(text_of(line)) <= width
    assert cell_len(text_of(flow_rows.sums(flow, given_layout, first))) == expected
    assert cell_len(text_of(flow_rows.legend(flow, given_layout, first, width))) <= width


def cells_of(flow: FlowTable, row: int, width: int, numbers: bool) -> list[Piece]:
    given_layout = flow_rows.layout(flow, width, numbers)
    cells, _ = flow_rows.row(flow, given_layout, row, 0)
    return list(cells)[2 if given_layout.sum else 1 :]


@pytest.mark.parametrize(("width", "numbers"), [(120, True), (40, False)])
def test_sign_and_flip_are_said_without_colour(width: int, numbers: bool) -> None:
    flow = make(VALUES)
    cells = cells_of(flow, 2, width, numbers)
    markers, bodies = [text for text, _ in cells[::2]], [text for text, _ in cells[1::2]]
    assert markers == [" ", FLIP, FLIP, FLIP]
    assert [body.strip()[0] for body in bodies] == ["+", "+", "-", "+"]


def test_numbers_stand_where_there_is_room() -> None:
    flow = make(VALUES)
    assert flow_rows.layout(flow, 120, False).numbers
    assert not flow_rows.layout(flow, 38, False).numbers
    asked = flow_rows.layout(flow, 38, True)
    assert asked.numbers and asked.visible == 3, "then not all tokens fit"
    assert "+0.600" in text_of(cells_of(flow, 2, 120, False))


def test_heat_is_by_the_row_or_by_the_map() -> None:
    values = np.array([[1000.0, 500.0], [1.0, -0.5]])
    by_row, by_map = make(values), make(values, whole=True)
    assert by_row.levels.tolist() == [[4, 3], [4, -3]]
    assert by_map.levels.tolist() == [[4, 3], [0, 0]]
    assert "the largest of its row" in text_of(flow_rows.cursor_lines(by_row, 1, 1, 120)[1])
    assert "0.05 % of the largest of the map" in text_of(flow_rows.cursor_lines(by_map, 1, 1, 120)[1])


def test_sums_of_rows_and_columns() -> None:
    flow = make(VALUES, change=1.0)
    assert np.allclose(flow.row_sums, [1.0, 1.001, 1.0, 1.0])
    assert np.allclose(flow.column_sums, VALUES.sum(axis=0))
    line = text_of(flow_rows.sums(flow, flow_rows.layout(flow, 120, False), 0))
    assert "column sum" in line and "+2.80" in line and "+4.00" in line


def test_a_row_that_does_not_sum_to_the_change_stands_out() -> None:
    values = np.array([[-5.0, 1.0], [2.0, 0.1], [1.0, 1.0], [1.5, 0.5]])
    flow = make(values, change=2.0)
    assert flow.off.tolist() == [True, True, False, False]
    given_layout = flow_rows.layout(flow, 100, False)
    roles = [flow_rows.row(flow, given_layout, row, 0)[0][1][1] for row in range(4)]
    assert roles == [Role.DIVERGING, Role.DIVERGING, Role.MUTED, Role.MUTED]
    words = " ".join(text_of(line) for line in flow_rows.summary(flow, 200))
    assert "Rows should sum to f(x)-f(x') = +2.000; going back from the output, that is lost in layer.2." in words


def test_rows_beside_others_are_no_loss_where_the_inputs_add_up() -> None:
    values = np.array([[1.0, 1.0], [0.5, 0.2], [0.5, 0.8], [1.0, 1.0]])  # the second and third are parallel
    words = " ".join(text_of(line) for line in flow_rows.summary(make(values, 2.0), 200))
    assert "The inputs' row sums to f(x)-f(x') = +2.000; rows that do not are branches beside others" in words
    assert "lost" not in words


def test_the_summary_says_what_the_map_shows() -> None:
    words = " ".join(text_of(line) for line in flow_rows.summary(make(VALUES, 1.0), 200))
    assert words == (
        f"5 changes of sign ({FLIP}), most at layer.2: 3 of 4 tokens. Every row sums to f(x)-f(x') = +1.000."
    )
    steady = " ".join(text_of(line) for line in flow_rows.summary(make(np.ones((2, 2)), 3.0), 200))
    assert steady == (
        "No token changes its sign on the way. "
        "Not even the last row sums to f(x)-f(x') = +3.000: the sum is lost behind layer.1."
    )


def test_rows_without_numbers_are_said_and_left_out_of_sums() -> None:
    values = np.array([[1.0, 1.0], [math.nan, math.nan], [1.5, 0.5]])
    flow = make(values, change=2.0)
    assert flow.empty.tolist() == [False, True, False] and not flow.off.any()
    assert flow.column_sums.tolist() == [2.5, 1.5]
    words = " ".join(text_of(line) for line in flow_rows.summary(flow, 200))
    assert "1 row without numbers" in words


def test_a_single_nan_makes_its_row_stand_out() -> None:
    flow = make(np.array([[1.0, math.nan], [1.0, 1.0]]), change=2.0)
    assert flow.off.tolist() == [True, False] and int(flow.levels[0, 1]) == heat.NO_NUMBER
    assert "nan" in text_of(cells_of(flow, 0, 100, True))


def test_the_cursor_starts_at_a_change_of_sign() -> None:
    assert flow_table.start(make(VALUES)) == (2, 1)
    assert flow_table.start(make(np.array([[0.1, -3.0], [0.1, -2.0]]))) == (0, 1)


def test_the_cursor_line_is_exact() -> None:
    flow = make(VALUES)
    first, second = (text_of(line) for line in flow_rows.cursor_lines(flow, 2, 1, 120))
    assert first == f"+0.600000  token 1 “t1”  at layer.2  {FLIP} was -0.5000", "what it was before the noise"
    assert second.startswith("100 % of the largest of its row   row sum +1.000   f(x)-f(x') +1.000")


@pytest.mark.parametrize("largest", [0.0, 1e-12, 0.02, 0.5, 3.0, 99.0, 950.0, 12_345.0, 99_999.0, 1.2e7, 3e200])
@pytest.mark.parametrize("part", [1.0, -1.0, 0.37, -0.003, 0.0, math.nan, math.inf, -math.inf])
def test_a_figure_fits_its_cell(largest: float, part: float) -> None:
    text = flow_rows.figure(part * largest if math.isfinite(part) and largest else part, largest)
    assert len(text) <= 7, text


def test_tokens_from_a_file_reach_no_terminal_raw() -> None:
    flow = flow_table.table(FlowMap((1,), (EVIL,), (EVIL, "界" * 20), np.ones((1, 2))), 2.0, False)
    given_layout = flow_rows.layout(flow, 80, False)
    lines = [*flow_rows.headings(flow, given_layout, 0, 0, 3), flow_rows.row(flow, given_layout, 0, 0)[0]]
    lines += [*flow_rows.cursor_lines(flow, 0, 0, 80), *flow_rows.summary(flow, 80)]
    for line in lines:
        assert text_of(line).isprintable() and cell_len(text_of(line)) <= 80


def test_a_long_token_goes_on_below() -> None:
    flow = flow_table.table(FlowMap((1,), ("l",), ("amazing", "it"), np.ones((1, 2))), 2.0, False)
    given_layout = flow_rows.FlowLayout(name=6, sum=0, cell=4, numbers=False, visible=2)
    assert flow_rows.heading_lines(flow, given_layout, 40) == 3 and flow_rows.heading_lines(flow, given_layout, 10) == 1
    lines = [text_of(line) for line in flow_rows.headings(flow, given_layout, 0, 0, 3)]
    assert [line[7:10] for line in lines] == ["ama", "zin", "g  "] and lines[2][11:13] == "it"
