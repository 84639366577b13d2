"""The help, over any screen."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from tui.host import host_of
from tui.keys import Scope
from tui.lines.help import HelpText, help_lines
from tui.looks.panes import framed
from tui.widgets.lines import LinesView


class HelpScreen(ModalScreen[None]):
    """Lies over the screen until Esc, `?` or `q`."""

    DEFAULT_CSS = framed("HelpScreen", "#help", "width: 96; height: 44;")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q", "dismiss", "Close")]

    def __init__(self, scope: Scope, texts: HelpText, pane: Scope | None = None) -> None:
        super().__init__()
        self.scope = scope
        self.texts = texts
        self.pane = pane

    def compose(self) -> ComposeResult:
        """The help in a frame."""
        view = LinesView(id="help")
        view.border_title = "Help"
        view.border_subtitle = "Esc closes"
        yield view

    def on_mount(self) -> None:
        """Fill the frame."""
        keymap = host_of(self).keys
        self.query_one(LinesView).show(lambda width: help_lines(width, self.scope, self.texts, self.pane, keymap))
