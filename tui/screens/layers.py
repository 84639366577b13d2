"""The first screen: the verdict, the layer tree on the worst call, the detail of the call, the tokens."""

from __future__ import annotations

import time
from functools import partial
from typing import ClassVar

import numpy as np
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.content import Content
from textual.events import Resize
from textual.timer import Timer
from textual.widget import Widget
from textual.worker import get_current_worker

from tracer.errors import TraceFileError
from tracer.plain import clean, percentage
from tui import actions, filters
from tui.figures import Figures, Ints
from tui.filters import Filter
from tui.format import plural
from tui.outline import SORTS, Sort
from tui.screens.base import TraceScreen
from tui.search import NOTHING, Index
from tui.searching import Searchable, read_sources
from tui.widgets.crumbs import Crumbs
from tui.widgets.detail import Detail
from tui.widgets.header import SHORT
from tui.widgets.layer_tree import LayerTree
from tui.widgets.search import SearchBar
from tui.widgets.tokens import Tokens

WIDE = 140
LOW = 30
_DETAIL_DELAY = 0.04
_READING_DELAY = 0.2


class LayersScreen(TraceScreen):
    """Holds the panes, says which are seen at this size, and carries out the actions of the table.

    From 140 cells on all panes are seen; below that detail and tokens share a place. On a low screen the tokens take
    the tree's room as well, and on a short one the pane with the keys has it all.
    """

    NAME = "layers"
    SCOPE = "layers"
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("layers")]
    AUTO_FOCUS = "#tree"

    def __init__(self) -> None:
        super().__init__()
        self._lower = "detail"
        self._searchable: Searchable | None = None
        self._search_began = -1
        self._filter = Filter()
        self._filter_before = Filter()
        self._detail_timer: Timer | None = None

    def compose_body(self) -> ComposeResult:
        """The way to the call, the tree, the detail, the tokens."""
        with Container(id="main"):
            yield Crumbs(self.session, id="crumbs")
            yield LayerTree(self.session.figures, self.session.trace.run.model, id="tree")
            yield Detail(self.session, id="detail")
        yield Tokens(self.session.trace.run, id="tokens")

    def compose_below(self) -> ComposeResult:
        """The search line."""
        yield SearchBar(id="search")

    def on_mount(self) -> None:
        """Show the worst call."""
        self.search.display = False
        self.layer_tree.show_columns(self.session.settings.columns)
        self.layer_tree.show_marks(self.session.marks)
        self._arrange()

    def refresh_session(self) -> None:
        """Show the figures of the session, the cursor where it was."""
        if len(self.session.figures) != len(self.layer_tree.figures):
            self._searchable = None
        self.layer_tree.model = self.session.trace.run.model
        self.layer_tree.show_figures(self.session.figures)
        self.tokens.show_run(self.session.trace.run)
        if self._filter:
            self.layer_tree.filter(filters.kept(self.figures, self._filter, self._find))
        self._name_panes()
        self.query_one("#crumbs").refresh()
        self.detail.show_call(self.layer_tree.selected)

    def on_resize(self, event: Resize) -> None:
        """Give every pane the room it needs at this size."""
        self._arrange()

    def select(self, node: int) -> None:
        """Put the cursor on a call, and show it."""
        if self.is_mounted:
            self._focus(self.layer_tree)
            self.layer_tree.go_to(node)

    @property
    def figures(self) -> Figures:
        """The figures of all calls."""
        return self.session.figures

    @property
    def layer_tree(self) -> LayerTree:
        """The layer tree."""
        return self.query_one("#tree", LayerTree)

    @property
    def detail(self) -> Detail:
        """The detail pane."""
        return self.query_one("#detail", Detail)

    @property
    def tokens(self) -> Tokens:
        """The token pane."""
        return self.query_one("#tokens", Tokens)

    @property
    def search(self) -> SearchBar:
        """The search line."""
        return self.query_one("#search", SearchBar)

    def on_layer_tree_selected(self, event: LayerTree.Selected) -> None:
        """Show the detail once the cursor rests, so that a held key is not slowed down by reading."""
        self.session.node = self.layer_tree.selected
        if self._detail_timer is not None:
            self._detail_timer.stop()
        self._detail_timer = self.set_timer(_DETAIL_DELAY, self._follow)
        if self.search.display and not self.search.filters:
            self._report_hits()

    def on_layer_tree_sort_wanted(self, event: LayerTree.SortWanted) -> None:
        """Sort as the tree asks."""
        self._sort(event.sort)

    def on_detail_tensor_wanted(self, event: Detail.TensorWanted) -> None:
        """View a tensor that was clicked."""
        self.tracer_app.open_tensor(event.node, event.name, event.slot)

    def on_search_bar_typed(self, event: SearchBar.Typed) -> None:
        """Mark what the query finds and go to the best of it; or filter by it."""
        if self.search.filters:
            self._filter = Filter(self._filter.diverging, self._filter.families, event.query)
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
            self._focus(self.layer_tree)
        elif not len(self.layer_tree.hits):
            self.on_search_bar_ended()
        else:
            if self.layer_tree.selected != self._search_began:
                self.session.history.leave(self._search_began)
            self._focus(self.layer_tree)
            self.call_after_refresh(self._report_hits)

    def on_search_bar_ended(self) -> None:
        """Give the search up and go back to where it began, or to the filter before."""
        if self.search.filters:
            self._filter = self._filter_before
            self.search.close()
            self._apply_filter()
            self._focus(self.layer_tree)
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
        elif self.layer_tree.has_focus and self._filter:
            self._choose_filter("none")
        elif self.layer_tree.has_focus and self.layer_tree.outline.flat:
            self._sort("order")
        elif self.layer_tree.has_focus:
            self.tracer_app.leave_trace()
        self._focus(self.layer_tree)

    def action_only_diverging(self) -> None:
        """Show only diverging calls, or all again."""
        self._choose_filter("diverging")

    def action_filter(self) -> None:
        """Offer the filters."""
        from tui.menus import filter_items

        self.offer("Show only", partial(filter_items, self.figures, self._filter), self._choose_filter)

    def action_sort(self) -> None:
        """Offer the orders."""
        from tui.menus import sort_items

        self.offer("Sort by", partial(sort_items, self.layer_tree.outline.sort), self._choose_sort)

    def action_columns(self) -> None:
        """Offer the columns."""
        from tui.menus import column_items

        self.offer("Columns", lambda: column_items(self.session.settings.columns), self._choose_column, stays=True)

    def action_threshold(self, step: int) -> None:
        """A higher or a lower share from which on a call counts as diverging."""
        if self.session.step_threshold(step):
            self.tracer_app.session_changed()

    def action_mark(self) -> None:
        """Mark the selected call, or take its mark away; then one line down would be in the way of marking again."""
        node = self.layer_tree.selected
        if node >= 0:
            self.session.marks ^= {node}
            self.layer_tree.show_marks(self.session.marks)
            self._name_panes()

    def action_next_mark(self, step: int) -> None:
        """Go to the next mark, or to the one before."""
        node = self.layer_tree.outline.next_of(np.array(sorted(self.session.marks), dtype=np.int64), step > 0)
        if node is None:
            self.tracer_app.say("No call is marked: m marks one.")
        else:
            self._jump(node)

    def action_crumb(self, node: int) -> None:
        """Go to a call around the selected one."""
        self._jump(node)

    def action_expand_all(self) -> None:
        """Open every call."""
        self.layer_tree.expand_all()

    def action_collapse_all(self) -> None:
        """Close every call."""
        self.layer_tree.collapse_all()

    def action_tokens(self) -> None:
        """Show the tokens and give them the keys; back to the tree, and the detail where they share a place."""
        if self._wide or self._low:
            self._focus(self.layer_tree if self.tokens.has_focus else self.tokens)
        elif self._lower == "tokens":
            self._lower = "detail"
            self._focus(self.layer_tree)
        else:
            self._focus(self.tokens)

    def action_tensor(self) -> None:
        """View the tensors of the selected call."""
        if len(self.figures):
            self.tracer_app.open_tensor(self.layer_tree.selected)

    def action_next_pane(self) -> None:
        """Give the keys to the next pane."""
        self._turn(1)

    def action_previous_pane(self) -> None:
        """Give the keys to the pane before."""
        self._turn(-1)

    @property
    def _wide(self) -> bool:
        return self.app.size.width >= WIDE

    @property
    def _low(self) -> bool:
        return self.app.size.height < LOW

    @property
    def _short(self) -> bool:
        return self.app.size.height < SHORT

    def _jump(self, node: int) -> None:
        """Go to a call so that the way back is remembered."""
        self.tracer_app.go_to(node)

    def _turn(self, step: int) -> None:
        panes: list[Widget] = [self.layer_tree, self.detail, self.tokens]
        focused = self.focused
        place = panes.index(focused) if focused in panes else 0
        self._focus(panes[(place + step) % len(panes)])

    def _focus(self, pane: Widget) -> None:
        """Give a pane the keys, and the room if it has none."""
        if pane is self.detail or pane is self.tokens:
            self._lower = str(pane.id)
        elif self._low:
            self._lower = "detail"
        self._arrange(pane)
        pane.focus(scroll_visible=False)

    def _arrange(self, keys: Widget | None = None) -> None:
        keys = keys or self.focused
        alone = self._low and not self._wide and self._lower == "tokens"
        self.set_class(self._wide, "wide")
        self.set_class(self._short, "short")
        self.set_class(alone, "alone")
        if self._short:
            shown = keys if keys in (self.detail, self.tokens) else self.layer_tree
            for pane in (self.layer_tree, self.detail, self.tokens):
                pane.display = pane is shown
            self.query_one("#crumbs").display = False
        else:
            self.layer_tree.display = not alone
            self.query_one("#crumbs").display = not alone
            self.detail.display = self._wide or self._lower == "detail"
            self.tokens.display = self._wide or self._lower == "tokens"
        self.query_one("#main").display = self.layer_tree.display or self.detail.display

    def _step(self, forward: bool) -> None:
        node = self.layer_tree.next_call(forward)
        if node is None:
            self.tracer_app.say("No call diverges.")
        elif node == self.layer_tree.selected:
            self.tracer_app.say("This is the only one.")
        else:
            self._jump(node)

    def _follow(self) -> None:
        """Show what belongs to the selected call."""
        if self.is_mounted:
            self.query_one("#crumbs").refresh()
            self.detail.show_call(self.layer_tree.selected)

    def _sort(self, sort: Sort) -> None:
        self.layer_tree.sort_by(sort)
        self._name_panes()

    def _choose_sort(self, name: str) -> None:
        self._sort(next(sort for sort in SORTS if sort == name))

    def _choose_column(self, name: str) -> None:
        from tui.menus import toggled_column

        columns = toggled_column(self.session.settings.columns, name)
        self.session.settings = self.session.settings.with_columns(columns)
        self.layer_tree.show_columns(columns)

    def _choose_filter(self, name: str) -> None:
        if name == "text":
            self._filter_before, self._search_began = self._filter, self.layer_tree.selected
            self._end_search()
            self._begin_reading()
            self.search.open(filters=True, text=self._filter.text)
            return
        wanted = Filter() if name == "none" else self._filter.toggled(name)
        kept = filters.kept(self.figures, wanted, self._find)
        if kept is not None and not kept.any():
            self.tracer_app.say("No call diverges." if name == "diverging" else f"Nothing here: {wanted.words}.")
            return
        self._filter = wanted
        self._apply_filter()

    def _apply_filter(self) -> None:
        kept = filters.kept(self.figures, self._filter, self._find)
        self.layer_tree.filter(kept)
        self._name_panes()
        if self.search.display and self.search.filters:
            self.search.say(plural(len(self.figures) if kept is None else int(np.count_nonzero(kept)), "call"))

    def _end_search(self) -> None:
        self.layer_tree.show_hits(NOTHING)
        typing = self.search.typing
        self.search.close()
        if typing:
            self._focus(self.layer_tree)

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
        """Let source lines join the search; a thread reads them once the search line stands there."""
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
            self.app.call_from_thread(self.tracer_app.say, f"No search of source lines: {error}")
            return
        if sources is not None and len(sources) == len(searchable):
            self.app.call_from_thread(self._search_again, searchable, searchable.completed(sources))

    def _search_again(self, searchable: Searchable, index: Index) -> None:
        searchable.replace(index)
        if self.search.display and self.search.query_text:
            self.on_search_bar_typed(SearchBar.Typed(self.search.query_text))

    def _name_panes(self) -> None:
        outline, session = self.layer_tree.outline, self.session
        count = len(self.figures.diverging)
        parts = ["Layers", plural(len(self.figures), "call")]
        parts.append(f"{count} diverging (at least {percentage(session.threshold)} of Σ|leak|)")
        if self._filter:
            parts.append(clean(self._filter.words))
        if outline.flat:
            parts.append(f"by {'own time' if outline.sort == 'time' else outline.sort}")
        if session.marks:
            parts.append(plural(len(session.marks), "mark"))
        self.layer_tree.border_title = Content("   ".join(parts))
        self.detail.border_title = "Detail"
        self.tokens.border_title = "Tokens"
