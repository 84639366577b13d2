"""A list of lines with a cursor, under a heading that does not scroll."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import BindingType
from textual.events import Blur, Click, Focus
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui import actions
from tui.keys import Scope
from tui.looks.roles import Line
from tui.widgets.lines import look_of, selected_strip, strip_of

HEADING = 1


class LineList(ScrollView, can_focus=True):
    """Paints `count` lines; `heading` and `row` make them for a width."""

    SCOPE: ClassVar[Scope] = "list"
    DEFAULT_CSS = "LineList { height: 1fr; padding: 0 0 0 1; }"
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("list")]

    @dataclass
    class Moved(Message):
        """The cursor came to another line."""

        index: int

    @dataclass
    class Chosen(Message):
        """The line of the cursor was clicked."""

        index: int

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.count = 0
        self.cursor = 0
        self._heading: Callable[[int], Line] = lambda width: ()
        self._row: Callable[[int, int], Line] = lambda index, width: ()

    def show(self, count: int, heading: Callable[[int], Line], row: Callable[[int, int], Line]) -> None:
        """Show these lines, the cursor where it was as far as there is such a line."""
        self.count, self._heading, self._row = count, heading, row
        self.cursor = max(0, min(self.cursor, count - 1))
        self.virtual_size = Size(self.scrollable_content_region.width, count + HEADING)
        self._scroll_to_cursor()
        self.refresh()
        self.post_message(self.Moved(self.cursor))

    def action_cursor_down(self) -> None:
        self.move(self.cursor + 1)

    def action_cursor_up(self) -> None:
        self.move(self.cursor - 1)

    def action_page_down(self) -> None:
        self.move(self.cursor + max(self.size.height - HEADING - 1, 1))

    def action_page_up(self) -> None:
        self.move(self.cursor - max(self.size.height - HEADING - 1, 1))

    def action_first(self) -> None:
        self.move(0)

    def action_last(self) -> None:
        self.move(self.count - 1)

    def move(self, index: int) -> None:
        """Put the cursor on a line, or on the nearest there is."""
        before, self.cursor = self.cursor, max(0, min(index, self.count - 1))
        if self.cursor == before:
            return
        self._refresh_row(before)
        self._refresh_row(self.cursor)
        self._scroll_to_cursor()
        self.post_message(self.Moved(self.cursor))

    def on_resize(self) -> None:
        """Keep the cursor in view."""
        self.virtual_size = Size(self.scrollable_content_region.width, self.count + HEADING)
        self._scroll_to_cursor()

    def on_click(self, event: Click) -> None:
        """Select the line that was clicked; on the selected one, choose it."""
        offset = event.get_content_offset(self)
        if offset is None or offset.y < HEADING:
            return
        index = offset.y - HEADING + round(self.scroll_y)
        if index >= self.count:
            return
        if index == self.cursor:
            self.post_message(self.Chosen(index))
        else:
            self.move(index)

    def on_focus(self, event: Focus) -> None:
        """Paint the cursor as focused."""
        self._refresh_row(self.cursor)

    def on_blur(self, event: Blur) -> None:
        """Paint the cursor as not focused."""
        self._refresh_row(self.cursor)

    def render_line(self, y: int) -> Strip:
        """The heading, or the line at this height."""
        look, base = look_of(self), self.rich_style
        width = self.scrollable_content_region.width
        if y < HEADING:
            return strip_of(self._heading(width), self.size.width, look).apply_style(base)
        index = y - HEADING + self.scroll_offset.y
        if index >= self.count:
            return Strip.blank(self.size.width, base)
        cells = self._row(index, width)
        if index != self.cursor:
            return strip_of(cells, self.size.width, look).apply_style(base)
        return selected_strip(cells, self.size.width, look, base, self.has_focus)

    def _refresh_row(self, index: int) -> None:
        y = index + HEADING - self.scroll_offset.y
        if HEADING <= y < self.size.height:
            self.refresh(Region(0, y, self.size.width, 1))

    def _scroll_to_cursor(self) -> None:
        height, top = self.size.height - HEADING, round(self.scroll_y)
        if height <= 0 or top <= self.cursor < top + height:
            return
        target = self.cursor if self.cursor < top else self.cursor - height + 1
        self.scroll_to(y=max(target, 0), animate=False, force=True)
