"""A screen with a layer tree and the means to find a call in it: search, filters, sorting, marks, jumps."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
from textual.widget import Widget
from textual.worker import get_current_worker

from tracer.errors import TraceFileError
from tui.lines.format import plural
from tui.model import filters
from tui.model.figures import Figures, Ints
from tui.model.filters import Filter
from tui.model.outline import SORTS, Sort
from tui.model.search import NOTHING, Index, Searchable, read_sources
from tui.screens.base import TraceScreen
from tui.widgets.layer_tree import LayerTree
from tui.widgets.search import SearchBar

_READING_DELAY = 0.2


class TreeScreen(TraceScreen):
    """Has a tree and a search line. A subclass composes them, gives panes the keys, and says what is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = Filter()
        self._filter_before = Filter()
        self._searchable: Searchable | None = None
        self._search_began = -1

    def focus_pane(self, pane: Widget) -> None:
        """Give a pane the keys, and the room if it has none."""
        raise NotImplementedError

    def name_panes(self) -> None:
        """Say in the titles what is shown."""
        raise NotImplementedError

    @property
    def figures(self) -> Figures:
        """The figures of all calls."""
        return self.session.figures

    @property
    def layer_tree(self) -> LayerTree:
        return self.query_one("#tree", LayerTree)

    @property
    def search(self) -> SearchBar:
        return self.query_one("#search", SearchBar)

    def show_tree(self) -> None:
        """Show the figures of the session under the filter, the cursor where it was."""
        if len(self.figures) != len(self.layer_tree.figures):
            self._searchable = None
        self.layer_tree.show_figures(self.figures)
        if self.filter:
            self.layer_tree.filter(filters.kept(self.figures, self.filter, self._find))
        self.name_panes()

    def cursor_moved(self) -> None:
        """Say which hit the cursor is on; drop the filter if a jump to a call that it hides has removed it."""
        if self.filter and not self.layer_tree.outline.filtered:
            self.filter = Filter()
            self.name_panes()
        if self.search.display and not self.search.filters:
            self._report_hits()

    def on_layer_tree_sort_wanted(self, event: LayerTree.SortWanted) -> None:
        """Sort as the tree asks."""
        self._sort(event.sort)

    def on_search_bar_typed(self, event: SearchBar.Typed) -> None:
        """Mark what the query finds and go to the best of it; or filter by it."""
        if self.search.filters:
            self.filter = Filter(self.filter.diverging, self.filter.families, event.query)
            self._apply_filter()
            return
        hits = self._searched.index.find(event.query)
        self.layer_tree.show_hits(hits)
        if len(hits):
            self.layer_tree.go_to(int(hits.ranked[0]))
        elif self._search_began >= 0:
            self.layer_tree.go_to(self._search_began)
        self._report_hits()

    def on_search_bar_kept(self) -> None:
        """Leave the query; its hits stay."""
        if self.search.filters:
            self.search.close()
            self.focus_pane(self.layer_tree)
        elif not len(self.layer_tree.hits):
            self.on_search_bar_ended()
        else:
            if self.layer_tree.selected != self._search_began:
                self.session.history.leave(self._search_began)
            self.focus_pane(self.layer_tree)
            self.call_after_refresh(self._report_hits)

    def on_search_bar_ended(self) -> None:
        """Give the search up and go back to where it began, or to the filter before."""
        if self.search.filters:
            self.filter = self._filter_before
            self.search.close()
            self._apply_filter()
            self.focus_pane(self.layer_tree)
        else:
            self._end_search()
        if self._search_began >= 0:
            self.layer_tree.go_to(self._search_began)

    def action_worst(self) -> None:
        """Go to the call with the largest |self leak|."""
        if len(self.figures):
            self._jump(self.figures.worst)

    def action_next(self) -> None:
        """Go to the next hit or divergence."""
        self._step(forward=True)

    def action_previous(self) -> None:
        """Go to the hit or divergence before."""
        self._step(forward=False)

    def action_search(self) -> None:
        """Open the search line."""
        if len(self.figures):
            self._end_search()
            self._search_began = self.layer_tree.selected
            self._begin_reading()
            self.search.open()
            self._report_hits()

    def action_end_search(self) -> None:
        """End the search; without one, take the filter off, or go back to the tree."""
        if self.search.display:
            self._end_search()
        elif self.layer_tree.has_focus and self.filter:
            self._choose_filter("none")
        elif self.layer_tree.has_focus and self.layer_tree.outline.flat:
            self._sort("order")
        elif self.layer_tree.has_focus:
            self.host.leave_trace()
        self.focus_pane(self.layer_tree)

    def action_only_diverging(self) -> None:
        """Show only diverging calls, or all again."""
        self._choose_filter("diverging")

    def action_filter(self) -> None:
        from tui.lines.menus import filter_items

        self.offer("Show only", partial(filter_items, self.figures, self.filter), self._choose_filter)

    def action_sort(self) -> None:
        """Offer the orders."""
        from tui.lines.menus import sort_items

        self.offer("Sort by", partial(sort_items, self.layer_tree.outline.sort), self._choose_sort)

    def action_columns(self) -> None:
        from tui.lines.menus import column_items

        self.offer("Columns", lambda: column_items(self.session.settings.columns), self._choose_column, stays=True)

    def action_threshold(self, step: int) -> None:
        """A higher or a lower share from which on a call counts as diverging."""
        if self.session.step_threshold(step):
            self.host.session_changed()

    def action_mark(self) -> None:
        """Mark the selected call, or take its mark away."""
        node = self.layer_tree.selected
        if node >= 0:
            self.session.marks ^= {node}
            self.layer_tree.show_marks(self.session.marks)
            self.name_panes()

    def action_next_mark(self, step: int) -> None:
        """Go to the next mark, or to the one before."""
        node = self.layer_tree.outline.next_of(np.array(sorted(self.session.marks), dtype=np.int64), step > 0)
        if node is None:
            self.host.say("No call is marked: m marks one.")
        else:
            self._jump(node)

    def action_crumb(self, node: int) -> None:
        """Go to a call around the selected one."""
        self._jump(node)

    def _jump(self, node: int) -> None:
        """Go to a call so that the way back is remembered."""
        self.host.go_to(node)

    def _step(self, forward: bool) -> None:
        node = self.layer_tree.next_call(forward)
        if node is None:
            self.host.say("No call diverges.")
        elif node == self.layer_tree.selected:
            self.host.say("This is the only one.")
        else:
            self._jump(node)

    def _sort(self, sort: Sort) -> None:
        self.layer_tree.sort_by(sort)
        self.name_panes()

    def _choose_sort(self, name: str) -> None:
        self._sort(next(sort for sort in SORTS if sort == name))

    def _choose_column(self, name: str) -> None:
        from tui.lines.menus import toggled_column

        columns = toggled_column(self.session.settings.columns, name)
        self.session.settings = self.session.settings.with_columns(columns)
        self.layer_tree.show_columns(columns)

    def _choose_filter(self, name: str) -> None:
        if name == "text":
            self._filter_before, self._search_began = self.filter, self.layer_tree.selected
            self._end_search()
            self._begin_reading()
            self.search.open(filters=True, text=self.filter.text)
            return
        wanted = Filter() if name == "none" else self.filter.toggled(name)
        kept = filters.kept(self.figures, wanted, self._find)
        if kept is not None and not kept.any():
            self.host.say("No call diverges." if name == "diverging" else f"Nothing here: {wanted.words}.")
            return
        self.filter = wanted
        self._apply_filter()

    def _apply_filter(self) -> None:
        kept = filters.kept(self.figures, self.filter, self._find)
        self.layer_tree.filter(kept)
        self.name_panes()
        if self.search.display and self.search.filters:
            self.search.say(plural(len(self.figures) if kept is None else int(np.count_nonzero(kept)), "call"))

    def _end_search(self) -> None:
        self.layer_tree.show_hits(NOTHING)
        typing = self.search.typing
        self.search.close()
        if typing:
            self.focus_pane(self.layer_tree)

    def _report_hits(self) -> None:
        hits = self.layer_tree.hits
        self.search.report(len(hits), hits.place_of(self.layer_tree.selected), hits.loosely)

    def _find(self, query: str) -> Ints:
        return self._searched.index.find(query).ranked

    @property
    def _searched(self) -> Searchable:
        """The texts to search, made when they are first asked for."""
        if self._searchable is None:
            self._searchable = Searchable(self.figures)
        return self._searchable

    def _begin_reading(self) -> None:
        """Read the source lines in a thread, a moment after the search line is shown; then they are searched too."""
        searchable = self._searched
        if not searchable.reading:
            searchable.reading = True
            self.run_worker(partial(self._read_sources, searchable), thread=True, exit_on_error=False)

    def _read_sources(self, searchable: Searchable) -> None:
        worker = get_current_worker()
        time.sleep(_READING_DELAY)
        try:
            sources = read_sources(self.session.trace, lambda: worker.is_cancelled)
        except TraceFileError as error:
            self.app.call_from_thread(self.host.say, f"No search of source lines: {error}")
            return
        if sources is not None and len(sources) == len(searchable):
            self.app.call_from_thread(self._search_again, searchable, searchable.completed(sources))

    def _search_again(self, searchable: Searchable, index: Index) -> None:
        searchable.replace(index)
        if self.search.display and self.search.query_text:
            self.on_search_bar_typed(SearchBar.Typed(self.search.query_text))
