"""The first screen: the verdict, the layer tree on the worst call, the detail of the call, the tokens."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.events import Resize
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget
from textual.worker import get_current_worker

from tracer.errors import TraceFileError
from tracer.trace import Trace
from tracer.verdict import Verdict
from tui import actions
from tui.figures import Figures
from tui.format import plural
from tui.screens.help import HelpScreen
from tui.search import Index
from tui.widgets.detail import Detail
from tui.widgets.footer import Footer
from tui.widgets.header import SHORT, Header
from tui.widgets.layer_tree import LayerTree
from tui.widgets.search import SearchBar
from tui.widgets.tokens import Tokens

WIDE = 140
LOW = 30
_DETAIL_DELAY = 0.04
_CHUNK = 1_000


class LayersScreen(Screen[None]):
    """Holds the panes, says which are seen at this size, and carries out the actions of the table.

    From 140 cells on all panes are seen; below that detail and tokens share a place. On a low screen the tokens take
    the tree's room as well, and on a short one the pane with the keys has it all.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("screen")]
    AUTO_FOCUS = "#tree"

    def __init__(self, trace: Trace, figures: Figures, verdict: Verdict) -> None:
        super().__init__()
        self.trace = trace
        self.figures = figures
        self.verdict = verdict
        self._lower = "detail"
        self._index: Index | None = None
        self._search_began = -1
        self._detail_timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """Header, tree over detail, tokens, search line, footer."""
        yield Header(self.trace.run, self.verdict, id="header")
        with Container(id="body"):
            with Container(id="main"):
                yield LayerTree(self.figures, self.trace.run.model, id="tree")
                yield Detail(self.trace, self.figures, id="detail")
            yield Tokens(self.trace.run, id="tokens")
        yield SearchBar(id="search")
        yield Footer(id="footer")

    def on_mount(self) -> None:
        """Show the worst call, named in the pane's title."""
        self.search.display = False
        self._name_panes()
        self._lay_out()
        self.detail.show_call(self.layer_tree.selected)

    def on_resize(self, event: Resize) -> None:
        """Give every pane the room it needs at this size."""
        self._lay_out()

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
        if self._detail_timer is not None:
            self._detail_timer.stop()
        self._detail_timer = self.set_timer(_DETAIL_DELAY, lambda: self.detail.show_call(self.layer_tree.selected))
        if self.search.display:
            self._report_hits()

    def on_search_bar_typed(self, event: SearchBar.Typed) -> None:
        """Mark what the query finds, and go to the first of it from where the search began."""
        hits = self._searchable().find(event.query)
        self.layer_tree.mark(hits)
        if len(hits):
            at_or_after = hits[hits >= self._search_began]
            self.layer_tree.go_to(int(at_or_after[0] if len(at_or_after) else hits[0]))
        elif self._search_began >= 0:
            self.layer_tree.go_to(self._search_began)
        self._report_hits()

    def on_search_bar_kept(self) -> None:
        """Leave the query; its hits stay."""
        if not len(self.layer_tree.hits):
            self.on_search_bar_ended()
            return
        self._focus(self.layer_tree)
        self.call_after_refresh(self._report_hits)

    def on_search_bar_ended(self) -> None:
        """Give the search up and go back to where it began."""
        self._end_search()
        if self._search_began >= 0:
            self.layer_tree.go_to(self._search_began)

    def action_worst(self) -> None:
        """Go to the call with the largest |self leak|."""
        if len(self.figures):
            self._focus(self.layer_tree)
            self.layer_tree.go_to(self.figures.worst)

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
            self.search.open()
            self._report_hits()

    def action_end_search(self) -> None:
        """End the search; without one, give the keys back to the tree."""
        if self.search.display:
            self._end_search()
        self._focus(self.layer_tree)

    def action_only_diverging(self) -> None:
        """Show only diverging calls, or all again."""
        if not len(self.figures.diverging):
            self.notify("No call diverges.", markup=False)
            return
        self.layer_tree.toggle_only_diverging()
        self._name_panes()

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

    def action_next_pane(self) -> None:
        """Give the keys to the next pane."""
        self._turn(1)

    def action_previous_pane(self) -> None:
        """Give the keys to the pane before."""
        self._turn(-1)

    def action_help(self) -> None:
        """Show the help."""
        self.app.push_screen(HelpScreen())

    def action_quit(self) -> None:
        """Leave."""
        self.app.exit()

    @property
    def _wide(self) -> bool:
        return self.app.size.width >= WIDE

    @property
    def _low(self) -> bool:
        return self.app.size.height < LOW

    @property
    def _short(self) -> bool:
        return self.app.size.height < SHORT

    def _lay_out(self) -> None:
        self.query_one("#header", Header).lay_out(self.app.size.width, self.app.size.height)
        self._arrange()

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
        else:
            self.layer_tree.display = not alone
            self.detail.display = self._wide or self._lower == "detail"
            self.tokens.display = self._wide or self._lower == "tokens"
        self.query_one("#main").display = self.layer_tree.display or self.detail.display

    def _step(self, forward: bool) -> None:
        before = self.layer_tree.selected
        if not self.layer_tree.step(forward):
            self.notify("No call diverges.", markup=False)
            return
        if self.layer_tree.selected == before:
            self.notify("This is the only one.", markup=False)
        if not self.layer_tree.display:
            self._focus(self.layer_tree)

    def _end_search(self) -> None:
        self.layer_tree.mark(self.layer_tree.hits[:0])
        typing = self.search.typing
        self.search.close()
        if typing:
            self._focus(self.layer_tree)

    def _report_hits(self) -> None:
        hits = self.layer_tree.hits
        places = (hits == self.layer_tree.selected).nonzero()[0]
        self.search.report(len(hits), int(places[0]) if len(places) else None)

    def _searchable(self) -> Index:
        """The index of paths and types at once; source lines join it when they have been read."""
        if self._index is None:
            self._index = Index(self.figures.paths, self.figures.types)
            self.run_worker(self._read_sources, thread=True, exit_on_error=False)
        return self._index

    def _read_sources(self) -> None:
        worker = get_current_worker()
        sources: list[str] = []
        try:
            while len(sources) < len(self.figures) and not worker.is_cancelled:
                sources += [node.source or "" for node in self.trace.nodes[len(sources) : len(sources) + _CHUNK]]
        except TraceFileError as error:
            self.app.call_from_thread(self.notify, f"No search of source lines: {error}", markup=False)
            return
        if not worker.is_cancelled:
            self.app.call_from_thread(self._add_sources, sources)

    def _add_sources(self, sources: list[str]) -> None:
        self._index = Index(self.figures.paths, self.figures.types, sources)
        if self.search.display and self.search.query_text:
            self.layer_tree.mark(self._index.find(self.search.query_text))
            self._report_hits()

    def _name_panes(self) -> None:
        count = len(self.figures.diverging)
        state = "only diverging" if self.layer_tree.outline.only_diverging else f"{count} diverging"
        self.layer_tree.border_title = f"Layers   {plural(len(self.figures), 'call')}   {state}"
        self.detail.border_title = "Detail"
        self.tokens.border_title = "Tokens"
