"""Where the selected call lies in the model, as a line of the calls around it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from tui.lines.format import shorten
from tui.lines.layers import name_of
from tui.model.figures import Figures

SEPARATOR = " › "
_LONGEST = 32


def crumbs(figures: Figures, node: int, model: str, width: int) -> list[tuple[int, str]]:
    """The calls from the model down to this one with their names, in `width` cells.

    Where there is no room, calls in the middle are left out, (−1, "…") in their place; the call itself is shortened.
    """
    if node < 0:
        return []
    path = [node]
    while figures.parent[path[-1]] >= 0:
        path.append(int(figures.parent[path[-1]]))
    path.reverse()
    names = [(each, shorten(name_of(figures, each, model), _LONGEST)) for each in path]
    if _length(names) <= width:
        return names
    kept = names[1:]
    while len(kept) > 1 and _length([names[0], (-1, "…"), *kept]) > width:
        kept = kept[1:]
    shown = [names[0], (-1, "…"), *kept] if len(names) > 1 else names
    if _length(shown) > width:
        shown = shown[-1:]
    last, text = shown[-1]
    return [*shown[:-1], (last, shorten(text, max(width - _length(shown[:-1]) - len(SEPARATOR), 1)))]


def _length(names: Sequence[tuple[int, str]]) -> int:
    return sum(cell_len(text) for _, text in names) + len(SEPARATOR) * max(len(names) - 1, 0)
