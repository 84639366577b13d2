"""What screens and widgets know of the application, so that they need not import it."""

from __future__ import annotations

from typing import Protocol, cast

from textual.message_pump import MessagePump

from tracer.tracefile.trace import TensorName, Trace
from tui.keys import Keymap
from tui.looks.themes import Look
from tui.model.session import Session


class Host(Protocol):
    """The application as the screens use it: the session that they share, and the ways from one screen to another."""

    session: Session
    keys: Keymap

    @property
    def look(self) -> Look:
        """The theme in use."""

    def show_screen(self, name: str) -> None:
        """Bring a screen of the table up."""

    def go_to(self, node: int) -> None:
        """Show this call in Layers; the call that was selected before is one step back."""

    def travel(self, forward: bool) -> None:
        """Go one step through the calls that were visited."""

    def open_tensor(self, node: int, name: TensorName = "input", slot: int = 0) -> None:
        """Show a tensor of a call over the present screen."""

    def enter_trace(self, trace: Trace, other: Trace | None = None) -> None:
        """Open a trace of the folder, or two to compare; TraceFileError where one cannot be read."""

    def leave_trace(self) -> None:
        """Go back to the folder, if there is one."""

    def session_changed(self) -> None:
        """Show another example, threshold or trace."""

    def use_theme(self, name: str) -> None:
        """Show everything in another theme, and remember it."""

    def copy(self, text: str) -> None:
        """Copy a text, and say where it went."""

    def say(self, text: str) -> None:
        """Show a short message."""

    def action_redraw(self) -> None:
        """Paint everything again."""


def host_of(part: MessagePump) -> Host:
    """The application that a screen or widget runs in."""
    return cast(Host, part.app)
