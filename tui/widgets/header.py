"""The head of the screen: the verdict, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.events import Click
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tui.lines.header import clicked, header_lines
from tui.looks.roles import Line
from tui.model.session import Session
from tui.widgets.lines import look_of, strip_of

SHORT = 16


class Header(Widget):
    """As high as what it says; on a short screen it says less."""

    @dataclass
    class ExampleWanted(Message):
        """The example was clicked: "previous", "next" or "choose"."""

        which: str

    def __init__(self, session: Session, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.session = session
        self._lines: Sequence[Line] = ()

    def lay_out(self, width: int, height: int) -> None:
        """Take the lines, and with them the height, that suit a screen of this size."""
        self._lines = header_lines(
            self.session.trace.run, self.session.verdict, width, short=height < SHORT, example=self.session.example
        )
        self.styles.height = len(self._lines)
        self.refresh()

    def on_click(self, event: Click) -> None:
        """The example that the figures are of can be clicked: the signs beside it step, the words offer all."""
        offset = event.get_content_offset(self)
        wanted = clicked(self._lines[offset.y], offset.x) if offset is not None and offset.y < len(self._lines) else ""
        if wanted:
            self.post_message(self.ExampleWanted(wanted))

    def render_line(self, y: int) -> Strip:
        """The line at this height."""
        cells = self._lines[y] if y < len(self._lines) else ()
        return strip_of(cells, self.size.width, look_of(self)).apply_style(self.rich_style)
