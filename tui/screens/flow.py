"""The layer × token map: what each layer's output carries of the attribution, and where signs change."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.events import Resize

from tracer.analysis.flow_map import FlowMap, flow_map
from tracer.errors import TracerError
from tracer.text import clean
from tracer.tracefile.trace import Trace
from tui import actions
from tui.lines import flow as flow_rows
from tui.lines import flow_table
from tui.lines.pieces import paragraph
from tui.looks.roles import Line, Role
from tui.screens.base import TraceScreen
from tui.widgets.flow_grid import FlowGrid
from tui.widgets.header import SHORT
from tui.widgets.lines import LinesView
from tui.widgets.short_lines import ShortLines


class FlowScreen(TraceScreen):
    """A sentence about the map, the map, and the cell under the cursor in numbers."""

    SCOPE = "flow"
    READING = flow_rows.READING
    DEFAULT_CSS = """
    FlowScreen {
        #flow-cursor { background: $panel; }
        #flow-empty { padding: 1 2; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("flow")]
    AUTO_FOCUS = ""

    def __init__(self) -> None:
        super().__init__()
        self._read: tuple[Trace, int] | None = None
        self._map: FlowMap | None = None
        self._problem = ""
        self._whole = False

    def compose_body(self) -> ComposeResult:
        """Summary, map, the cell under the cursor; or why there is no map."""
        yield ShortLines(3, id="flow-summary")
        yield FlowGrid(id="flow-grid")
        yield ShortLines(2, id="flow-cursor")
        yield ShortLines(1, id="flow-legend")
        yield LinesView(id="flow-empty")

    @property
    def grid(self) -> FlowGrid:
        return self.query_one("#flow-grid", FlowGrid)

    def refresh_session(self) -> None:
        """Read the map of the example, unless it is the one that is shown."""
        wanted = (self.session.trace, self.session.example or 0)
        if wanted != self._read:
            self._read = wanted
            try:
                self._map, self._problem = flow_map(*wanted), ""
            except TracerError as error:
                self._map, self._problem = None, str(error)
        self._show()

    def on_resize(self, event: Resize) -> None:
        """Leave out summary and legend on a short screen."""
        self._arrange()

    def on_flow_grid_moved(self, event: FlowGrid.Moved) -> None:
        """Say what is under the cursor."""
        self._tell()

    def on_flow_grid_chosen(self, event: FlowGrid.Chosen) -> None:
        """Go to the call that was clicked."""
        self.action_open_call()

    def action_cursor_up(self) -> None:
        self._move(-1, 0)

    def action_cursor_down(self) -> None:
        self._move(1, 0)

    def action_cursor_left(self) -> None:
        self._move(0, -1)

    def action_cursor_right(self) -> None:
        self._move(0, 1)

    def action_page_up(self) -> None:
        self._move(-self.grid.page, 0)

    def action_page_down(self) -> None:
        self._move(self.grid.page, 0)

    def action_first_token(self) -> None:
        self.grid.move_to(self.grid.row, 0)

    def action_last_token(self) -> None:
        if self._map is not None:
            self.grid.move_to(self.grid.row, len(self._map.tokens) - 1)

    def action_first_layer(self) -> None:
        self.grid.move_to(0, self.grid.column)

    def action_last_layer(self) -> None:
        if self._map is not None:
            self.grid.move_to(len(self._map.nodes) - 1, self.grid.column)

    def action_next(self) -> None:
        """To the next change of sign."""
        self._step(True)

    def action_previous(self) -> None:
        """To the change of sign before."""
        self._step(False)

    def action_scale(self) -> None:
        """Measure the heat by the whole map, or row by row."""
        self._whole = not self._whole
        self._show()

    def action_numbers(self) -> None:
        """Numbers in every cell, or shades where there is no room."""
        self.grid.toggle_numbers()
        self._explain()

    def action_open_call(self) -> None:
        """Show the layer's call in Layers."""
        if self._map is not None:
            self.host.go_to(self._map.nodes[self.grid.row])

    def copyable(self) -> tuple[str, str]:
        """The layer's path, and the number under the cursor."""
        if self._map is None:
            return "", ""
        grid, paths = self.grid, self.session.figures.paths
        return clean(paths[self._map.nodes[grid.row]]), repr(float(self._map.values[grid.row, grid.column]))

    def _move(self, down: int, right: int) -> None:
        self.grid.move_to(self.grid.row + down, self.grid.column + right)

    def _step(self, forward: bool) -> None:
        if not self.grid.step_flip(forward):
            self.host.say("No token changes its sign.")

    def _show(self) -> None:
        self._arrange()
        if self._map is None:
            self.query_one("#flow-empty", LinesView).show(self._empty_lines)
            return
        run, example = self.session.trace.run, self.session.example or 0
        change = float(run.output[example] - run.output_reference[example]) if example < run.examples else float("nan")
        self.grid.show(flow_table.table(self._map, change, self._whole))
        self.query_one("#flow-summary", ShortLines).show(self._summary_lines)
        self._tell()

    def _explain(self) -> None:
        table = self.grid.table
        if table is None:
            return

        def lines(width: int) -> list[Line]:
            given = self.grid.layout_now
            return [] if given is None else [flow_rows.legend(table, given, self.grid.first, width)]

        self.query_one("#flow-legend", ShortLines).show(lines)

    def _tell(self) -> None:
        table, grid = self.grid.table, self.grid
        if table is not None:
            row, column = grid.row, grid.column
            self.query_one("#flow-cursor", ShortLines).show(
                lambda width: flow_rows.cursor_lines(table, row, column, width)
            )
            self._explain()

    def _arrange(self) -> None:
        roomy, there = self.app.size.height >= SHORT, self._map is not None
        self.query_one("#flow-summary").display = there and roomy
        self.query_one("#flow-legend").display = there and roomy
        self.query_one("#flow-summary").styles.margin = (0, 0, 1, 0) if self.app.size.height >= 30 else 0
        self.grid.display = there
        self.query_one("#flow-cursor", ShortLines).most = 2 if roomy else 1
        self.query_one("#flow-cursor").display = there
        self.query_one("#flow-empty").display = not there

    def _summary_lines(self, width: int) -> list[Line]:
        table = self.grid.table
        if table is None:
            return []
        lines = flow_rows.summary(table, width)
        if self.session.example is None and self.session.trace.run.examples > 1:
            text = f"Example 0 of {self.session.trace.run.examples}: [ and ] go through the others."
            lines += paragraph(text, width, Role.WARNING)
        return lines

    def _empty_lines(self, width: int) -> list[Line]:
        text = clean(self._problem)
        return paragraph(text[:1].upper() + text[1:] + ".", width, Role.MUTED)
