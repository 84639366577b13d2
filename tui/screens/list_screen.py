"""A screen with a list and, under it or beside it, the selected line in full."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Container
from textual.events import Resize

from tui.looks.panes import titled
from tui.looks.roles import Line
from tui.screens.base import TraceScreen
from tui.widgets.header import SHORT
from tui.widgets.line_list import LineList
from tui.widgets.lines import Lines, LinesView

WIDE = 140


class ListScreen(TraceScreen):
    """Side by side on a wide screen; on a short one only the pane with the focus is shown.

    A subclass calls `show_list` or `show_nothing` when it refreshes, and says in `lines_of` what a line stands for.
    """

    DEFAULT_CSS = (
        titled("ListScreen", "#list", "#full")
        + """
    ListScreen {
        #listed { height: 1fr; layout: vertical; }
        &.wide #listed { layout: horizontal; }
        #full { height: 1fr; }
        &.wide #list, &.wide #full { width: 1fr; height: 100%; }
        &.short #list, &.short #full { padding: 0; }
        #nothing { padding: 1 2; }
    }
    """
    )
    AUTO_FOCUS: ClassVar[str | None] = "#list"

    def compose_body(self) -> ComposeResult:
        """The list, the selected line in full, and why there may be nothing."""
        with Container(id="listed"):
            yield LineList(id="list")
            yield LinesView(id="full")
        yield LinesView(id="nothing")

    @property
    def line_list(self) -> LineList:
        return self.query_one("#list", LineList)

    @property
    def full(self) -> LinesView:
        """The selected line in full."""
        return self.query_one("#full", LinesView)

    def lines_of(self, index: int, width: int) -> list[Line]:
        """A line of the list in full."""
        raise NotImplementedError

    def show_list(
        self,
        title: str,
        full_title: str,
        count: int,
        heading: Callable[[int], Line],
        row: Callable[[int, int], Line],
    ) -> None:
        """Show a list of `count` lines."""
        self._show_which(True)
        self.line_list.border_title = title
        self.full.border_title = full_title
        self.line_list.show(count, heading, row)
        self._tell()
        self._arrange()

    def show_nothing(self, lines: Callable[[int], Lines]) -> None:
        """Say why there is no list."""
        self._show_which(False)
        self.query_one("#nothing", LinesView).show(lines)

    def on_resize(self, event: Resize) -> None:
        """Give both panes the room they need at this size."""
        self._arrange()

    def on_line_list_moved(self, event: LineList.Moved) -> None:
        """Show the line under the cursor."""
        self._tell()

    def action_switch_pane(self) -> None:
        """Give the keys to the line in full, or back to the list."""
        if not self.line_list.count:
            return
        pane = self.full if self.line_list.has_focus else self.line_list
        self._arrange(to_full=pane is self.full)
        pane.focus(scroll_visible=False)

    def _show_which(self, there: bool) -> None:
        self.query_one("#listed").display = there
        self.query_one("#nothing").display = not there
        if not there:
            self.line_list.count = 0

    def _tell(self) -> None:
        if self.line_list.count:
            index = self.line_list.cursor
            self.full.show(lambda width: self.lines_of(index, width))

    def _arrange(self, to_full: bool | None = None) -> None:
        if not self.line_list.count:
            return
        full = self.full.has_focus if to_full is None else to_full
        short, wide = self.app.size.height < SHORT, self.app.size.width >= WIDE
        self.set_class(wide, "wide")
        self.set_class(short, "short")
        self.line_list.display = not (short and full)
        self.full.display = not short or full
        most = max(self.app.size.height * 2 // 5, 5)
        self.line_list.styles.height = "1fr" if wide or short else min(self.line_list.count + 2, most)
