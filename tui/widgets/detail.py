"""The detail pane: everything the trace keeps about the selected call."""

from __future__ import annotations

from dataclasses import dataclass

from textual.events import Click
from textual.message import Message

from tracer.errors import TraceFileError
from tracer.text import clean
from tracer.tracefile.trace import TensorName
from tui.lines.detail import detail_lines, tensor_at
from tui.lines.pieces import paragraph
from tui.looks.roles import Role
from tui.model.figures import figure_of
from tui.model.session import Session
from tui.widgets.lines import LinesView


class Detail(LinesView):
    """Reads one call and its edges from the trace when it is told to show it."""

    def __init__(self, session: Session, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.session = session
        self._shown: tuple[int, int] | None = None

    @dataclass
    class TensorWanted(Message):
        """A tensor's lines were clicked."""

        node: int
        name: TensorName
        slot: int

    def on_click(self, event: Click) -> None:
        """View the tensor that was clicked."""
        offset = event.get_content_offset(self)
        tensor = tensor_at(self._lines, offset.y + self.scroll_offset.y) if offset is not None else None
        if tensor is not None and self._shown is not None:
            self.post_message(self.TensorWanted(self._shown[0], *tensor))

    def show_call(self, node: int) -> None:
        """Show the call with this id; what cannot be read is said in words instead."""
        if self._shown == (node, self.session.revision):
            return
        self._shown = (node, self.session.revision)
        if node < 0:
            empty = not len(self.session.figures)
            words = "No call was recorded." if empty else "No call is shown: the filter keeps none."
            self.show(lambda width: paragraph(words, width, Role.MUTED))
            return
        try:
            record, edges = self.session.trace.nodes[node], self.session.trace.edges(node)
        except TraceFileError as error:
            text = clean(f"This call cannot be read: {error}")
            self.show(lambda width: paragraph(text, width, Role.WARNING))
            return
        figures, example = self.session.figures, self.session.example
        delta = figure_of(self.session.trace.delta, example)
        self.show(lambda width: detail_lines(record, edges, figures, delta, width, example))
