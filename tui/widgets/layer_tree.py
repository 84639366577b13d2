"""The layer tree: one line-API widget over preorder arrays. It paints only the lines in view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from rich.segment import Segment
from textual.binding import BindingType
from textual.events import Blur, Click, Focus
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui import actions, rows
from tui.figures import Bools, Figures, Ints
from tui.outline import Outline
from tui.theme import cursor_style, style_of
from tui.widgets.lines import strip_of

HEADING = 1


class LayerTree(ScrollView, can_focus=True):
    """Calls as a tree with their figures beside it. The first line is the heading and does not scroll."""

    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("tree")]

    @dataclass
    class Selected(Message):
        """The cursor came to another call."""

        node: int

    def __init__(self, figures: Figures, model: str = "", *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.figures = figures
        self.model = model
        self.outline = Outline(figures)
        self.hits: Ints = np.zeros(0, dtype=np.int64)
        self._is_hit: Bools = np.zeros(len(figures), dtype=np.bool_)

    @property
    def selected(self) -> int:
        """The id of the call under the cursor."""
        return self.outline.selected

    def on_mount(self) -> None:
        """Take the size that the rows need."""
        self._fit_rows()

    def on_resize(self) -> None:
        """Keep the cursor in view."""
        self._fit_rows()
        self._scroll_to_cursor(centre=True)

    def go_to(self, node: int) -> None:
        """Open the way to a call and select it."""
        if self.outline.row_of(node) is None:
            self.outline.reveal(node)
            self._rebuilt()
        else:
            self._move(self.outline.row_of(node) or 0, centre=True)

    def step(self, forward: bool) -> bool:
        """Go to the next hit of the search or, without a search, to the next divergence; False if there is none."""
        node = self.outline.next_of(self.hits if len(self.hits) else self.figures.diverging, forward)
        if node is None:
            return False
        self.go_to(node)
        return True

    def mark(self, hits: Ints) -> None:
        """Underline these calls (sorted ids) and let `step` go from one to the next; none takes the marks away."""
        self.hits = hits
        self._is_hit[:] = False
        self._is_hit[hits] = True
        self.refresh()

    def expand_all(self) -> None:
        """Open every call."""
        self.outline.expand_all()
        self._rebuilt()

    def collapse_all(self) -> None:
        """Close every call but the model."""
        self.outline.collapse_all()
        self._rebuilt()

    def toggle_only_diverging(self) -> bool:
        """Show only diverging calls or all again; gives back which."""
        self.outline.toggle_only_diverging()
        self._rebuilt()
        return self.outline.only_diverging

    def action_cursor_down(self) -> None:
        """One line down."""
        self._move(self.outline.cursor + 1)

    def action_cursor_up(self) -> None:
        """One line up."""
        self._move(self.outline.cursor - 1)

    def action_page_down(self) -> None:
        """A page down."""
        self._move(self.outline.cursor + self._page)

    def action_page_up(self) -> None:
        """A page up."""
        self._move(self.outline.cursor - self._page)

    def action_first(self) -> None:
        """To the first line."""
        self._move(0)

    def action_last(self) -> None:
        """To the last line."""
        self._move(len(self.outline.rows) - 1)

    def action_toggle_call(self) -> None:
        """Open or close the selected call."""
        if self.figures.has_children(self.selected):
            self.outline.toggle(self.selected)
            self._rebuilt()

    def action_close(self) -> None:
        """Close the selected call, or go to the call around it."""
        node = self.selected
        if self.figures.has_children(node) and self.outline.expanded[node]:
            self.action_toggle_call()
        elif node >= 0 and self.figures.parent[node] >= 0:
            self.go_to(int(self.figures.parent[node]))

    def action_open(self) -> None:
        """Open the selected call, or go to the first call inside it."""
        node = self.selected
        if not self.figures.has_children(node):
            return
        if self.outline.expanded[node]:
            self._move(self.outline.cursor + 1)
        else:
            self.action_toggle_call()

    def on_click(self, event: Click) -> None:
        """Select the line that was clicked; on its marker, or on the line that is selected, open or close it."""
        offset = event.get_content_offset(self)
        if offset is None or offset.y < HEADING:
            return
        index = offset.y - HEADING + round(self.scroll_y)
        if index >= len(self.outline.rows):
            return
        again = index == self.outline.cursor
        self._move(index)
        if again:
            self.action_toggle_call()

    def on_focus(self, event: Focus) -> None:
        """Show that the keys come here."""
        self._refresh_row(self.outline.cursor)

    def on_blur(self, event: Blur) -> None:
        """Show that the keys go elsewhere."""
        self._refresh_row(self.outline.cursor)

    def render_line(self, y: int) -> Strip:
        """The heading, or the line of the call at this height."""
        colour = not self.app.no_color
        width = self.scrollable_content_region.width
        base = self.rich_style
        if y < HEADING:
            return strip_of(rows.heading(width), self.size.width, colour).apply_style(base)
        index = y - HEADING + self.scroll_offset.y
        if index >= len(self.outline.rows):
            return Strip.blank(self.size.width, base)
        node = int(self.outline.rows[index])
        expanded = bool(self.outline.expanded[node])
        cells = rows.row(self.figures, node, expanded, width, bool(self._is_hit[node]), self.model)
        if index != self.outline.cursor:
            return strip_of(cells, self.size.width, colour).apply_style(base)
        over = base + cursor_style(self.has_focus, colour)
        drop_dim = not colour and self.has_focus
        segments = [Segment(text, (style_of(role, colour) if not drop_dim else None)) for text, role in cells]
        return Strip(segments).adjust_cell_length(self.size.width).apply_style(over)

    @property
    def _page(self) -> int:
        return max(self.size.height - HEADING - 1, 1)

    def _move(self, index: int, centre: bool = False) -> None:
        before = self.outline.cursor
        self.outline.move(index)
        if self.outline.cursor == before:
            self._scroll_to_cursor(centre)
            return
        self._refresh_row(before)
        self._refresh_row(self.outline.cursor)
        self._scroll_to_cursor(centre)
        self.post_message(self.Selected(self.selected))

    def _rebuilt(self) -> None:
        self._fit_rows()
        self._scroll_to_cursor(centre=True)
        self.refresh()
        self.post_message(self.Selected(self.selected))

    def _fit_rows(self) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, len(self.outline.rows) + HEADING)

    def _refresh_row(self, index: int) -> None:
        y = index + HEADING - self.scroll_offset.y
        if HEADING <= y < self.size.height:
            self.refresh(Region(0, y, self.size.width, 1))

    def _scroll_to_cursor(self, centre: bool = False) -> None:
        """Bring the cursor into view: by as little as it takes or, after a jump, to the upper middle."""
        height = self.size.height - HEADING
        if height <= 0:
            return
        top = round(self.scroll_y)
        cursor = self.outline.cursor
        if top <= cursor < top + height:
            return
        nearest = cursor if cursor < top else cursor - height + 1
        target = cursor - height // 3 if centre else nearest
        self.scroll_to(y=max(target, 0), animate=False, force=True)
