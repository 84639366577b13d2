"""Which calls are shown, and where the cursor is: the state of the tree, apart from how it is painted."""

from __future__ import annotations

import numpy as np

from tui.figures import Bools, Figures, Ints


class Outline:
    """The open containers of a tree and the rows that follow from them.

    `rows` are the ids of the shown calls in preorder and `cursor` an index into it. Everything is one pass over
    arrays, so that 100 000 calls open and close in milliseconds.
    """

    def __init__(self, figures: Figures) -> None:
        self.figures = figures
        self.expanded: Bools = np.zeros(len(figures), dtype=np.bool_)
        self.only_diverging = False
        self.rows: Ints = np.zeros(0, dtype=np.int64)
        self.cursor = 0
        self._before_filter: Bools | None = None
        before = np.concatenate(([0], np.cumsum(figures.severity > 0)))
        self._leads_to_divergence: Bools = before[figures.end] > before[:-1]
        self._has_children: Bools = figures.end > np.arange(len(figures)) + 1
        if len(figures):
            self.expanded[0] = True
            self.reveal(figures.worst)

    @property
    def selected(self) -> int:
        """The id of the call under the cursor, −1 in a tree without calls."""
        return int(self.rows[self.cursor]) if len(self.rows) else -1

    def row_of(self, node: int) -> int | None:
        """The row of a call, or None if it is not shown."""
        row = int(np.searchsorted(self.rows, node))
        return row if row < len(self.rows) and self.rows[row] == node else None

    def move(self, row: int) -> None:
        """Put the cursor on a row, or on the nearest one there is."""
        self.cursor = max(0, min(row, len(self.rows) - 1))

    def select(self, node: int) -> None:
        """Put the cursor on a shown call, or on the nearest ancestor that is shown."""
        row = self.row_of(node)
        while row is None and node >= 0 and self.figures.parent[node] >= 0:
            node = int(self.figures.parent[node])
            row = self.row_of(node)
        self.cursor = row or 0

    def reveal(self, node: int) -> None:
        """Open everything on the way to a call and select it; a filter that hides the call is taken off."""
        if self.only_diverging and not self._leads_to_divergence[node]:
            self.toggle_only_diverging()
        for ancestor in self._ancestors(node):
            self.expanded[ancestor] = True
        self._refresh(node)

    def toggle(self, node: int) -> None:
        """Open a closed call, close an open one."""
        if self._has_children[node]:
            self.expanded[node] = not self.expanded[node]
            self._refresh(node)

    def expand_all(self) -> None:
        """Open every call that has something inside."""
        selected = self.selected
        self.expanded = self._has_children.copy()
        self._refresh(selected)

    def collapse_all(self) -> None:
        """Close everything but the model itself."""
        selected = self.selected
        self.expanded = np.zeros(len(self.figures), dtype=np.bool_)
        self.expanded[:1] = True
        self._refresh(selected)

    def toggle_only_diverging(self) -> None:
        """Show only diverging calls and what they are in, all open; or the tree as it was before."""
        selected = self.selected
        self.only_diverging = not self.only_diverging
        if self.only_diverging:
            self._before_filter = self.expanded.copy()
            self.expanded = self._has_children & self._leads_to_divergence
        elif self._before_filter is not None:
            self.expanded = self._before_filter
        self._refresh(selected)

    def next_of(self, nodes: Ints, forward: bool) -> int | None:
        """The next of `nodes` (sorted ids) after the selected call, or the one before; round the end. None if empty."""
        if not len(nodes):
            return None
        if forward:
            place = int(np.searchsorted(nodes, self.selected, side="right")) % len(nodes)
        else:
            place = int(np.searchsorted(nodes, self.selected, side="left")) - 1
        return int(nodes[place])

    def _ancestors(self, node: int) -> list[int]:
        found = []
        parent = int(self.figures.parent[node])
        while parent >= 0:
            found.append(parent)
            parent = int(self.figures.parent[parent])
        return found

    def _refresh(self, selected: int) -> None:
        size = len(self.figures)
        closed = np.flatnonzero(~self.expanded & self._has_children)
        begins = np.bincount(closed + 1, minlength=size + 1)
        ends = np.bincount(self.figures.end[closed], minlength=size + 1)
        shown = np.cumsum(begins - ends)[:size] == 0
        if self.only_diverging:
            shown &= self._leads_to_divergence
            shown[:1] = True
        self.rows = np.flatnonzero(shown)
        self.select(selected)
