"""The flow map as a grid of cells with a cursor: layers down, tokens across."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from textual.events import Click, MouseScrollLeft, MouseScrollRight
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.lines import flow as flow_rows
from tui.lines import flow_table
from tui.lines.flow import FlowLayout
from tui.lines.flow_table import FlowTable
from tui.widgets.lines import look_of, selected_row, strip_of


class FlowGrid(ScrollView, can_focus=False):
    """Paints a flow table. Names and row sums stay when it scrolls sideways, tokens and column sums when it scrolls
    down."""

    DEFAULT_CSS = "FlowGrid { height: 1fr; padding: 0 0 0 1; }"

    @dataclass
    class Moved(Message):
        """The cursor came to another cell."""

        row: int
        column: int

    @dataclass
    class Chosen(Message):
        """A cell was clicked again."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.table: FlowTable | None = None
        self.row = 0
        self.column = 0
        self.first = 0
        self.numbers = False

    def show(self, table: FlowTable) -> None:
        """Show a table, the cursor where it was as far as there is such a cell."""
        first_time = self.table is None
        self.table = table
        self._fit()
        self.move_to(*(flow_table.start(table) if first_time else (self.row, self.column)))

    def toggle_numbers(self) -> None:
        """Numbers in all cells, scrolled sideways where they do not fit; or shades again."""
        self.numbers = not self.numbers
        self._fit()
        self._keep_in_view()
        self.refresh()

    def move_to(self, row: int, column: int) -> None:
        """Put the cursor on a cell, or on the nearest there is, and bring it into view."""
        if self.table is None:
            return
        rows, columns = self.table.shape
        before, first, top = self.row, self.first, self.scroll_offset.y
        self.row = max(0, min(row, rows - 1))
        self.column = max(0, min(column, columns - 1))
        self._keep_in_view()
        if (first, top) != (self.first, self.scroll_offset.y):
            self.refresh()
        else:
            self._refresh_lines(before)
        self.post_message(self.Moved(self.row, self.column))

    def step_flip(self, forward: bool) -> bool:
        """To the next change of sign in reading order, or the one before, round the end; False if there is none."""
        if self.table is None or not self.table.flips.any():
            return False
        columns = self.table.shape[1]
        places = np.flatnonzero(self.table.flips)
        here = self.row * columns + self.column
        if forward:
            place = int(places[int(np.searchsorted(places, here, side="right")) % len(places)])
        else:
            place = int(places[int(np.searchsorted(places, here, side="left")) - 1])
        self.move_to(place // columns, place % columns)
        return True

    @property
    def page(self) -> int:
        """Rows in view."""
        return max(self.size.height - self._headings - 1, 1)

    @property
    def layout_now(self) -> FlowLayout | None:
        """The widths at the present size."""
        width = self.scrollable_content_region.width
        return None if self.table is None else flow_rows.layout(self.table, width, self.numbers)

    def on_resize(self) -> None:
        """Keep the cursor in view."""
        self._fit()
        self._keep_in_view()

    def on_click(self, event: Click) -> None:
        """Select the cell that was clicked; on the selected one, choose it."""
        offset, given = event.get_content_offset(self), self.layout_now
        if offset is None or given is None or self.table is None:
            return
        row = offset.y - self._headings + round(self.scroll_y)
        if not self._headings <= offset.y < self.size.height - 1 or row >= self.table.shape[0]:
            return
        across = (offset.x - given.frozen) // given.cell
        column = self.first + across if 0 <= across < given.visible else self.column
        if (row, column) == (self.row, self.column):
            self.post_message(self.Chosen())
        else:
            self.move_to(row, column)

    def on_mouse_scroll_right(self, event: MouseScrollRight) -> None:
        """Tokens further right."""
        self._scroll_columns(1)

    def on_mouse_scroll_left(self, event: MouseScrollLeft) -> None:
        """Tokens further left."""
        self._scroll_columns(-1)

    def render_line(self, y: int) -> Strip:
        """Tokens on top, a layer a line, the column sums at the bottom."""
        base, width, look = self.rich_style, self.size.width, look_of(self)
        table, given = self.table, self.layout_now
        if table is None or given is None:
            return Strip.blank(width, base)
        headings = self._headings
        if y < headings:
            lines = flow_rows.headings(table, given, self.first, self.column, headings)
            return strip_of(lines[y], width, look).apply_style(base)
        rows = table.shape[0]
        bottom = min(self.size.height - 1, headings + rows)
        if y == bottom:
            return strip_of(flow_rows.sums(table, given, self.first), width, look).apply_style(base)
        index = y - headings + self.scroll_offset.y
        if y > bottom or index >= rows:
            return Strip.blank(width, base)
        cells, at = flow_rows.row(table, given, index, self.first, self.column if index == self.row else None)
        if index != self.row:
            return strip_of(cells, width, look).apply_style(base)
        frozen = 2 if given.sum else 1
        return selected_row(cells, frozen, at, width, look, focused=True).apply_style(base)

    @property
    def _headings(self) -> int:
        given = self.layout_now
        if self.table is None or given is None:
            return 1
        return flow_rows.heading_lines(self.table, given, self.app.size.height)

    def _refresh_lines(self, before: int) -> None:
        """Paint the tokens and the rows of the cursor, now and before: a move in view changes no other line."""
        headings, top, width = self._headings, self.scroll_offset.y, self.size.width
        self.refresh(
            Region(0, 0, width, headings),
            *(Region(0, row + headings - top, width, 1) for row in {before, self.row}),
        )

    def _fit(self) -> None:
        if self.table is not None:
            lines = self.table.shape[0] + self._headings + 1
            self.virtual_size = Size(self.scrollable_content_region.width, lines)

    def _scroll_columns(self, step: int) -> None:
        given = self.layout_now
        if self.table is None or given is None:
            return
        most = max(self.table.shape[1] - given.visible, 0)
        self.first = max(0, min(self.first + step, most))
        self.refresh()
        self.post_message(self.Moved(self.row, self.column))

    def _keep_in_view(self) -> None:
        given = self.layout_now
        if self.table is None or given is None or not self.size.height:
            return
        if self.column < self.first:
            self.first = self.column
        elif self.column >= self.first + given.visible:
            self.first = self.column - given.visible + 1
        self.first = max(0, min(self.first, self.table.shape[1] - given.visible))
        top = round(self.scroll_y)
        if self.row < top:
            self.scroll_to(y=self.row, animate=False, force=True)
        elif self.row >= top + self.page:
            self.scroll_to(y=self.row - self.page + 1, animate=False, force=True)
