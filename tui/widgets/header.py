"""The head of the screen: the verdict, and the numbers behind it."""

from __future__ import annotations

from textual.events import Resize

from tracer.records import Run
from tui.header_lines import Headline, header_lines
from tui.widgets.lines import LinesView

SHORT = 16


class Header(LinesView, can_focus=False):
    """As high as what it says; on a short screen it says less."""

    def __init__(self, run: Run, headline: Headline, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.run = run
        self.headline = headline

    def lay_out(self, width: int, height: int) -> None:
        """Take the lines, and with them the height, that suit a screen of this size."""
        lines = header_lines(self.run, self.headline, width, short=height < SHORT)
        self.styles.height = len(lines)
        self.show(lambda _: lines)

    def on_resize(self, event: Resize) -> None:
        """Nothing here: the screen lays the header out, since it depends on the screen's height as well."""
