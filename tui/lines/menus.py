"""What the menus offer: filters, sorting, columns, themes, examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tracer.analysis.verdict import relative_deltas
from tracer.records import Run
from tracer.text import clean, figure, multiple
from tui.lines.format import fit, plural, shorten
from tui.lines.layers import ORDER, USUAL
from tui.looks.roles import Line, Piece, Role
from tui.looks.themes import LOOKS
from tui.model import filters
from tui.model.figures import Figures
from tui.model.filters import FAMILIES, Filter
from tui.model.outline import Sort


@dataclass(frozen=True, slots=True)
class Item:
    """A line of a menu: `key` chooses it (may be ""), `on` is whether it holds now, None where that has no meaning."""

    key: str
    title: str
    value: str
    note: str = ""
    on: bool | None = None


def menu_line(item: Item, titles: int, width: int) -> Line:
    """The line of an item in `width` cells; titles are padded to `titles` cells."""
    sign = "  " if item.on is None else "✔ " if item.on else "· "
    cells: list[Piece] = [
        (sign, Role.GOOD if item.on else Role.FAINT),
        (fit(item.key, 3), Role.KEY),
        (fit(item.title, titles), Role.STRONG if item.on else Role.TEXT),
    ]
    room = width - 5 - titles - 2
    return [*cells, ("  " + fit(item.note, room), Role.MUTED)] if item.note and room > 3 else cells


_FAMILY_KEYS = {"attention": "a", "gelu": "g", "norm": "n"}
_SORT_KEYS: tuple[tuple[Sort, str, str, str], ...] = (
    ("order", "o", "Order", "the tree, as the calls ran"),
    ("leak", "l", "Leak", "a list by |self leak|"),
    ("gain", "g", "Gain", "a list by gain: what makes multipliers larger"),
    ("time", "t", "Time", "a list by own time, without the calls inside"),
)
_COLUMN_TITLES = {
    "bar": ("b", "Bar"),
    "leak": ("l", "Leak"),
    "self": ("s", "Self leak"),
    "share": ("o", "Share of Σ|self leak|"),
    "gain": ("g", "Gain"),
    "time": ("t", "Time"),
    "type": ("y", "Type"),
}


def filter_items(figures: Figures, wanted: Filter) -> list[Item]:
    """The filters, each with the number of its calls."""
    items = [
        Item("d", "Only diverging", "diverging", plural(len(figures.diverging), "call"), wanted.diverging),
    ]
    for name, title in FAMILIES.items():
        count = int(np.count_nonzero(filters.family(figures, name)))
        items.append(Item(_FAMILY_KEYS[name], title, name, plural(count, "call"), name in wanted.families))
    text = wanted.text.strip()
    items.append(Item("t", "Text", "text", f"now “{shorten(clean(text), 20)}”" if text else "type it", bool(text)))
    items.append(Item("0", "No filter", "none", "Esc in the tree does the same"))
    return items


def sort_items(sort: Sort) -> list[Item]:
    """The orders of the calls."""
    return [Item(key, title, name, note, name == sort) for name, key, title, note in _SORT_KEYS]


def column_items(columns: Sequence[str] | None) -> list[Item]:
    """The columns beside the tree."""
    shown = USUAL if columns is None else columns
    items = [
        Item(_COLUMN_TITLES[column.name][0], _COLUMN_TITLES[column.name][1], column.name, "", column.name in shown)
        for column in ORDER
    ]
    return [*items, Item("0", "The usual ones", "usual", "as many as fit", columns is None)]


def toggled_column(columns: Sequence[str] | None, name: str) -> tuple[str, ...] | None:
    """The columns with one of them the other way round, in the table's order; None for the usual ones."""
    if name == "usual":
        return None
    shown = set(USUAL if columns is None else columns) ^ {name}
    wanted = tuple(column.name for column in ORDER if column.name in shown)
    return None if wanted == USUAL else wanted


def theme_items(theme: str) -> list[Item]:
    keys = ("d", "l", "b", "h")
    return [
        Item(key, look.title, look.name, "", look.name == theme) for key, look in zip(keys, LOOKS.values(), strict=True)
    ]


def example_items(run: Run, example: int | None) -> list[Item]:
    """The examples of a run with their deltas and texts; the first line is the sum over all."""
    count = run.examples
    total = float(np.sum(run.delta))
    items = [Item("a", "Sum of all", "all", f"delta {figure(total, signed=True)}", example is None)]
    relative = relative_deltas(run)
    for index in range(count):
        tokens = " ".join(run.tokens[index]) if index < len(run.tokens) else ""
        note = f"delta {figure(float(run.delta[index]), signed=True)}, {multiple(float(relative[index]))}"
        words = f"   {shorten(clean(tokens, 200), 50)}" if tokens else ""
        key = str(index) if index < 10 else ""
        items.append(Item(key, f"Example {index}", str(index), note + words, index == example))
    return items
