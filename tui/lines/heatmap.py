"""A heatmap as lines of segments: half blocks, two rows a line, or sign and digit; labels beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from tracer.records import Floats
from tui.lines.format import fit, narrow
from tui.looks.ramp import Levels, Ramp, characters_of, levels_of, ramp_of
from tui.looks.roles import Role
from tui.looks.themes import Look
from tui.model.matrix import Span, View
from tui.model.matrix import fit as fit_view

_LONGEST_LABEL = 12
_LOWEST_HEADING, _HIGHEST_HEADING = 3, 6
_RULER_STEP = 10
_NUMBER_ROOM = 7


@dataclass(frozen=True, slots=True)
class Frame:
    """Where things stand in a pane of `width` × `height`: row labels on the left, a heading, then the cells.

    With `blocks` a line has two rows of cells, one character wide; without, one row, two characters wide.
    """

    width: int
    height: int
    labels: int
    heading: int
    blocks: bool

    @property
    def cells_down(self) -> int:
        """Rows of cells for which there is room."""
        return max(self.height - self.heading, 1) * (2 if self.blocks else 1)

    @property
    def cells_across(self) -> int:
        """Columns of cells for which there is room."""
        return max((self.width - self.labels) // self.cell_width, 1)

    @property
    def cell_width(self) -> int:
        """Characters a cell is wide."""
        return 1 if self.blocks else 2

    def view(self, rows: int, columns: int, before: View | None = None) -> View:
        """The view of a matrix in this frame: of the whole, or of the same place as `before`."""
        if before is not None and (before.rows, before.columns) == (rows, columns):
            return before.resized(self.cells_down, self.cells_across)
        return fit_view(rows, columns, self.cells_down, self.cells_across, even=self.blocks)


def frame(
    width: int, height: int, rows: int, row_labels: Sequence[str], column_labels: Sequence[str], blocks: bool
) -> Frame:
    """The frame of a pane: labels take at most a fifth of the width, the heading a third of the height."""
    names = row_labels or [str(rows - 1)] * (rows > 1)
    labels = min(max(map(cell_len, names), default=0), _LONGEST_LABEL, width // 5)
    upright = min(max(map(cell_len, column_labels), default=0), _HIGHEST_HEADING)
    room = height // 3
    heading = min(upright if upright and room >= min(upright, _LOWEST_HEADING) else 1, room)
    return Frame(width, height, labels + 1 if labels else 0, heading, blocks)


@dataclass(frozen=True, slots=True)
class Picture:
    """A grid of a view, ready to be painted line by line. `cursor` is an element (row, column) of the matrix.

    `levels` are those of `values`, (groups down, groups across).
    """

    frame: Frame
    view: View
    down: Span
    across: Span
    values: Floats
    levels: Levels
    look: Look
    row_labels: Sequence[str]
    column_labels: Sequence[str]

    def line(self, y: int, cursor: tuple[int, int] | None) -> list[Segment]:
        """The line at this height of the pane."""
        at = None if cursor is None or not self.shows(*cursor) else self.group_at(*cursor)
        if at is None:
            cursor = None
        if y < self.frame.heading:
            return self._heading(y, at, cursor)
        place = y - self.frame.heading
        if self.frame.blocks:
            return [*self._label(place, at, cursor), *self._blocks(place, at)]
        return [*self._label(place, at, cursor), *self._digits(place, at)]

    def group_at(self, row: int, column: int) -> tuple[int, int]:
        """The group of cells that an element is drawn in."""
        return self.down.group_of(row), self.across.group_of(column)

    def shows(self, row: int, column: int) -> bool:
        """Whether an element is in the view."""
        return (
            self.down.start <= row < self.down.start + self.down.shown
            and self.across.start <= column < self.across.start + self.across.shown
        )

    def box(self, group: tuple[int, int]) -> tuple[int, int, int, int]:
        """x, y, width and height of a group's cells in the pane."""
        lines = 2 if self.frame.blocks else 1
        first = group[0] * self.down.repeat
        top, bottom = first // lines, (first + self.down.repeat - 1) // lines
        width = self.across.repeat * self.frame.cell_width
        return (
            self.frame.labels + group[1] * width,
            self.frame.heading + top,
            width,
            bottom - top + 1,
        )

    def element_at(self, x: int, y: int) -> tuple[int, int] | None:
        """The group whose cells are at a place of the pane; None beside them."""
        column = (x - self.frame.labels) // (self.across.repeat * self.frame.cell_width)
        lines = 2 if self.frame.blocks else 1
        row = (y - self.frame.heading) * lines // self.down.repeat
        if x < self.frame.labels or y < self.frame.heading:
            return None
        return (row, column) if row < self.down.groups and column < self.across.groups else None

    def _blocks(self, place: int, at: tuple[int, int] | None) -> list[Segment]:
        upper, lower = (self._row_of(2 * place), self._row_of(2 * place + 1))
        if upper is None:
            return []
        top = self.levels[upper]
        bottom = np.zeros_like(top) if lower is None else self.levels[lower]
        segments: list[Segment] = []
        pairs = list(zip(top.tolist(), bottom.tolist(), strict=True))
        for (high, low, here), run in groupby(
            (*pair, at is not None and at[1] == column and at[0] in (upper, lower)) for column, pair in enumerate(pairs)
        ):
            count = sum(1 for _ in run) * self.across.repeat
            if not here:
                segments.append(self._ramp.segment(high, low, count))
            elif self.down.repeat > 1:
                segments.append(Segment(_bracketed(count), self._ramp.contrast(high)))
            else:
                on_top = at is not None and at[0] == upper
                ground = self._ramp.colour(low if on_top else high)
                style = Style(color=self._ramp.cursor, bgcolor=ground)
                segments.append(Segment(("▀" if on_top else "▄") * count, style))
        return self._with_numbers(segments, place * 2, upper, at)

    def _with_numbers(
        self, segments: list[Segment], cell: int, group: int, at: tuple[int, int] | None
    ) -> list[Segment]:
        """Each element's number, where there is room for it, on the line in the middle of its cells."""
        width = self.across.repeat * self.frame.cell_width
        if width < _NUMBER_ROOM or cell != self._middle(group) or not (self.down.single and self.across.single):
            return segments
        numbered = []
        for column, (value, level) in enumerate(
            zip(self.values[group].tolist(), self.levels[group].tolist(), strict=True)
        ):
            text = fit(narrow(value, width - 1), width - 1, right=True)
            text = f"[{text[1:]}]" if at == (group, column) else f"{text} "
            numbered.append(Segment(text, self._ramp.contrast(level) if self.look.colour else None))
        return numbered

    def _digits(self, place: int, at: tuple[int, int] | None) -> list[Segment]:
        group = self._row_of(place)
        if group is None:
            return []
        segments = []
        first = place % self.down.repeat == 0
        for column, level in enumerate(self.levels[group].tolist()):
            text = characters_of(level) if first else "  "
            style = self._ramp.contrast(level) if self.look.colour else Style()
            if at == (group, column):
                style = Style(reverse=True, bold=True)
            segments.append(Segment(text + " " * (2 * self.across.repeat - 2), style))
        return self._with_numbers(segments, place, group, at)

    def _row_of(self, cell: int) -> int | None:
        """The group of a row of cells; None below the last."""
        group = cell // self.down.repeat
        return group if group < self.down.groups else None

    def _label(self, place: int, at: tuple[int, int] | None, cursor: tuple[int, int] | None) -> list[Segment]:
        """The first element of the line or, where the cursor is, its own."""
        if not self.frame.labels:
            return []
        width = self.frame.labels - 1
        lines = 2 if self.frame.blocks else 1
        group = self._row_of(place * lines)
        blank = Segment(" " * self.frame.labels)
        if group is None:
            return [blank]
        last = self._row_of(place * lines + lines - 1)
        here = at is not None and at[0] in (group, last)
        if here and at is not None:
            group = at[0]
        if self.down.repeat > 1 and place * lines != self._middle(group):
            return [blank]
        element = cursor[0] if here and cursor is not None else int(self.down.edges[group])
        if self.row_labels:
            text = self.row_labels[element]
        elif here or place % 5 == 0 or self.down.repeat > 1:
            text = str(element)
        else:
            return [blank]
        return [Segment(fit(text, width, right=True) + " ", self._style(here))]

    def _heading(self, y: int, at: tuple[int, int] | None, cursor: tuple[int, int] | None) -> list[Segment]:
        """The first element of each group, upright; where the cursor is, its own."""
        step = self.across.repeat * self.frame.cell_width
        cells = self.across.groups * step
        if not (self.column_labels and self._upright):
            text = self._ruler(step, cells) if y == self.frame.heading - 1 else ""
            return [Segment(" " * self.frame.labels + text, self._style(False))]
        segments = [Segment(" " * self.frame.labels)]
        edges = self.across.edges
        for group in range(self.across.groups):
            here = at is not None and at[1] == group
            element = cursor[1] if here and cursor is not None else int(edges[group])
            label = _narrow_characters(self.column_labels[element])[: self.frame.heading]
            place = y - (self.frame.heading - len(label))
            segments.append(Segment((label[place] if place >= 0 else " ").ljust(step), self._style(here)))
        return segments

    def _ruler(self, step: int, cells: int) -> str:
        """The index of a column now and then, above its first cell."""
        text = ""
        for group in range(self.across.groups):
            name = str(int(self.across.edges[group]))
            free = not text or group * step >= (len(text) // _RULER_STEP + 1) * _RULER_STEP
            if free and group * step + len(name) <= cells:
                text = text.ljust(group * step) + name
        return text

    def _middle(self, group: int) -> int:
        """The first of the two rows of cells, or the one row, of the line in the middle of a group."""
        lines = 2 if self.frame.blocks else 1
        return group * self.down.repeat + (self.down.repeat - 1) // (2 * lines) * lines

    @property
    def _upright(self) -> bool:
        """Whether the heading is high enough for labels that stand upright."""
        return self.frame.heading >= min(max(map(cell_len, self.column_labels)), _LOWEST_HEADING)

    def _style(self, here: bool) -> Style:
        return self.look.style(Role.STRONG if here else Role.MUTED)

    @property
    def _ramp(self) -> Ramp:
        return ramp_of(self.look.name)


def picture(
    frame: Frame,
    view: View,
    values: Floats,
    largest: float,
    logarithmic: bool,
    look: Look,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
) -> Picture:
    """The grid `values` of a view, coloured by its part of `largest`."""
    levels = levels_of(values, largest, logarithmic)
    return Picture(frame, view, view.down, view.across, values, levels, look, row_labels, column_labels)


def _bracketed(count: int) -> str:
    return "◆" if count == 1 else "[" + " " * (count - 2) + "]"


def _narrow_characters(text: str) -> str:
    """`text` without characters that are not one cell wide: it stands upright, one character a line."""
    return "".join(character if cell_len(character) == 1 else "?" for character in text if cell_len(character))
