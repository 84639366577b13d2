"""The head of the screen: the verdict, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence

from textual.strip import Strip
from textual.widget import Widget

from tracer.records import Run
from tracer.verdict import Verdict
from tui.header_lines import header_lines
from tui.theme import Line
from tui.widgets.lines import strip_of

SHORT = 16


class Header(Widget):
    """As high as what it says; on a short screen it says less."""

    def __init__(self, run: Run, verdict: Verdict, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.run = run
        self.verdict = verdict
        self._lines: Sequence[Line] = ()

    def lay_out(self, width: int, height: int) -> None:
        """Take the lines, and with them the height, that suit a screen of this size."""
        self._lines = header_lines(self.run, self.verdict, width, short=height < SHORT)
        self.styles.height = len(self._lines)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """The line at this height."""
        cells = self._lines[y] if y < len(self._lines) else ()
        return strip_of(cells, self.size.width, not self.app.no_color).apply_style(self.rich_style)
