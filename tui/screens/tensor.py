"""One recorded tensor: its quantities as heatmaps, slice by slice, with figures, histogram and export."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.worker import get_current_worker

from tracer.errors import TraceFileError
from tracer.records import Edge
from tracer.tracefile.trace import TensorName
from tui import actions
from tui.keys import Scope
from tui.lines import tensor as tensor_lines
from tui.lines.format import number
from tui.lines.tensor import (
    histogram_bins,
    histogram_line,
    lines_of_summary,
    problem_lines,
    quantity_line,
    reading_line,
    summary_lines,
    tensor_title,
)
from tui.looks.roles import Line
from tui.model.axis_labels import row_and_column_labels
from tui.model.tensor_figures import Counts, histogram
from tui.model.tensor_source import KEPT_ELEMENTS, Quantity, TensorSource, place_of
from tui.screens.base import TraceScreen
from tui.terminal.tensor_files import export
from tui.widgets.header import Header
from tui.widgets.heatmap import Heatmap
from tui.widgets.jump import JumpBar, indices_of
from tui.widgets.lines import Lines
from tui.widgets.short_lines import ShortLines
from tui.widgets.tabs import Tabs

_ROOM_FOR_VERDICT = 50
_ROOM_FOR_HISTOGRAM = 14
_LOW = 20
_HISTOGRAM_DELAY = 0.1


class TensorScreen(TraceScreen):
    """Lies over the screen that opened it; Esc goes back. `number` is the slice that is shown."""

    SCOPE: ClassVar[Scope] = "tensor"
    READING = tensor_lines.READING
    DEFAULT_CSS = """
    TensorScreen {
        #tensor-title { background: $panel; }
        Heatmap { padding: 0 1; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("tensor")]
    AUTO_FOCUS = "#heatmap"

    def __init__(self, node: int, name: TensorName = "input", slot: int = 0, index: Sequence[int] = ()) -> None:
        super().__init__()
        self.node = node
        self.direction, self.quantity = place_of(name)
        self.slot = slot
        self.edges: tuple[Edge, ...] = ()
        self.place = 0
        self.number = 0
        self.path = ""
        self._index = tuple(index)
        self._example: int | None = None
        self._source: TensorSource | None = None
        self._counts: Counts | None = None

    def compose_body(self) -> ComposeResult:
        """Which tensor, the heatmap, the figures."""
        title, figures = ShortLines(2, id="tensor-title"), ShortLines(5, id="tensor-figures")
        # Given their final heights now, so that the heatmap gets its size, and reads the tensor, only once.
        title.styles.height = 2
        figures.styles.height = len(self._figures(self.app.size.width))
        yield title
        yield Heatmap(id="heatmap")
        yield figures

    def compose_below(self) -> ComposeResult:
        """The jump line."""
        yield JumpBar(id="jump")

    @property
    def heatmap(self) -> Heatmap:
        return self.query_one("#heatmap", Heatmap)

    @property
    def jump(self) -> JumpBar:
        return self.query_one("#jump", JumpBar)

    def refresh_session(self) -> None:
        """Read the call's edges, and show the tensor for the session's example."""
        try:
            self.path = self.session.trace.nodes[self.node].path
            self.edges = self.session.trace.edges(self.node)
        except (TraceFileError, IndexError) as error:
            self.edges = ()
            self._say(str(error) or "There is no such call.")
            return
        if not self.edges:
            self._say("No tensors were recorded for this call.")
            return
        wanted = [
            place for place, edge in enumerate(self.edges) if (edge.direction, edge.slot) == (self.direction, self.slot)
        ]
        if not wanted:
            wanted = [place for place, edge in enumerate(self.edges) if edge.direction == self.direction]
        self.place = wanted[0] if wanted else 0
        # A trace that grows while it is looked at leaves the slice as it is; another example does not.
        again = self._source is not None and self._example == self.session.example
        self._example = self.session.example
        self._open(self.number if again else self._first_slice())

    def lay_out_header(self) -> None:
        """Hide the verdict where the tensor needs the room, and always the tabs."""
        super().lay_out_header()
        self.query_one("#header", Header).display = self.app.size.height >= _ROOM_FOR_VERDICT
        self.query_one("#tabs", Tabs).display = False

    def on_heatmap_read(self, event: Heatmap.Read) -> None:
        """Count the histogram: at once, or beside the keys where the slice is large."""
        self._counts = None
        source = self._source
        if source is None:
            return
        bins = histogram_bins(self.app.size.width)
        if source.rows * source.columns <= KEPT_ELEMENTS:
            self._count(source, self.number, bins)
        else:
            # Later, so that it does not hold the picture up.
            self.set_timer(_HISTOGRAM_DELAY, lambda: self._count_in_thread(source, self.number, bins))

    def on_heatmap_moved(self, event: Heatmap.Moved) -> None:
        """Say what is under the cursor."""
        self._show_figures()

    def on_jump_bar_wanted(self, event: JumpBar.Wanted) -> None:
        """Go to the element, in another slice if need be."""
        source = self._source
        if source is None:
            return
        try:
            indices = indices_of(event.text, source.shape, source.index_of(self.number))
        except ValueError as error:
            self.jump.say(str(error))
            return
        leading = len(source.leading)
        number_ = source.number_of(indices[:leading])
        if number_ != self.number:
            self._open(number_)
        *row, column = (0, 0, *indices[leading:])[-2:]
        self.heatmap.go_to(row[0], column)
        self._end_jump()

    def on_jump_bar_ended(self) -> None:
        """Give the keys back to the heatmap."""
        self._end_jump()

    def copyable(self) -> tuple[str, str]:
        """The call's path, and the element under the cursor."""
        reading = self.heatmap.reading()
        return self.path, "" if reading is None else repr(reading.value)

    def action_quantity(self, quantity: Quantity) -> None:
        """Show another quantity of the same edge."""
        self.quantity = quantity
        self._open(self.number)

    def action_edge(self, step: int) -> None:
        """Show the next tensor of the call, or the one before."""
        if self.edges:
            self.place = (self.place + step) % len(self.edges)
            edge = self.edges[self.place]
            self.direction, self.slot = edge.direction, edge.slot
            self._open(self.number)

    def action_slice(self, step: int) -> None:
        """Show the next slice, or the one before."""
        if self._source is not None and self._source.slices > 1:
            self._open((self.number + step) % self._source.slices)
        else:
            self.host.say("This tensor has one slice.")

    def action_first_axis(self, step: int) -> None:
        """Show the same slice one further on the first axis."""
        if self._source is not None and self._source.slices > 1:
            first, *others = self._source.index_of(self.number)
            self._open(self._source.number_of([(first + step) % self._source.leading[0], *others]))
        else:
            self.host.say("This tensor has one slice.")

    def action_jump(self) -> None:
        """Open the jump line."""
        if self._source is None or self._source.problem:
            return
        axes = ",".join("ijklmnop"[: min(len(self._source.shape), 8)])
        self.jump.open(f"i,j or {axes}   Enter jumps, Esc ends" if self._source.leading else f"{axes}   Enter jumps")

    def action_export(self, kind: str) -> None:
        """Write the slice to a file in the present folder, and say which."""
        source = self._source
        if source is None or source.problem:
            self.host.say("There is nothing to write.")
            return
        self.run_worker(
            lambda: self._export(source, self.number, kind), thread=True, group="export", exit_on_error=False
        )

    def action_call(self) -> None:
        """Show the call in the layers."""
        self.host.go_to(self.node)

    def action_close(self) -> None:
        """Back to the screen below."""
        self.app.pop_screen()

    async def action_quit(self) -> None:
        """Back to the screen below, as the title of the key says."""
        self.action_close()

    def _first_slice(self) -> int:
        """The slice that was asked for, else the first of the session's example."""
        source = TensorSource(self.session.trace, self.node, self.edges[self.place], self.quantity)
        if source.problem or not source.leading:
            return 0
        index = [*self._index, *[0] * len(source.leading)][: len(source.leading)]
        run, example = self.session.trace.run, self.session.example
        if example is not None and source.leading[0] == run.examples:
            index[0] = example
        try:
            return source.number_of(index)
        except ValueError:
            return 0

    def _open(self, number_: int) -> None:
        """Show a slice of the chosen quantity of the chosen edge."""
        if not self.edges:
            return
        edge, trace = self.edges[self.place], self.session.trace
        kept = self._source
        if kept is None or kept.edge is not edge or kept.quantity != self.quantity:
            self._source = TensorSource(trace, self.node, edge, self.quantity)
        source = self._source
        assert source is not None
        self.number = number_ if number_ < source.slices else 0
        self._counts = None
        index = source.index_of(self.number)
        rows, columns = row_and_column_labels(trace.run, source.shape, index, self.quantity == "reference")
        self.query_one("#tensor-title", ShortLines).show(self._title)
        self.heatmap.show(source, self.number, rows, columns)
        self._show_figures()

    def _title(self, width: int) -> Lines:
        assert self._source is not None
        return [
            tensor_title(self.path, self._source, self.place, len(self.edges), width),
            quantity_line(self._source.edge, self.quantity, self._source, self.number, width),
        ]

    def _show_figures(self) -> None:
        self.query_one("#tensor-figures", ShortLines).show(self._figures)

    def _figures(self, width: int) -> Lines:
        """The element under the cursor, the figures of the slice and the histogram; as many empty lines before."""
        high = self.app.size.height
        summary_height = 1 if high < _LOW else len(lines_of_summary(width))
        lines: list[Line] = []
        reading = self.heatmap.reading() if self.is_mounted else None
        source = self._source
        if source is not None and reading is not None and self.heatmap.summary is not None:
            heatmap, summary = self.heatmap, self.heatmap.summary
            index = source.index_of(self.number)
            run = self.session.trace.run
            rows, columns = row_and_column_labels(run, source.shape, index, self.quantity == "reference")
            lines.append(reading_line(reading, index, rows, columns, len(source.shape) < 2, width))
            lines += summary_lines(summary, heatmap.scale_is_logarithmic, width)[:summary_height]
            if high >= _ROOM_FOR_HISTOGRAM:
                lines.append(histogram_line(self._counts, summary, width, heatmap.ascii_only))
        return [*lines, *[[]] * (1 + summary_height + (high >= _ROOM_FOR_HISTOGRAM) - len(lines))]

    def _say(self, text: str) -> None:
        self._source = None
        self.query_one("#tensor-title", ShortLines).show(lambda width: problem_lines(self.path, width)[:1])
        self.query_one("#tensor-figures", ShortLines).show(lambda width: ())
        self.heatmap.say(text)

    def _end_jump(self) -> None:
        self.jump.close()
        self.heatmap.focus()

    def _count(self, source: TensorSource, number_: int, bins: int, in_thread: bool = False) -> None:
        summary = self.heatmap.summary
        if summary is None:
            return
        try:
            counts = histogram(source.blocks(number_, 0, source.rows), summary, bins)
        except TraceFileError:
            return  # the heatmap says so
        if not in_thread:
            self._counts = counts
        elif not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._take_counts, source, number_, counts)

    def _count_in_thread(self, source: TensorSource, number_: int, bins: int) -> None:
        if source is self._source and number_ == self.number and self.is_attached:
            work = partial(self._count, source, number_, bins, in_thread=True)
            self.run_worker(work, thread=True, exclusive=True, group="histogram", exit_on_error=False)

    def _take_counts(self, source: TensorSource, number_: int, counts: Counts) -> None:
        if source is self._source and number_ == self.number:
            self._counts = counts
            self._show_figures()

    def _export(self, source: TensorSource, number_: int, kind: str) -> None:
        try:
            file = export(source, number_, self.path, Path.cwd(), kind)
            words = f"Written to {file} ({number(file.stat().st_size / 1e6, digits=3)} MB)."
        except (OSError, TraceFileError) as error:
            words = f"Not written: {error}"
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self.host.say, words)
