"""Two traces as one tree: the layer tree with both leaks beside it."""

from __future__ import annotations

from tui.lines import compare as compare_rows
from tui.lines.compare import Pair
from tui.looks.roles import Line
from tui.widgets.layer_tree import LayerTree


class CompareTree(LayerTree):
    """One cursor and one state of what is open, so that both traces stay in step."""

    def __init__(self, pair: Pair, model: str = "", *, id: str | None = None) -> None:
        super().__init__(pair.figures, model, id=id)
        self.pair = pair

    def show_pair(self, pair: Pair) -> None:
        """Show other figures of the same calls."""
        self.pair = pair
        self.show_figures(pair.figures)

    def heading(self, width: int) -> Line:
        """The titles of the columns."""
        return compare_rows.heading(width)

    def line(self, node: int, width: int) -> Line:
        expanded = bool(self.outline.expanded[node])
        return compare_rows.row(self.pair, node, expanded, width, model=self.model)
