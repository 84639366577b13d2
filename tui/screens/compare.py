"""Two traces side by side in one tree: where they first differ, and where most."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.events import Resize
from textual.timer import Timer
from textual.worker import get_current_worker

from tracer.analysis.compare import compare
from tracer.errors import TracerError
from tracer.records import Node
from tracer.text import clean
from tracer.tracefile.trace import Trace
from tui import actions
from tui.lines import compare as compare_rows
from tui.lines.compare import Pair
from tui.lines.pieces import paragraph
from tui.looks.panes import titled
from tui.looks.roles import Line, Role
from tui.screens.base import TraceScreen
from tui.widgets.compare_tree import CompareTree
from tui.widgets.header import SHORT, Header
from tui.widgets.layer_tree import LayerTree
from tui.widgets.lines import LinesView
from tui.widgets.short_lines import ShortLines

HIGH = 34
LOW = 22
LARGE = 40_000
"""A comparison of so many calls, in both traces together, is too slow for a key: a thread makes it."""
_DETAIL_DELAY = 0.04
_Wanted = tuple[Trace, Trace, int | None]


class CompareScreen(TraceScreen):
    """Both headlines, the merged tree, and the selected call as both traces have it."""

    SCOPE = "compare"
    READING = compare_rows.READING
    DEFAULT_CSS = (
        titled("CompareScreen", "#pair", "#pair-call")
        + """
    CompareScreen {
        #pair-heads { background: $panel; }
        #pair { height: 1fr; }
        &.short #pair { padding: 0; }
        #pair-empty { padding: 1 2; }
    }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("compare")]
    AUTO_FOCUS = ""

    def __init__(self) -> None:
        super().__init__()
        self._compared: _Wanted | None = None
        self._pair: Pair | None = None
        self._problem = ""
        self._detail_timer: Timer | None = None

    def compose_body(self) -> ComposeResult:
        """Headlines, a place for the tree, the selected call; or why there is nothing to compare."""
        yield ShortLines(8, id="pair-heads")
        yield Container(id="pair")
        yield LinesView(id="pair-call")
        yield LinesView(id="pair-empty")

    @property
    def tree_or_none(self) -> CompareTree | None:
        """The tree, once there is a comparison."""
        return next(iter(self.query(CompareTree)), None)

    def refresh_session(self) -> None:
        """Compare again if the traces or the example have changed."""
        session = self.session
        if session.other is not None:
            wanted = (session.trace, session.other, session.example)
            if wanted != self._compared:
                self._compared = wanted
                if len(session.trace.columns.parent) + len(session.other.columns.parent) < LARGE:
                    self._pair, self._problem = _paired(wanted)
                else:
                    self._problem = self._problem or "Comparing …"
                    self.run_worker(lambda: self._compare(wanted), thread=True, exclusive=True)
        self._show()

    def lay_out_header(self) -> None:
        """Hide the header of one trace where the headlines of both are shown."""
        super().lay_out_header()
        self.query_one("#header", Header).display = self._pair is None

    def on_resize(self, event: Resize) -> None:
        """Give every pane the room it needs at this size."""
        self._arrange()

    def on_layer_tree_selected(self, event: LayerTree.Selected) -> None:
        """Show the call once the cursor rests."""
        if self._detail_timer is not None:
            self._detail_timer.stop()
        self._detail_timer = self.set_timer(_DETAIL_DELAY, self._tell)

    def action_worst(self) -> None:
        """To the call where the two differ most."""
        self._go_to(None if self._pair is None else self._pair.comparison.worst)

    def action_first_divergence(self) -> None:
        """To the first divergence in execution order."""
        self._go_to(None if self._pair is None else self._pair.comparison.first)

    def action_next(self) -> None:
        self._step(True)

    def action_previous(self) -> None:
        """To the divergence before."""
        self._step(False)

    def action_only_diverging(self) -> None:
        """Show only diverging calls, or all again."""
        tree = self.tree_or_none
        if tree is None or not len(tree.figures.diverging):
            self.host.say("No call diverges.")
            return
        tree.toggle_only_diverging()

    def action_expand_all(self) -> None:
        """Open every call."""
        tree = self.tree_or_none
        if tree is not None:
            tree.expand_all()

    def action_collapse_all(self) -> None:
        """Close every call."""
        tree = self.tree_or_none
        if tree is not None:
            tree.collapse_all()

    def action_open_call(self) -> None:
        """Show the call of the first trace in Layers."""
        tree = self.tree_or_none
        if tree is None or self._pair is None or tree.selected < 0:
            return
        node = int(self._pair.a[tree.selected])
        if node < 0:
            self.host.say("Only B has this call, and Layers shows A.")
        else:
            self.host.go_to(node)

    def copyable(self) -> tuple[str, str]:
        """The call's path, and the difference of its self leaks."""
        tree, pair = self.tree_or_none, self._pair
        if tree is None or pair is None or tree.selected < 0:
            return "", ""
        return clean(pair.figures.paths[tree.selected]), repr(float(pair.figures.self_leak[tree.selected]))

    def _compare(self, wanted: _Wanted) -> None:
        """Compare in a thread; the result is dropped if another comparison is wanted by then."""
        pair, problem = _paired(wanted)
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._take, wanted, pair, problem)

    def _take(self, wanted: _Wanted, pair: Pair | None, problem: str) -> None:
        if wanted == self._compared and self.is_mounted:
            self._pair, self._problem = pair, problem
            self._show()

    def _go_to(self, row: int | None) -> None:
        tree = self.tree_or_none
        if tree is None or row is None:
            self.host.say("No call diverges.")
            return
        tree.go_to(row)

    def _step(self, forward: bool) -> None:
        tree = self.tree_or_none
        row = None if tree is None else tree.next_call(forward)
        if tree is not None and row == tree.selected:
            self.host.say("This is the only one.")
            return
        self._go_to(row)

    def _show(self) -> None:
        pair, session = self._pair, self.session
        self._arrange()
        self.lay_out_header()
        if pair is None or session.other is None:
            self.query_one("#pair-empty", LinesView).show(self._empty_lines)
            return
        tree = self.tree_or_none
        if tree is None:
            tree = CompareTree(pair, session.trace.run.model, id="pair-tree")
            self.query_one("#pair").mount(tree)
            tree.focus(scroll_visible=False)
        else:
            tree.show_pair(pair)
        count = len(pair.figures.diverging)
        self.query_one("#pair").border_title = f"Compare   A | B   {count} diverging"
        first, second, example = session.trace.run, session.other.run, session.example
        heads = self.query_one("#pair-heads", ShortLines)
        heads.show(
            lambda width: compare_rows.headline_lines(
                pair, first, second, example, width, short=self.app.size.height < SHORT
            )
        )
        self._tell()

    def _tell(self) -> None:
        tree, pair = self.tree_or_none, self._pair
        if tree is None or pair is None or tree.selected < 0 or not self.query_one("#pair-call").display:
            return
        row = tree.selected
        try:
            nodes = self._node(self.session.trace, int(pair.a[row])), self._node(self.session.other, int(pair.b[row]))
        except TracerError as error:
            text = clean(f"This call cannot be read: {error}")
            self.query_one("#pair-call", LinesView).show(lambda width: paragraph(text, width, Role.WARNING))
            return
        self.query_one("#pair-call", LinesView).show(lambda width: compare_rows.call_lines(pair, row, nodes, width))

    @staticmethod
    def _node(trace: Trace | None, node: int) -> Node | None:
        return None if trace is None or node < 0 else trace.nodes[node]

    def _arrange(self) -> None:
        there, height = self._pair is not None, self.app.size.height
        detail = self.query_one("#pair-call", LinesView)
        for name in ("#pair-heads", "#pair"):
            self.query_one(name).display = there
        was_shown = detail.display
        detail.display = there and height >= LOW
        detail.styles.height = 11 if height >= HIGH else 7
        self.query_one("#pair-empty").display = not there
        self.set_class(height < SHORT, "short")
        if detail.display and not was_shown:
            self._tell()

    def _empty_lines(self, width: int) -> list[Line]:
        if self.session.other is not None:
            return paragraph(clean(self._problem), width, Role.WARNING)
        words = "Open two traces to compare them, A on the left and B on the right:"
        return [
            *paragraph(words, width, Role.TEXT),
            [("  deeplift-tracer view A B", Role.ACCENT)],
        ]


def _paired(wanted: _Wanted) -> tuple[Pair | None, str]:
    """The comparison, or why there is none."""
    try:
        return compare_rows.pair(compare(*wanted), *wanted), ""
    except TracerError as error:
        return None, str(error)
