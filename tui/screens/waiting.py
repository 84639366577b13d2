"""What a recording says, shown until it has a trace to show."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen

from tracer.text import clean
from tui import actions
from tui.keys import Scope
from tui.lines import layers as layer_lines
from tui.lines.pieces import paragraph
from tui.live.process import RecordingProcess
from tui.looks.roles import Line, Role
from tui.widgets.footer import Footer
from tui.widgets.lines import LinesView
from tui.widgets.short_lines import ShortLines

_SECONDS = 0.2


def waiting_lines(lines: list[str], width: int) -> list[Line]:
    """What the recording has said, the latest line first and strong."""
    said: list[Line] = []
    for index, line in enumerate(reversed(lines)):
        said += paragraph(line, width, Role.MUTED if index else Role.STRONG)
    return said or [[("The recording starts.", Role.STRONG)]]


class WaitingScreen(Screen[None]):
    """The application closes it once there is a trace; `q` ends the recording as well."""

    SCOPE: ClassVar[Scope] = "waiting"
    READING = layer_lines.READING
    DEFAULT_CSS = """
    WaitingScreen {
        #waiting-title { background: $panel; }
        #waiting-lines { padding: 1 2; height: 1fr; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("waiting")]

    def __init__(self, recording: RecordingProcess) -> None:
        super().__init__()
        self._recording = recording
        self._said = -1

    def compose(self) -> ComposeResult:
        """What is waited for, what was said, the keys."""
        yield ShortLines(2, id="waiting-title")
        yield LinesView(id="waiting-lines")
        yield Footer(self.SCOPE, id="footer")

    def on_mount(self) -> None:
        """Say what is waited for, and look for new lines now and then."""
        title = f"Waiting for {clean(str(self._recording.path))}"
        self.query_one("#waiting-title", ShortLines).show(lambda width: paragraph(title, width, Role.TITLE))
        self._look()
        self.set_interval(_SECONDS, self._look)

    def action_help(self) -> None:
        from tui.screens.help import HelpScreen

        self.app.push_screen(HelpScreen(self.SCOPE, self.READING))

    async def action_quit(self) -> None:
        """Leave, and end the recording."""
        self.app.exit()

    def _look(self) -> None:
        if self._said != self._recording.said:
            self._said = self._recording.said
            lines = list(self._recording.lines)
            self.query_one("#waiting-lines", LinesView).show(lambda width: waiting_lines(lines, width))
