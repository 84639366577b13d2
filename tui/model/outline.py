"""Which calls the tree shows, in which order, and where its cursor is.

In execution order it is a tree: a call is shown if all calls around it are open and the filter keeps it. Sorted by a
figure it is a flat list of single calls, the largest first: a sum over the calls inside would only repeat the worst.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from tracer.records import Bools, Floats
from tui.model.figures import Figures, Ints

Sort = Literal["order", "leak", "gain", "time"]
SORTS: tuple[Sort, ...] = get_args(Sort)


class Outline:
    """The open containers of a tree and the rows that follow from them.

    `rows` are the ids of the shown calls and `cursor` an index into it. Everything is one pass over arrays, so that
    100 000 calls open, close and sort in milliseconds.
    """

    def __init__(self, figures: Figures) -> None:
        self.figures = figures
        self.expanded: Bools = np.zeros(len(figures), dtype=np.bool_)
        self.sort: Sort = "order"
        self.rows: Ints = np.zeros(0, dtype=np.int64)
        self.cursor = 0
        self._kept: Bools | None = None
        self._only_diverging = False
        self._before_filter: Bools | None = None
        self._take(figures)
        if len(figures):
            self.expanded[0] = True
            self.reveal(figures.worst)

    @property
    def selected(self) -> int:
        """The id of the call under the cursor, −1 where no call is shown."""
        return int(self.rows[self.cursor]) if len(self.rows) else -1

    @property
    def flat(self) -> bool:
        """Whether this is a list of calls by a figure, not a tree."""
        return self.sort != "order"

    @property
    def filtered(self) -> bool:
        """Whether a filter hides calls."""
        return self._kept is not None

    @property
    def only_diverging(self) -> bool:
        """Whether only diverging calls are shown, and what they are in."""
        return self._only_diverging

    def show_figures(self, figures: Figures) -> None:
        """Other figures of these calls, or of these and more; what is open stays open."""
        selected, more = self.selected, len(figures) - len(self.figures)
        self.figures = figures
        if more < 0:
            self.expanded, self._before_filter = self.expanded[: len(figures)], None
            self._kept = None if self._kept is None else self._kept[: len(figures)]
            more = 0
        none = np.zeros(more, dtype=np.bool_)
        first = not len(self.expanded)
        self.expanded = np.concatenate((self.expanded, none))
        self.expanded[:1] |= first
        if self._before_filter is not None:
            self._before_filter = np.concatenate((self._before_filter, none))
        if self._kept is not None:
            self._kept = np.concatenate((self._kept, none))
        self._take(figures)
        if self._only_diverging:
            self._keep(figures.severity > 0)
        self._refresh(min(selected, len(figures) - 1))

    def row_of(self, node: int) -> int | None:
        """The row of a call, None if it is not shown."""
        row = int(self._row_of[node]) if 0 <= node < len(self._row_of) else -1
        return row if row >= 0 else None

    def move(self, row: int) -> None:
        """Put the cursor on a row, or on the nearest one there is."""
        self.cursor = max(0, min(row, len(self.rows) - 1))

    def select(self, node: int) -> None:
        """Put the cursor on a shown call, or on the nearest ancestor that is shown, or else on the first row."""
        row = self.row_of(node)
        while row is None and node >= 0 and self.figures.parent[node] >= 0:
            node = int(self.figures.parent[node])
            row = self.row_of(node)
        self.cursor = row or 0

    def reveal(self, node: int) -> None:
        """Open everything on the way to a call and select it; a filter that hides the call is taken off."""
        if self._kept is not None and not (self._kept if self.flat else self._leads)[node]:
            self.filter(None)
        for ancestor in self.ancestors(node):
            self.expanded[ancestor] = True
        self._refresh(node)

    def toggle(self, node: int) -> None:
        """Open a closed call, close an open one. Opening goes on as long as there is only one call inside."""
        if not self._has_children[node]:
            return
        self.expanded[node] = not self.expanded[node]
        if self.expanded[node]:
            only = node + 1
            while self._has_children[only] and self.figures.end[only] == self.figures.end[node]:
                self.expanded[only] = True
                only += 1
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
        on = not self._only_diverging
        self.filter(self.figures.severity > 0 if on else None)
        self._only_diverging = on

    def filter(self, kept: Bools | None) -> None:
        """Show only these calls and what they are in, all open; with None the tree as it was before any filter."""
        selected = self.selected
        self._only_diverging = False
        if kept is None:
            self._kept = None
            if self._before_filter is not None:
                self.expanded, self._before_filter = self._before_filter, None
                if selected >= 0:
                    self.expanded[self.ancestors(selected)] = True
        else:
            if self._before_filter is None:
                self._before_filter = self.expanded.copy()
            self._keep(kept)
            self.expanded = self._has_children & self._leads
        self._refresh(selected)

    def sort_by(self, sort: Sort) -> None:
        """Show the tree, or all calls that the filter keeps as a list by a figure; the same call stays selected."""
        selected = self.selected
        self.sort = sort
        if sort == "order" and selected >= 0:
            self.expanded[self.ancestors(selected)] = True
        self._refresh(selected)

    def next_of(self, nodes: Ints, forward: bool) -> int | None:
        """The next of `nodes` (sorted ids) after the selected call as they are shown, or the one before; round the end.

        In a list those that it shows count; None without any.
        """
        if self.flat and len(nodes):
            nodes = np.sort(self._row_of[nodes])
            nodes = nodes[nodes >= 0]
        if not len(nodes):
            return None
        present = self.cursor if self.flat else self.selected
        if forward:
            place = int(np.searchsorted(nodes, present, side="right")) % len(nodes)
        else:
            place = int(np.searchsorted(nodes, present, side="left")) - 1
        return int(self.rows[nodes[place]] if self.flat else nodes[place])

    def ancestors(self, node: int) -> list[int]:
        """The calls around a call, the innermost first."""
        found = []
        parent = int(self.figures.parent[node])
        while parent >= 0:
            found.append(parent)
            parent = int(self.figures.parent[parent])
        return found

    def _take(self, figures: Figures) -> None:
        self._has_children: Bools = figures.end > np.arange(len(figures)) + 1

    def _keep(self, kept: Bools) -> None:
        self._kept = kept
        before = np.concatenate(([0], np.cumsum(kept)))
        self._leads: Bools = before[self.figures.end] > before[:-1]

    def _refresh(self, selected: int) -> None:
        self.rows = self._sorted() if self.flat else self._opened()
        self._row_of = np.full(len(self.figures), -1, dtype=np.int64)
        self._row_of[self.rows] = np.arange(len(self.rows))
        self.select(selected)

    def _opened(self) -> Ints:
        """The calls with everything around them open."""
        size = len(self.figures)
        closed = np.flatnonzero(~self.expanded & self._has_children)
        begins = np.bincount(closed + 1, minlength=size + 1)
        ends = np.bincount(self.figures.end[closed], minlength=size + 1)
        shown = np.cumsum(begins - ends)[:size] == 0
        if self._kept is not None:
            shown &= self._leads
            shown[:1] = True
        return np.flatnonzero(shown)

    def _sorted(self) -> Ints:
        """The calls that the filter keeps, by falling figure; NaN first, as it is worse than any number."""
        order = np.argsort(-np.nan_to_num(_figure(self.figures, self.sort), nan=np.inf, posinf=np.inf), kind="stable")
        return order if self._kept is None else order[self._kept[order]]


def _figure(figures: Figures, sort: Sort) -> Floats:
    if sort == "leak":
        return np.abs(figures.self_leak)
    if sort == "gain":
        # A call without a gain (an embedding of integers) is not worse for it.
        return np.where(np.isnan(figures.gain), -np.inf, figures.gain)
    return figures.own_seconds
