"""The detail pane: everything the trace keeps about the selected call."""

from __future__ import annotations

from tracer.errors import TraceFileError
from tracer.plain import clean
from tracer.trace import Trace
from tui.detail_lines import detail_lines
from tui.figures import Figures
from tui.format import wrap
from tui.theme import Line, Role
from tui.widgets.lines import LinesView


class Detail(LinesView):
    """Reads one call and its edges from the trace when it is told to show it."""

    def __init__(self, trace: Trace, figures: Figures, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.trace = trace
        self.figures = figures
        self.node: int | None = None
        self._delta = float(trace.delta.sum())

    def show_call(self, node: int) -> None:
        """Show the call with this id; what cannot be read is said in words instead."""
        if node == self.node:
            return
        self.node = node
        if node < 0:
            self.show(lambda width: _say("No call was recorded.", width, Role.MUTED))
            return
        try:
            record, edges = self.trace.nodes[node], self.trace.edges(node)
        except TraceFileError as error:
            text = f"This call cannot be read: {error}"
            self.show(lambda width: _say(text, width, Role.WARNING))
            return
        self.show(lambda width: detail_lines(record, edges, self.figures, self._delta, width))


def _say(text: str, width: int, role: Role) -> list[Line]:
    return [[(line, role)] for line in wrap(clean(text), width)]
