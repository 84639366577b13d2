"""The table of heads with a cursor: layers down, heads across."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.events import Click
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.keys import Scope
from tui.lines import heads as head_lines
from tui.lines.heads import HeadLayout, HeadTable
from tui.widgets.lines import look_of, selected_row, strip_of

_HEADING = 1


class HeadGrid(ScrollView, can_focus=True):
    """Paints a table of heads; the heading stays when it scrolls down, names and totals when it scrolls sideways."""

    SCOPE: ClassVar[Scope] = "heads"

    @dataclass
    class Moved(Message):
        """The cursor came to another head."""

    @dataclass
    class Chosen(Message):
        """The selected head was clicked."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.table = HeadTable((), {})
        self.row = 0
        self.head = 0
        self.first = 0

    def show(self, table: HeadTable) -> None:
        """Show a table; the cursor stays where it is."""
        self.table = table
        self._fit()
        self._keep_in_view()
        self.refresh()

    def move_to(self, row: int, head: int) -> None:
        """Put the cursor on a head, or on the nearest there is."""
        if not self.table.attentions:
            return
        self.row = max(0, min(row, len(self.table.attentions) - 1))
        self.head = max(0, min(head, self.table.attentions[self.row].heads - 1))
        self._keep_in_view()
        self.refresh()
        self.post_message(self.Moved())

    @property
    def page(self) -> int:
        """Rows in view."""
        return max(self.size.height - _HEADING, 1)

    def on_resize(self) -> None:
        """Keep the cursor in view."""
        self._fit()
        self._keep_in_view()

    def on_click(self, event: Click) -> None:
        """Select the head that was clicked; a second time, choose it."""
        offset = event.get_content_offset(self)
        given = self._layout
        if offset is None or offset.y < _HEADING:
            return
        row = offset.y - _HEADING + round(self.scroll_y)
        if row >= len(self.table.attentions):
            return
        across = (offset.x - given.name - given.total) // given.cell
        head = self.first + across if 0 <= across < given.visible else self.head
        if (row, head) == (self.row, self.head):
            self.post_message(self.Chosen())
        else:
            self.move_to(row, head)

    def render_line(self, y: int) -> Strip:
        """The numbers of the heads, or a layer."""
        base, width, look, given = self.rich_style, self.size.width, look_of(self), self._layout
        if y < _HEADING:
            line = head_lines.heading(self.table, given, self.first, self.head)
            return strip_of(line, width, look).apply_style(base)
        index = y - _HEADING + self.scroll_offset.y
        if index >= len(self.table.attentions):
            return Strip.blank(width, base)
        cells, frozen = head_lines.row(self.table, given, index, self.first)
        if index != self.row:
            return strip_of(cells, width, look).apply_style(base)
        at = frozen + self.head - self.first
        return selected_row(cells, frozen, at, width, look, self.has_focus).apply_style(base)

    @property
    def _layout(self) -> HeadLayout:
        return head_lines.layout(self.table, self.scrollable_content_region.width)

    def _fit(self) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, len(self.table.attentions) + _HEADING)

    def _keep_in_view(self) -> None:
        if not self.size.height or not self.table.attentions:
            return
        given = self._layout
        if self.head < self.first:
            self.first = self.head
        elif self.head >= self.first + given.visible:
            self.first = self.head - given.visible + 1
        top = round(self.scroll_y)
        if self.row < top:
            self.scroll_to(y=self.row, animate=False, force=True)
        elif self.row >= top + self.page:
            self.scroll_to(y=self.row - self.page + 1, animate=False, force=True)
