"""What the menus offer, and the line of calls around the selected one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.synthetic import synthetic_run
from tests.tui.builders import EVIL, figures
from tui.lines import layers as rows
from tui.lines import menus
from tui.lines.crumbs import SEPARATOR, crumbs
from tui.lines.menus import Item, menu_line
from tui.looks.roles import Line
from tui.looks.themes import LOOKS
from tui.model.filters import Filter

TREE = figures(
    [-1, 0, 1, 2, 3],
    [0.0, 0.0, 0.0, 0.0, 5.0],
    paths=["", "bert.encoder", "bert.encoder.layer.0", "bert.encoder.layer.0.attention", EVIL],
    types=["Model", "Encoder", "Layer", "Attention", "gelu"],
)


def text_of(line: Line) -> str:
    return "".join(text for text, _ in line)


def all_menus() -> list[list[Item]]:
    run = synthetic_run(examples=12)
    odd = replace(run, tokens=((EVIL,),) * 12)
    return [
        menus.filter_items(TREE, Filter(text=EVIL)),
        menus.sort_items("gain"),
        menus.column_items(None),
        menus.theme_items("light"),
        menus.example_items(odd, 3),
        menus.example_items(synthetic_run(examples=2, tokens=False), None),
    ]


def test_keys_are_single_and_each_menu_knows_what_holds() -> None:
    for items in all_menus():
        keys = [item.key for item in items if item.key]
        assert len(keys) == len(set(keys)) and all(len(key) == 1 for key in keys)
        assert sum(item.on is True for item in items) >= 1
        assert len({item.value for item in items}) == len(items)


@pytest.mark.parametrize("width", [10, 38, 60, 100])
def test_lines_keep_within_their_width_where_titles_do(width: int) -> None:
    for items in all_menus():
        titles = max(cell_len(item.title) for item in items)
        for item in items:
            text = text_of(menu_line(item, titles, width))
            assert text.isprintable()
            assert cell_len(text) <= max(width, titles + 5)


def test_the_filter_menu_counts() -> None:
    notes = {item.value: item.note for item in menus.filter_items(TREE, Filter())}
    assert notes["diverging"] == "1 call" and notes["attention"] == "2 calls" and notes["gelu"] == "1 call"
    assert notes["norm"] == "0 calls"


def test_columns_go_on_and_off_in_the_tables_order() -> None:
    without = menus.toggled_column(None, "bar")
    assert without == ("leak", "self", "gain", "type")
    assert menus.toggled_column(without, "bar") is None, "the usual ones again"
    assert menus.toggled_column(("type",), "time") == ("time", "type")
    assert menus.toggled_column(("type",), "usual") is None
    assert menus.toggled_column(("type",), "type") == ()


def test_every_column_and_theme_is_offered() -> None:
    assert {item.value for item in menus.column_items(None)} == {column.name for column in rows.ORDER} | {"usual"}
    assert [item.value for item in menus.theme_items("dark")] == list(LOOKS)


def test_examples_say_their_delta() -> None:
    run = replace(
        synthetic_run(examples=2),
        delta=np.array([-3.0, 1.0]),
        output=np.array([3.0, 3.0]),
        output_reference=np.array([1.0, 1.0]),
    )
    items = menus.example_items(run, 1)
    assert [item.note.split("   ")[0] for item in items] == ["delta -2", "delta -3, 150 %", "delta +1, 50 %"]
    assert [item.on for item in items] == [False, False, True]
    assert "amazing" in items[1].note


def joined(parts: Sequence[tuple[int, str]]) -> str:
    return SEPARATOR.join(text for _, text in parts)


def test_crumbs_lead_from_the_model_to_the_call() -> None:
    parts = crumbs(TREE, 3, "MiniLM", 80)
    assert joined(parts) == "MiniLM › bert.encoder › layer.0 › attention"
    assert [node for node, _ in parts] == [0, 1, 2, 3]
    assert joined(crumbs(TREE, 3, "MiniLM", 34)) == "MiniLM › … › layer.0 › attention"
    assert crumbs(TREE, -1, "MiniLM", 80) == []


@given(st.integers(1, 100), st.integers(0, 4))
def test_crumbs_keep_within_their_width_and_end_with_the_call(width: int, node: int) -> None:
    parts = crumbs(TREE, node, "MiniLM", width)
    assert cell_len(joined(parts)) <= width
    assert parts[-1][0] == node and joined(parts).isprintable()
