"""A pane that shows lines of text with roles, and scrolls. Markup in a text is never read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.events import Resize
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from tui import actions
from tui.host import host_of
from tui.keys import Scope
from tui.looks.roles import Line, Piece
from tui.looks.themes import Look

Lines = Sequence[Line]


def look_of(widget: Widget) -> Look:
    """The theme in use."""
    return host_of(widget).look


def strip_of(cells: Sequence[Piece], width: int, look: Look) -> Strip:
    """The cells as a strip of exactly `width`, on the widget's own background."""
    segments = [Segment(text, look.style(role)) for text, role in cells if text]
    return Strip(segments).adjust_cell_length(max(width, 0))


def selected_strip(cells: Sequence[Piece], width: int, look: Look, base: Style, focused: bool) -> Strip:
    """The line of the cursor in a list: as `strip_of`, under the style of the cursor."""
    drop_dim = not look.colour and focused
    segments = [Segment(text, (look.style(role) if not drop_dim else None)) for text, role in cells]
    return Strip(segments).adjust_cell_length(width).apply_style(base + look.over(focused))


def selected_row(cells: Sequence[Piece], frozen: int, at: int | None, width: int, look: Look, focused: bool) -> Strip:
    """The row of the cursor in a grid: its `frozen` first cells as a selected line, the cell `at` in reverse."""
    over = look.over(focused)
    segments = []
    for index, (text, role) in enumerate(cells):
        style = look.style(role)
        if index < frozen:
            style = style + over if look.colour else over
        elif index == at:
            style = style + Style(reverse=True, bold=True, dim=False)
        segments.append(Segment(text, style))
    return Strip(segments).adjust_cell_length(width)


class LinesView(ScrollView, can_focus=True):
    """Shows what a function of the width gives back; asks it again when the width changes."""

    SCOPE: ClassVar[Scope] = "pane"
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("pane")]
    LEAST_WIDTH = 1

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._source: Callable[[int], Lines] = lambda width: ()
        self._lines: Lines = ()
        self._laid_out_for = -1

    def show(self, source: Callable[[int], Lines], keep_place: bool = False) -> None:
        """Show the lines that `source` makes for a width, from the top unless `keep_place`."""
        self._source = source
        self._laid_out_for = -1
        if self.size.width:
            self._lay_out()
            if not keep_place:
                self.scroll_to(0, 0, animate=False)
        self.refresh()

    def on_resize(self, event: Resize) -> None:
        """Lay the lines out again if the width has changed."""
        if self.scrollable_content_region.width != self._laid_out_for:
            self._lay_out()
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """The line at this height of the viewport."""
        across, down = self.scroll_offset
        width = self.size.width
        index = y + down
        cells: Line = self._lines[index] if 0 <= index < len(self._lines) else ()
        strip = strip_of(cells, max(width, self.virtual_size.width), look_of(self))
        return strip.crop(across, across + width).apply_style(self.rich_style)

    def _lay_out(self) -> None:
        width = self.scrollable_content_region.width
        self._laid_out_for = width
        self._lines = self._source(max(width, self.LEAST_WIDTH))
        longest = max((sum(len(text) for text, _ in line) for line in self._lines), default=0)
        self.virtual_size = Size(max(width, min(longest, self.LEAST_WIDTH)), len(self._lines))
