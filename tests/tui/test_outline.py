"""The rows that are shown follow from what is open, whatever was pressed before."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tui.builders import figures
from tui.outline import Outline

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
