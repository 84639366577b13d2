"""The rows that are shown follow from what is open, whatever was pressed before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tui.builders import figures
from tui.model.outline import SORTS, Outline, Sort

#        0
#   1         4      7
#  2 3      5        8
#           6
PARENTS = [-1, 0, 1, 1, 0, 4, 5, 0, 7]
LEAKS = [0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 90.0, 0.0, 0.0]


def make() -> Outline:
    return Outline(figures(PARENTS, LEAKS))


def shown_slowly(outline: Outline) -> list[int]:
    """A call is shown when everything around it is open (and, filtered, when it leads to a divergence)."""
    rows = []
    for call in range(len(PARENTS)):
        parent, visible = PARENTS[call], True
        while parent >= 0:
            visible &= bool(outline.expanded[parent])
            parent = PARENTS[parent]
        end = int(outline.figures.end[call])
        leads = bool((outline.figures.severity[call:end] > 0).any())
        if visible and (not outline.only_diverging or leads):
            rows.append(call)
    return rows


GAINS = [1.0, float("nan"), 3.0, 0.5, 9.0, 2.0, float("inf"), 0.0, 4.0]
SECONDS = [10.0, 4.0, 1.0, 1.0, 3.0, 3.0, 0.5, 2.0, 2.0]


def make_with_figures() -> Outline:
    return Outline(
        figures(PARENTS, [0.0, -7.0, 1.0, 5.0, 0.0, float("nan"), 90.0, 0.0, 0.0], gain=GAINS, seconds=SECONDS)
    )


def test_it_starts_on_the_worst_call_and_opens_only_the_way_to_it() -> None:
    outline = make()
    assert outline.selected == 6
    assert outline.rows.tolist() == [0, 1, 4, 5, 6, 7]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["toggle", "expand", "collapse", "filter", "reveal"]), st.integers(0, 8))))
def test_rows_are_those_with_everything_around_them_open(steps: list[tuple[str, int]]) -> None:
    outline = make()
    for step, call in steps:
        if step == "toggle":
            outline.toggle(call)
        elif step == "expand":
            outline.expand_all()
        elif step == "collapse":
            outline.collapse_all()
        elif step == "filter":
            outline.toggle_only_diverging()
        else:
            outline.reveal(call)
            assert outline.selected == call
        assert outline.rows.tolist() == shown_slowly(outline)
        assert 0 <= outline.cursor < len(outline.rows)


def test_closing_a_call_takes_a_cursor_inside_it_along() -> None:
    outline = make()
    outline.collapse_all()
    assert outline.selected == 4


def test_the_filter_shows_the_way_to_divergences_and_gives_the_tree_back() -> None:
    outline = make()
    before = outline.rows.tolist()
    outline.toggle_only_diverging()
    assert outline.rows.tolist() == [0, 1, 3, 4, 5, 6]
    outline.toggle_only_diverging()
    assert outline.rows.tolist() == before and outline.selected == 6


def test_revealing_a_call_that_the_filter_hides_takes_the_filter_off() -> None:
    outline = make()
    outline.toggle_only_diverging()
    outline.reveal(8)
    assert not outline.only_diverging and outline.selected == 8


def test_the_next_one_comes_in_the_datas_order_and_goes_round() -> None:
    outline = make()
    diverging = outline.figures.diverging
    assert outline.next_of(diverging, forward=True) == 3
    assert outline.next_of(diverging, forward=False) == 3
    outline.reveal(2)
    assert outline.next_of(diverging, forward=True) == 3
    assert outline.next_of(diverging, forward=False) == 6
    assert outline.next_of(diverging[:0], forward=True) is None


def test_a_tree_without_calls() -> None:
    outline = Outline(figures([], []))
    assert outline.selected == -1
    outline.move(3)
    outline.expand_all()
    outline.collapse_all()
    outline.toggle_only_diverging()
    assert len(outline.rows) == 0


def test_a_sorted_list_has_every_call_once_the_largest_first() -> None:
    outline = make_with_figures()
    outline.sort_by("leak")
    assert outline.rows.tolist() == [5, 6, 1, 3, 2, 0, 4, 7, 8], "NaN first, equals in execution order"
    outline.sort_by("gain")
    assert outline.rows.tolist() == [6, 4, 8, 2, 5, 0, 3, 7, 1], "no gain at all is not worse than any"
    outline.sort_by("time")
    assert outline.rows[:2].tolist() == [5, 1], "own time: 2.5 of 3 s, then 2 of 4 s"
    own = outline.figures.own_seconds
    assert own.tolist() == [1.0, 2.0, 1.0, 1.0, 0.0, 2.5, 0.5, 0.0, 2.0]
    outline.sort_by("order")
    assert not outline.flat and outline.rows.tolist() == shown_slowly(outline)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(SORTS), max_size=5), st.integers(0, 8))
def test_sorting_keeps_the_selection_in_sight(sorts: list[Sort], call: int) -> None:
    outline = make_with_figures()
    outline.reveal(call)
    for sort in sorts:
        outline.sort_by(sort)
        assert outline.selected == call
        assert sorted(outline.rows.tolist()) == list(range(9)) or sort == "order"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=9, max_size=9), st.sampled_from(SORTS))
def test_a_filter_keeps_its_calls_and_in_the_tree_what_they_are_in(keep: list[bool], sort: Sort) -> None:
    outline = make_with_figures()
    before = outline.rows.tolist()
    outline.sort_by(sort)
    outline.filter(np.array(keep))
    wanted = {call for call in range(9) if keep[call]}
    if outline.flat:
        assert set(outline.rows.tolist()) == wanted
    else:
        around = {each for call in wanted for each in outline.ancestors(call)}
        assert set(outline.rows.tolist()) == wanted | around | {0}
    outline.sort_by("order")
    outline.filter(None)
    assert set(before) <= set(outline.rows.tolist()) and not outline.filtered


def test_what_was_selected_under_a_filter_stays_in_sight_when_it_is_taken_off() -> None:
    outline = make_with_figures()
    outline.collapse_all()
    outline.filter(np.array([call == 8 for call in range(9)]))
    outline.reveal(8)
    outline.expanded[:] = False
    outline.filter(np.array([call == 8 for call in range(9)]))
    outline.filter(None)
    assert outline.selected == 8 and outline.row_of(2) is None, "open on the way to it, closed elsewhere"


def test_in_a_list_the_next_one_is_the_next_as_it_stands() -> None:
    outline = make_with_figures()
    outline.sort_by("leak")
    nodes = np.array([2, 5, 6])
    outline.reveal(5)
    assert [outline.next_of(nodes, True), outline.next_of(nodes, False)] == [6, 2]
    outline.filter(np.array([False] * 9))
    assert outline.next_of(nodes, True) is None and outline.selected == -1


def test_going_to_what_the_filter_hides_takes_it_off_in_a_list_too() -> None:
    outline = make_with_figures()
    outline.sort_by("gain")
    outline.filter(np.array([call == 6 for call in range(9)]))
    outline.reveal(4)
    assert outline.selected == 4 and not outline.filtered


#  0 > 1 > 2 > (3, 4 > 5); 6 > 7
CHAIN = [-1, 0, 1, 2, 2, 4, 0, 6]


def test_opening_goes_on_while_there_is_only_one_call_inside() -> None:
    outline = Outline(figures(CHAIN, [0.0] * 7 + [1.0]))
    outline.collapse_all()
    assert outline.rows.tolist() == [0, 1, 6]
    outline.toggle(1)
    assert outline.rows.tolist() == [0, 1, 2, 3, 4, 6], "open down to where it branches"
    outline.toggle(1)
    assert outline.rows.tolist() == [0, 1, 6]
    outline.toggle(6)
    assert outline.rows.tolist() == [0, 1, 6, 7]


@pytest.mark.parametrize("sort", SORTS)
def test_a_growing_trace_keeps_what_is_open_and_selected(sort: Sort) -> None:
    outline = Outline(figures(CHAIN[:6], [0.0] * 5 + [1.0]))
    outline.sort_by(sort)
    outline.reveal(3)
    opened = outline.expanded.copy()
    outline.show_figures(figures(CHAIN, [0.0] * 7 + [1.0]))
    assert outline.selected == 3 and outline.expanded[:6].tolist() == opened.tolist()
    assert sorted(outline.rows.tolist()) == (list(range(8)) if sort != "order" else [0, 1, 2, 3, 4, 5, 6])
    outline.show_figures(figures(CHAIN[:3], [0.0] * 3))
    assert outline.selected in (0, 1, 2) and outline.rows.max() < 3


def test_other_figures_change_what_only_diverging_shows() -> None:
    outline = make()
    outline.toggle_only_diverging()
    outline.show_figures(figures(PARENTS, [0.0, 0.0, 50.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    assert outline.rows.tolist() == [0, 1, 2]
