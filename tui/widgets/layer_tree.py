"""The layer tree: one widget over preorder arrays that paints only the lines in view."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from textual.binding import BindingType
from textual.events import Blur, Click, Focus
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tracer.records import Bools
from tui import actions
from tui.keys import Scope
from tui.lines import layers as rows
from tui.lines.layers import Shape
from tui.looks.roles import Line
from tui.model.figures import Figures
from tui.model.outline import Outline, Sort
from tui.model.search import NOTHING, Found
from tui.widgets.lines import look_of, selected_strip, strip_of

HEADING = 1


class LayerTree(ScrollView, can_focus=True):
    """Calls as a tree with their figures beside it. The first line is the heading and does not scroll."""

    SCOPE: ClassVar[Scope] = "tree"
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
        self.columns: tuple[str, ...] | None = None
        self.marks: Set[int] = frozenset()
        self.hits = NOTHING
        self._is_hit: Bools = np.zeros(len(figures), dtype=np.bool_)

    @dataclass
    class SortWanted(Message):
        """A column's title was clicked, or a line of a sorted list was to be shown in the tree."""

        sort: Sort

    @property
    def shape(self) -> Shape:
        """Which columns are wanted, and by what the calls are sorted."""
        return Shape(self.columns, self.outline.sort)

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

    def next_call(self, forward: bool) -> int | None:
        """The next hit of the search by rank or, without a search, the next divergence; None if there is none."""
        if not len(self.hits):
            return self.outline.next_of(self.figures.diverging, forward)
        ranked = self.hits.ranked
        place = self.hits.place_of(self.selected)
        if place is None:
            return int(ranked[0 if forward else -1])
        return int(ranked[(place + (1 if forward else -1)) % len(ranked)])

    def show_figures(self, figures: Figures) -> None:
        """Show other figures of the same calls; what is open stays open, and the cursor where it is."""
        if figures is self.figures:
            return
        self.figures = figures
        self.outline.show_figures(figures)
        self._is_hit = np.zeros(len(figures), dtype=np.bool_)
        self.hits = self.hits.below(len(figures))
        self._is_hit[self.hits.ranked] = True
        self._rebuilt()

    def show_hits(self, hits: Found) -> None:
        """Underline these calls and let `next_call` go from one to the next; none takes the lines away."""
        self.hits = hits
        self._is_hit[:] = False
        self._is_hit[hits.ranked] = True
        self.refresh()

    def show_marks(self, marks: Set[int]) -> None:
        """Mark these calls."""
        self.marks = marks
        self.refresh()

    def show_columns(self, columns: tuple[str, ...] | None) -> None:
        """Show other columns; None for the usual ones."""
        self.columns = columns
        self.refresh()

    def sort_by(self, sort: Sort) -> None:
        """Show the tree, or a list by a figure, the same call selected."""
        self.outline.sort_by(sort)
        self._rebuilt()

    def filter(self, kept: Bools | None) -> None:
        """Show only these calls and what they are in, or all again."""
        self.outline.filter(kept)
        self._rebuilt()

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
        self._move(self.outline.cursor + 1)

    def action_cursor_up(self) -> None:
        self._move(self.outline.cursor - 1)

    def action_page_down(self) -> None:
        self._move(self.outline.cursor + self._page)

    def action_page_up(self) -> None:
        self._move(self.outline.cursor - self._page)

    def action_first(self) -> None:
        self._move(0)

    def action_last(self) -> None:
        self._move(len(self.outline.rows) - 1)

    def action_toggle_call(self) -> None:
        """Open or close the selected call; in a sorted list, show it in the tree."""
        if self.outline.flat:
            self.post_message(self.SortWanted("order"))
        elif self.figures.has_children(self.selected):
            self.outline.toggle(self.selected)
            self._rebuilt()

    def action_close(self) -> None:
        """Close the selected call, or go to the call around it."""
        node = self.selected
        if self.outline.flat:
            return
        if self.figures.has_children(node) and self.outline.expanded[node]:
            self.action_toggle_call()
        elif node >= 0 and self.figures.parent[node] >= 0:
            self.go_to(int(self.figures.parent[node]))

    def action_open(self) -> None:
        """Open the selected call, or go to the first call inside it."""
        node = self.selected
        if self.outline.flat or not self.figures.has_children(node):
            return
        if self.outline.expanded[node]:
            self._move(self.outline.cursor + 1)
        else:
            self.action_toggle_call()

    def on_click(self, event: Click) -> None:
        """Select the line that was clicked; a click on the selected line opens or closes it, one on a title sorts."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if offset.y < HEADING:
            self._click_title(offset.x)
            return
        index = offset.y - HEADING + round(self.scroll_y)
        if index >= len(self.outline.rows):
            return
        again = index == self.outline.cursor
        self._move(index)
        if again:
            self.action_toggle_call()

    def _click_title(self, x: int) -> None:
        """Sort by the column that was clicked; back to the tree by a second click, or one on the tree's own title."""
        column = rows.column_at(x, self.scrollable_content_region.width, self.shape)
        wanted = rows.SORTED_BY.get(column or "", "order")
        self.post_message(self.SortWanted("order" if wanted == self.outline.sort else wanted))

    def on_focus(self, event: Focus) -> None:
        """Paint the cursor as focused."""
        self._refresh_row(self.outline.cursor)

    def on_blur(self, event: Blur) -> None:
        """Paint the cursor as not focused."""
        self._refresh_row(self.outline.cursor)

    def heading(self, width: int) -> Line:
        """The titles of the columns."""
        return rows.heading(width, self.shape)

    def line(self, node: int, width: int) -> Line:
        expanded = bool(self.outline.expanded[node])
        hit, marked = bool(self._is_hit[node]), node in self.marks
        return rows.row(self.figures, node, expanded, width, hit, self.model, marked, self.shape)

    def render_line(self, y: int) -> Strip:
        """The heading, or the line of the call at this height."""
        look = look_of(self)
        width = self.scrollable_content_region.width
        base = self.rich_style
        if y < HEADING:
            return strip_of(self.heading(width), self.size.width, look).apply_style(base)
        index = y - HEADING + self.scroll_offset.y
        if index >= len(self.outline.rows):
            return Strip.blank(self.size.width, base)
        node = int(self.outline.rows[index])
        cells = self.line(node, width)
        if index != self.outline.cursor:
            return strip_of(cells, self.size.width, look).apply_style(base)
        return selected_strip(cells, self.size.width, look, base, self.has_focus)

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
        last = max(len(self.outline.rows) - height, 0)
        if top > last:  # fewer rows than before: no blank lines below while there are rows above
            top = last
            self.scroll_to(y=top, animate=False, force=True)
        if top <= cursor < top + height:
            return
        nearest = cursor if cursor < top else cursor - height + 1
        target = cursor - height // 3 if centre else nearest
        self.scroll_to(y=max(target, 0), animate=False, force=True)
