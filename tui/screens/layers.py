"""The first screen: the verdict, the layer tree on the worst call, the detail of the call, the tokens."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.content import Content
from textual.events import Resize
from textual.timer import Timer
from textual.widget import Widget

from tracer.text import clean, percentage
from tui import actions
from tui.lines import layers as layer_lines
from tui.lines.format import plural
from tui.looks.panes import titled
from tui.screens.tree_screen import TreeScreen
from tui.widgets.crumbs import Crumbs
from tui.widgets.detail import Detail
from tui.widgets.header import SHORT
from tui.widgets.layer_tree import LayerTree
from tui.widgets.search import SearchBar
from tui.widgets.tokens import Tokens

WIDE = 140
LOW = 30
_DETAIL_DELAY = 0.04


class LayersScreen(TreeScreen):
    """Holds the panes, and says which are shown at this size.

    From 140 cells on all panes are shown; below that detail and tokens share a place. On a low screen the tokens take
    the tree's room as well, and on a short one only the pane with the focus is shown.
    """

    SCOPE = "layers"
    READING = layer_lines.READING
    DEFAULT_CSS = (
        titled("LayersScreen", "#tree", "#detail", "#tokens")
        + """
    LayersScreen {
        #main { height: 1fr; layout: vertical; }
        #crumbs {
            height: 1;
            padding: 0 1;
            color: $secondary;
            link-style: none;
            link-color: $secondary;
            link-style-hover: bold;
            link-background-hover: $background;
            link-color-hover: $foreground;
        }
        #tree { height: 1fr; min-height: 4; }
        #detail { height: 42%; min-height: 6; max-height: 22; }
        #tokens { height: 62%; min-height: 6; }
        &.wide #body { layout: horizontal; }
        &.wide #main { width: 1fr; height: 100%; }
        &.wide #tokens { width: 42%; height: 100%; max-height: 100%; max-width: 96; }
        &.wide #detail { max-height: 24; }
        &.alone #tokens { height: 1fr; }
        &.short #tree, &.short #detail, &.short #tokens { height: 1fr; max-height: 100%; min-height: 1; padding: 0; }
    }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("layers")]
    AUTO_FOCUS = "#tree"

    def __init__(self) -> None:
        super().__init__()
        self._lower = "detail"
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
        self.layer_tree.model = self.session.trace.run.model
        self.show_tree()
        self.tokens.show_run(self.session.trace.run)
        self.query_one("#crumbs").refresh()
        self.detail.show_call(self.layer_tree.selected)

    def on_resize(self, event: Resize) -> None:
        """Give every pane the room it needs at this size."""
        self._arrange()

    def select(self, node: int) -> None:
        """Put the cursor on a call, and show it."""
        if self.is_mounted:
            self.focus_pane(self.layer_tree)
            self.layer_tree.go_to(node)

    @property
    def detail(self) -> Detail:
        return self.query_one("#detail", Detail)

    @property
    def tokens(self) -> Tokens:
        return self.query_one("#tokens", Tokens)

    def on_layer_tree_selected(self, event: LayerTree.Selected) -> None:
        """Show the detail once the cursor rests, so that a held key is not slowed down by reading."""
        self.session.node = self.layer_tree.selected
        if self._detail_timer is not None:
            self._detail_timer.stop()
        self._detail_timer = self.set_timer(_DETAIL_DELAY, self._follow)
        self.cursor_moved()

    def on_detail_tensor_wanted(self, event: Detail.TensorWanted) -> None:
        """View a tensor that was clicked."""
        self.host.open_tensor(event.node, event.name, event.slot)

    def action_expand_all(self) -> None:
        """Open every call."""
        self.layer_tree.expand_all()

    def action_collapse_all(self) -> None:
        """Close every call."""
        self.layer_tree.collapse_all()

    def action_tokens(self) -> None:
        """Show the tokens and give them the keys; back to the tree, and the detail where they share a place."""
        if self._wide or self._low:
            self.focus_pane(self.layer_tree if self.tokens.has_focus else self.tokens)
        elif self._lower == "tokens":
            self._lower = "detail"
            self.focus_pane(self.layer_tree)
        else:
            self.focus_pane(self.tokens)

    def action_tensor(self) -> None:
        """View the tensors of the selected call."""
        if len(self.figures):
            self.host.open_tensor(self.layer_tree.selected)

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

    def _turn(self, step: int) -> None:
        panes: list[Widget] = [self.layer_tree, self.detail, self.tokens]
        focused = self.focused
        place = panes.index(focused) if focused in panes else 0
        self.focus_pane(panes[(place + step) % len(panes)])

    def focus_pane(self, pane: Widget) -> None:
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

    def _follow(self) -> None:
        """Show what belongs to the selected call."""
        if self.is_mounted:
            self.query_one("#crumbs").refresh()
            self.detail.show_call(self.layer_tree.selected)

    def name_panes(self) -> None:
        """Say in the titles how many calls there are, and which of them are shown in which order."""
        outline, session = self.layer_tree.outline, self.session
        count = len(self.figures.diverging)
        parts = ["Layers", plural(len(self.figures), "call")]
        parts.append(f"{count} diverging (at least {percentage(session.threshold)} of Σ|leak|)")
        if self.filter:
            parts.append(clean(self.filter.words))
        if outline.flat:
            parts.append(f"by {'own time' if outline.sort == 'time' else outline.sort}")
        if session.marks:
            parts.append(plural(len(session.marks), "mark"))
        self.layer_tree.border_title = Content("   ".join(parts))
        self.detail.border_title = "Detail"
        self.tokens.border_title = "Tokens"
