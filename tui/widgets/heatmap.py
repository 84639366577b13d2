"""A matrix as a heatmap with a cursor: it reads the part that is shown, paints the lines in view, zooms and pans."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from textual.binding import BindingType
from textual.events import Click, MouseScrollDown, MouseScrollUp, Resize
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from textual.worker import get_current_worker

from tracer.errors import TraceFileError
from tracer.records import Floats
from tui import actions
from tui.keys import Scope
from tui.lines.heatmap import Picture, frame, picture
from tui.lines.tensor import Reading, problem_lines
from tui.looks.roles import Role
from tui.model.matrix import View, extreme_of, reduce
from tui.model.tensor_figures import Summary
from tui.model.tensor_source import KEPT_ELEMENTS, Array, TensorSource
from tui.terminal.ascii import AsciiFilter
from tui.widgets.lines import look_of, strip_of


class Heatmap(Widget, can_focus=True):
    """Shows one slice of a tensor; `Read` says that its figures are known, `Moved` that cursor or view have moved.

    A thread reads a large slice, anew for each part that is shown; the picture before stays until it is read.
    """

    SCOPE: ClassVar[Scope] = "heatmap"
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("heatmap")]

    @dataclass
    class Read(Message):
        """The slice was read for the first time."""

        heatmap: Heatmap
        summary: Summary

    @dataclass
    class Moved(Message):
        """The cursor or the view has moved."""

        heatmap: Heatmap

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.source: TensorSource | None = None
        self.number = 0
        self.summary: Summary | None = None
        self.cursor = (0, 0)
        self.digits = False
        self.logarithmic: bool | None = None
        self._largest: float | None = None
        self._view: View | None = None
        self._picture: Picture | None = None
        self._rows: Sequence[str] = ()
        self._columns: Sequence[str] = ()
        self._problem = ""
        self._values: Floats | None = None

    def show(
        self,
        source: TensorSource,
        number: int,
        rows: Sequence[str] = (),
        columns: Sequence[str] = (),
        largest: float | None = None,
    ) -> None:
        """Show a slice, with these labels; cursor and view stay where the matrix before had the same size.

        `largest` is what the strongest colour stands for, None: the largest |value| of the slice.
        """
        if source.problem:
            self.say(source.problem)
            return
        same = self.source is not None and (source.rows, source.columns) == (self.source.rows, self.source.columns)
        self.source, self.number = source, number
        self.summary = None
        self._rows, self._columns, self._largest = rows, columns, largest
        self._problem = ""
        if not same:
            self.cursor, self._view = (0, 0), None
        self._load()

    def say(self, text: str) -> None:
        """Show words instead of a matrix."""
        self.source = self.summary = self._picture = self._view = self._values = None
        self._problem = text
        self.refresh()

    @property
    def scale_is_logarithmic(self) -> bool:
        """Whether colours stand for decades: as the user chose, else where few elements are far the largest."""
        if self.logarithmic is not None:
            return self.logarithmic
        return self.summary is not None and self.summary.outlying

    @property
    def ascii_only(self) -> bool:
        """Whether the terminal has nothing but ASCII."""
        return any(isinstance(each, AsciiFilter) for each in self.app.get_line_filters())

    @property
    def blocks(self) -> bool:
        """Whether half blocks can be shown and are wanted."""
        colours = self.app.is_headless or self.app.console.color_system in ("truecolor", "256")
        return colours and not (self.digits or self.app.no_color or self.ascii_only)

    def reading(self) -> Reading | None:
        """The element under the cursor and the extreme of its cell; reads the cell's rows.

        None without a matrix, and while the view around the cursor is still being read.
        """
        if self.source is None or self._picture is None or not self._picture.shows(*self.cursor):
            return None
        row, column = self.cursor
        down, across = self._picture.down, self._picture.across
        group, place = self._picture.group_at(row, column)
        top, bottom = int(down.edges[group]), int(down.edges[group + 1])
        left, right = int(across.edges[place]), int(across.edges[place + 1])
        try:
            block = np.concatenate([part[:, left:right] for part in self.source.blocks(self.number, top, bottom)])
        except TraceFileError as error:
            self.say(str(error))
            return None
        extreme = extreme_of(block)
        return Reading(
            row,
            column,
            block[row - top, column - left].item(),
            (top, bottom - 1),
            (left, right - 1),
            (top + extreme[0], left + extreme[1]),
            block[extreme].item(),
        )

    def go_to(self, row: int, column: int) -> None:
        """Put the cursor on an element, and the element into view."""
        if self.source is None or self._view is None:
            return
        before = self.cursor
        self.cursor = (
            min(max(row, 0), self.source.rows - 1),
            min(max(column, 0), self.source.columns - 1),
        )
        view = self._view.following(*self.cursor)
        if view != self._view:
            self._look(view)
        elif self._picture is not None:
            for place in (before, self.cursor):
                if self._picture.shows(*place):
                    self._refresh_group(self._picture.group_at(*place))
            self.post_message(self.Moved(self))

    def action_cursor(self, down: int, across: int) -> None:
        """The cell beside."""
        self._step(down, across)

    def action_page(self, pages: int) -> None:
        """A page up or down."""
        if self._picture is not None:
            self._step(pages * max(self._picture.down.groups - 1, 1), 0)

    def action_first(self) -> None:
        self.go_to(0, 0)

    def action_last(self) -> None:
        if self.source is not None:
            self.go_to(self.source.rows - 1, self.source.columns - 1)

    def action_zoom(self, step: int) -> None:
        """Closer, or farther away."""
        if self._view is not None:
            view = self._view.zoomed(step > 0, *self.cursor)
            if view != self._view:
                self._look(view)

    def action_whole(self) -> None:
        if self.source is not None and self._view is not None and not self._view.whole:
            self._view = None
            self._load()

    def action_largest(self) -> None:
        """To a NaN in view or else to the largest |value|."""
        if self._picture is None:
            return
        group = extreme_of(self._picture.values)
        self._to_group(*group)

    def action_scale(self) -> None:
        """Colours in proportion, or by decades."""
        self.logarithmic = not self.scale_is_logarithmic
        self._draw()
        self.post_message(self.Moved(self))

    def action_digits(self) -> None:
        """Sign and digit instead of colours, or colours again."""
        self.digits = not self.digits
        if self.source is not None:
            self._load()

    def on_resize(self, event: Resize) -> None:
        """Fit the view into the new size."""
        if self.source is not None:
            self._load()

    def on_click(self, event: Click) -> None:
        """Put the cursor on what was clicked."""
        offset = event.get_content_offset(self)
        if offset is not None and self._picture is not None:
            group = self._picture.element_at(offset.x, offset.y)
            if group is not None:
                self._to_group(*group)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """Farther away with Ctrl, else down."""
        event.stop()
        if event.ctrl:
            self.action_zoom(-1)
        else:
            self._pan(3)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """Closer with Ctrl, else up."""
        event.stop()
        if event.ctrl:
            self.action_zoom(1)
        else:
            self._pan(-3)

    def render_line(self, y: int) -> Strip:
        """The line at this height."""
        width, look = self.size.width, look_of(self)
        if self._picture is None:
            lines = problem_lines(self._problem, width) if self._problem else [[("reading …", Role.MUTED)]]
            return strip_of(lines[y] if y < len(lines) else (), width, look).apply_style(self.rich_style)
        if self._picture.look is not look:
            self._picture = replace(self._picture, look=look)
        segments = self._picture.line(y, self.cursor)
        return Strip(segments).adjust_cell_length(width).apply_style(self.rich_style)

    def _step(self, down: int, across: int) -> None:
        if self._picture is None or self._view is None:
            return
        spans = (self._picture.down, self._picture.across)
        if self._picture.shows(*self.cursor):
            row, column = self._picture.group_at(*self.cursor)
            row, column = row + down, column + across
            if 0 <= row < spans[0].groups and 0 <= column < spans[1].groups:
                self._to_group(row, column)
                return
        # Past the edge of the view: move by whole cells, so that the next ones come into view.
        sizes = [max(span.shown // max(span.groups, 1), 1) for span in spans]
        self.go_to(self.cursor[0] + down * sizes[0], self.cursor[1] + across * sizes[1])

    def _to_group(self, group: int, place: int) -> None:
        """Put the cursor on the extreme element of a cell."""
        assert self._picture is not None and self.source is not None
        down, across = self._picture.down, self._picture.across
        if down.single and across.single:
            self.go_to(down.start + group, across.start + place)
            return
        top, bottom = int(down.edges[group]), int(down.edges[group + 1])
        left, right = int(across.edges[place]), int(across.edges[place + 1])
        try:
            blocks = [part[:, left:right] for part in self.source.blocks(self.number, top, bottom)]
        except TraceFileError as error:
            self.say(str(error))
            return
        row, column = extreme_of(np.concatenate(blocks))
        self.go_to(top + row, left + column)

    def _pan(self, rows: int) -> None:
        if self._view is None or self._picture is None:
            return
        down = self._picture.down
        step = rows * max(down.shown // max(down.groups, 1), 1)
        view = self._view.at(down.start + step, self._view.left)
        if view != self._view:
            row, column = self.cursor
            top = view.down.start
            self.cursor = (min(max(row, top), top + view.down.shown - 1), column)
            self._look(view)

    def _load(self) -> None:
        """Read the slice for its figures and for the view of it."""
        if self.source is None or not self.size.width or not self.size.height:
            return
        source = self.source
        within = frame(self.size.width, self.size.height, source.rows, self._rows, self._columns, self.blocks)
        before = self._view
        if before is not None and before.even != within.blocks:
            before = replace(before, even=within.blocks)
        self._look(within.view(source.rows, source.columns, before).following(*self.cursor))

    def _look(self, view: View) -> None:
        """Read what a view shows, at once or, where it is much, in a thread."""
        assert self.source is not None
        self._view = view
        if self.source.rows * self.source.columns <= KEPT_ELEMENTS:
            try:
                self._take(view, *_read(self.source, self.number, view, self.summary))
            except TraceFileError as error:
                self.say(str(error))
        else:
            self.run_worker(
                lambda: self._look_in_thread(view, self.summary), thread=True, exclusive=True, exit_on_error=False
            )

    def _look_in_thread(self, view: View, summary: Summary | None) -> None:
        worker = get_current_worker()
        source, number = self.source, self.number
        if source is None:
            return
        try:
            values, found = _read(source, number, view, summary, lambda: worker.is_cancelled)
        except _Cancelled:
            return
        except TraceFileError as error:
            if not worker.is_cancelled:
                self.app.call_from_thread(self.say, str(error))
            return
        if not worker.is_cancelled:
            self.app.call_from_thread(self._take_if_wanted, source, number, view, values, found)

    def _take_if_wanted(self, source: TensorSource, number: int, view: View, values: Floats, summary: Summary) -> None:
        if (source, number, view) == (self.source, self.number, self._view):
            self._take(view, values, summary)

    def _take(self, view: View, values: Floats, summary: Summary) -> None:
        first = self.summary is None
        self.summary, self._values = summary, values
        self._draw()
        if first:
            self.post_message(self.Read(self, summary))
        self.post_message(self.Moved(self))

    def _draw(self) -> None:
        if self.source is None or self._view is None or self._values is None or self.summary is None:
            return
        if self._values.shape != (self._view.down.groups, self._view.across.groups):
            return  # the view has moved on, and its elements are on their way
        within = frame(self.size.width, self.size.height, self.source.rows, self._rows, self._columns, self.blocks)
        self._picture = picture(
            within,
            self._view,
            self._values,
            self._largest or self.summary.largest,
            self.scale_is_logarithmic,
            look_of(self),
            self._rows,
            self._columns,
        )
        self.refresh()

    def _refresh_group(self, group: tuple[int, int]) -> None:
        """Repaint a cell and its labels."""
        assert self._picture is not None
        x, y, width, height = self._picture.box(group)
        labels, heading = self._picture.frame.labels, self._picture.frame.heading
        self.refresh(Region(x, y, width, height), Region(0, y, labels, height), Region(x, 0, width, heading))


class _Cancelled(Exception):
    """Another view is wanted by now."""


def _read(
    source: TensorSource, number: int, view: View, summary: Summary | None, cancelled: Callable[[], bool] = bool
) -> tuple[Floats, Summary]:
    """The grid of a view, and the slice's figures, which are taken on the way if there are none yet."""

    def blocks(start: int, stop: int) -> Iterator[Array]:
        for block in source.blocks(number, start, stop):
            if cancelled():
                raise _Cancelled
            yield block

    down, across = view.down, view.across
    if summary is None:
        summary = Summary()
        everything = summary.watching(blocks(0, source.rows))
        if view.whole:
            return reduce(everything, down, across), summary
        for _ in everything:
            pass
    return reduce(blocks(down.start, down.start + down.shown), down, across), summary
