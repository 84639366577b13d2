"""The attention heads: which of them leaks, and what it attends to in input, reference and multipliers."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.events import Resize
from textual.widget import Widget
from textual.worker import get_current_worker

from tracer.analysis.heads import Attention, HeadFigures, attentions, head_figures
from tracer.analysis.severity import NEGLIGIBLE
from tracer.analysis.verdict import changes
from tracer.errors import TraceFileError
from tracer.tracefile.trace import Trace
from tui import actions
from tui.lines import heads as head_lines
from tui.lines.format import number
from tui.lines.heads import HeadTable
from tui.lines.pieces import paragraph
from tui.looks.panes import titled
from tui.looks.roles import Line, Role
from tui.model.axis_labels import row_and_column_labels
from tui.model.tensor_source import Quantity, TensorSource
from tui.screens.base import TraceScreen
from tui.widgets.head_grid import HeadGrid
from tui.widgets.header import SHORT
from tui.widgets.heatmap import Heatmap
from tui.widgets.lines import LinesView
from tui.widgets.short_lines import ShortLines

_SIDE_BY_SIDE = 90
_LOW = 34
_MATRICES: tuple[tuple[str, str, Quantity], ...] = (
    ("probability", "Probability", "value"),
    ("probability-reference", "Reference", "reference"),
    ("probability-multiplier", "Multiplier", "multiplier"),
)


class HeadsScreen(TraceScreen):
    """The table of heads over the matrices of the selected one: side by side, stacked, or one at a time."""

    SCOPE = "heads"
    READING = head_lines.READING
    DEFAULT_CSS = (
        titled("HeadsScreen", "#matrices Heatmap")
        + """
    HeadsScreen {
        #head { background: $panel; }
        #matrices { height: 1fr; layout: vertical; }
        &.beside #matrices { layout: horizontal; }
        #heads-empty { padding: 1 2; height: 1fr; }
    }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("heads")]
    AUTO_FOCUS = "#head-table"

    def __init__(self) -> None:
        super().__init__()
        self._trace: Trace | None = None
        self._attentions: list[Attention] = []
        self._figures: dict[int, HeadFigures] = {}
        self._searching = False
        self._gain = False
        self._touched = False
        self._shown = "probability"
        self._problem = ""

    def compose_body(self) -> ComposeResult:
        """The table, the selected head in words, its matrices; or why there are none."""
        yield HeadGrid(id="head-table")
        yield ShortLines(4, id="head")
        with Container(id="matrices"):
            for name, _, _ in _MATRICES:
                yield Heatmap(id=name)
        yield ShortLines(1, id="head-pair")
        yield LinesView(id="heads-empty")

    @property
    def table(self) -> HeadGrid:
        return self.query_one("#head-table", HeadGrid)

    @property
    def matrices(self) -> list[Heatmap]:
        """The heatmaps of probability, reference and multiplier."""
        return [self.query_one(f"#{name}", Heatmap) for name, _, _ in _MATRICES]

    def refresh_session(self) -> None:
        """Look for the attentions of a new trace, and work the heads' figures out for the example."""
        for heatmap, (_, title, _) in zip(self.matrices, _MATRICES, strict=True):
            heatmap.border_title = title
        if self.session.trace is not self._trace:
            self._trace = self.session.trace
            self._attentions = []
        self._figures = {}
        self._problem = ""
        self._searching = True
        self._show()
        self.run_worker(self._work, thread=True, exclusive=True, exit_on_error=False, group="heads")

    def on_resize(self, event: Resize) -> None:
        """Lay the matrices out for this size."""
        super().on_resize(event)
        self._arrange()

    def on_head_grid_moved(self, event: HeadGrid.Moved) -> None:
        """Show the matrices of the selected head."""
        self._show_head()

    def on_head_grid_chosen(self, event: HeadGrid.Chosen) -> None:
        """View the probabilities in full."""
        self.action_tensor()

    def on_heatmap_read(self, event: Heatmap.Read) -> None:
        """Say beside a matrix's name which value has the strongest colour: each has a scale of its own."""
        title = next(title for name, title, _ in _MATRICES if name == event.heatmap.id)
        event.heatmap.border_title = f"{title}   colours ±{number(event.summary.largest, digits=3)}"

    def on_heatmap_moved(self, event: Heatmap.Moved) -> None:
        """Put the cursors of all matrices on the same pair, and say its values."""
        if self.focused is event.heatmap or event.heatmap is self.matrices[0]:
            for heatmap in self.matrices:
                if heatmap is not event.heatmap and heatmap.cursor != event.heatmap.cursor:
                    heatmap.go_to(*event.heatmap.cursor)
        self._show_pair()

    def copyable(self) -> tuple[str, str]:
        """The attention's path, and the leak or gain of the selected head."""
        attention = self._selected
        if attention is None:
            return "", ""
        return attention.path, repr(float(self.table.table.values(self.table.row)[self.table.head]))

    def action_move(self, down: int, across: int) -> None:
        """Another head."""
        self._touched = True
        self.table.move_to(self.table.row + down, self.table.head + across)

    def action_page(self, pages: int) -> None:
        """A page of layers up or down."""
        self.action_move(pages * self.table.page, 0)

    def action_worst(self) -> None:
        """To the head with the largest |leak|, or gain."""
        worst = self.table.table.worst
        if worst is None:
            self.host.say("No head's figures are known.")
        else:
            self._touched = True
            self.table.move_to(*worst)

    def action_measure(self) -> None:
        """Leaks in the table, or gains."""
        self._gain = not self._gain
        self._show()

    def action_tensor(self) -> None:
        """View the tensors of the selected call, the head's slice first."""
        attention = self._selected
        if attention is not None:
            from tui.screens.tensor import TensorScreen

            example = self.session.example or 0
            part = attention.output
            index = self._source("value", attention).index_of(example * part.heads + self.table.head)
            self.app.push_screen(TensorScreen(attention.node, "output", part.edge.slot, index))

    def action_open_call(self) -> None:
        """Show the attention's call in Layers."""
        if self._selected is not None:
            self.host.go_to(self._selected.node)

    def action_switch_pane(self, step: int) -> None:
        """From the table through the matrices and back."""
        panes: list[Widget] = [self.table, *self.matrices]
        if self._selected is None or self._selected.kind == "fused":
            panes = panes[:2]
        place = panes.index(self.focused) if self.focused in panes else 0
        chosen = panes[(place + step) % len(panes)]
        if chosen is not self.table:
            self._shown = str(chosen.id)
        chosen.display = self.query_one("#matrices").display = True
        chosen.focus(scroll_visible=False)
        self.call_after_refresh(self._arrange)

    @property
    def _selected(self) -> Attention | None:
        return self._attentions[self.table.row] if self.table.row < len(self._attentions) else None

    def _work(self) -> None:
        """Find the attentions and their heads' figures, and hand them over one by one."""
        worker = get_current_worker()
        trace, example = self.session.trace, self.session.example
        try:
            found = list(self._attentions)
            if not found:
                for attention in attentions(trace):
                    if worker.is_cancelled:
                        return
                    if attention is not None:
                        found.append(attention)
                self.app.call_from_thread(self._take_attentions, found)
            for attention in found:
                if worker.is_cancelled:
                    return
                figures = head_figures(trace, attention, example)
                self.app.call_from_thread(self._take_figures, attention, figures, worker.is_cancelled)
        except TraceFileError as error:
            if not worker.is_cancelled:
                self.app.call_from_thread(self._fail, str(error))
            return
        if not worker.is_cancelled:
            self.app.call_from_thread(self._end_search)

    def _take_attentions(self, found: list[Attention]) -> None:
        self._attentions = found
        self._searching = False
        self._show()
        if self.focused is None and found:
            self.table.focus(scroll_visible=False)
        self._show_head()

    def _take_figures(self, attention: Attention, figures: HeadFigures, cancelled: bool) -> None:
        if not cancelled:
            self._figures[attention.node] = figures
            self._show()

    def _end_search(self) -> None:
        self._searching = False
        self._show()
        worst = self.table.table.worst
        if worst is not None and not self._touched:
            self.table.move_to(*worst)
        else:
            self._show_head()

    def _fail(self, reason: str) -> None:
        self._searching = False
        self._problem = reason
        self._show()

    def _show(self) -> None:
        run, example = self.session.trace.run, self.session.example
        change = changes(run)
        floor = NEGLIGIBLE * abs(float(change.sum() if example is None else change[example]))
        self.table.show(HeadTable(self._attentions, dict(self._figures), floor, self._gain))
        self._arrange()
        self.query_one("#head", ShortLines).show(self._head_lines)
        self.query_one("#heads-empty", LinesView).show(self._empty_lines)

    def _head_lines(self, width: int) -> list[Line]:
        if self._selected is None:
            return []
        table = self.table.table
        lines = head_lines.head_lines(table, self.table.row, self.table.head, head_lines.total_leak(table), width)
        run = self.session.trace.run
        if self.session.example is None and run.examples > 1:
            text = f"Figures are sums over {run.examples} examples, the matrices are those of example 0."
            lines += paragraph(text, width, Role.WARNING)
        return lines

    def _empty_lines(self, width: int) -> list[Line]:
        text = self._problem or head_lines.empty_text(self._searching)
        return paragraph(text, width, Role.MUTED)

    def _show_head(self) -> None:
        attention = self._selected
        self.query_one("#head", ShortLines).show(self._head_lines)
        self._arrange()
        if attention is None:
            return
        slice_ = (self.session.example or 0) * attention.output.heads + self.table.head
        sources = [self._source(quantity, attention) for _, _, quantity in _MATRICES]
        for heatmap, source in zip(self.matrices, sources, strict=True):
            if attention.kind == "fused":
                heatmap.say(head_lines.unrecorded_text(attention))
            elif source.problem:
                heatmap.say(source.problem)
            else:
                index = source.index_of(slice_)
                rows, columns = row_and_column_labels(
                    self.session.trace.run, source.shape, index, source.quantity == "reference"
                )
                heatmap.show(source, slice_, rows, columns)
        self._show_pair()

    def _source(self, quantity: Quantity, attention: Attention) -> TensorSource:
        return TensorSource(self.session.trace, attention.node, attention.output.edge, quantity)

    def _show_pair(self) -> None:
        self.query_one("#head-pair", ShortLines).show(self._pair_lines)

    def _pair_lines(self, width: int) -> list[Line]:
        readings = [heatmap.reading() for heatmap in self.matrices]
        known = [
            (title.lower(), float(reading.value.real))
            for reading, (_, title, _) in zip(readings, _MATRICES, strict=True)
            if reading is not None
        ]
        first = next((reading for reading in readings if reading is not None), None)
        if first is None:
            return []
        source = self.matrices[0].source
        rows: list[str] = []
        columns: list[str] = []
        if source is not None:
            index = source.index_of(self.matrices[0].number)
            rows, columns = row_and_column_labels(self.session.trace.run, source.shape, index)
        query = rows[first.row] if rows else str(first.row)
        key = columns[first.column] if columns else str(first.column)
        return [head_lines.pair_line(query, key, known, width)]

    def _arrange(self) -> None:
        """Matrices side by side, stacked, or the last one chosen alone; on a short screen instead of the table."""
        width, height = self.app.size
        there, attention = bool(self._attentions), self._selected
        beside = width >= _SIDE_BY_SIDE
        self.set_class(beside, "beside")
        fused = attention is not None and attention.kind == "fused"
        shown = _MATRICES[0][0] if fused else self._shown
        alone = fused or (not beside and height < _LOW)
        for heatmap in self.matrices:
            heatmap.display = not alone or heatmap.id == shown
        short, in_matrix = height < SHORT, self.focused in self.matrices
        self.table.display = there and not (short and in_matrix)
        self.query_one("#matrices").display = there and not (short and not in_matrix)
        self.query_one("#head", ShortLines).most = 1 if short else 4
        for name in ("#head", "#head-pair"):
            self.query_one(name).display = there
        self.query_one("#heads-empty").display = not there
        room = height if short else max(height // 3 - 3, 3)
        self.table.styles.height = min(len(self._attentions) + 1, room)
