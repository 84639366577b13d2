"""The line that takes the indices of an element: "i,j", or all indices of the tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.events import Key
from textual.message import Message
from textual.widgets import Input, Label


class JumpBar(Horizontal):
    """Out of sight until it is opened. Enter jumps, Esc gives up."""

    @dataclass
    class Wanted(Message):
        """Enter: where to jump."""

        text: str

    class Ended(Message):
        """Esc: the keys go back."""

    def compose(self) -> ComposeResult:
        """The sign, the indices, and what is wrong with them."""
        yield Label("@", id="at")
        indices = Input(id="indices", compact=True, select_on_focus=False)
        indices.cursor_blink = False
        yield indices
        yield Label("", id="hint")

    def on_mount(self) -> None:
        """Hide the line until it is opened."""
        self.display = False

    def open(self, hint: str) -> None:
        """Show the line, empty, and take the keys."""
        self.display = True
        indices = self.query_one("#indices", Input)
        indices.value = ""
        self.say(hint)
        indices.focus()

    def close(self) -> None:
        """Hide the line."""
        self.display = False

    def say(self, text: str) -> None:
        """Show a text beside the indices."""
        self.query_one("#hint", Label).update(Content(text))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter."""
        event.stop()
        self.post_message(self.Wanted(event.value))

    def on_key(self, event: Key) -> None:
        """Esc does not belong to the indices."""
        if event.key == "escape":
            event.stop()
            self.post_message(self.Ended())


def indices_of(text: str, shape: Sequence[int], leading: Sequence[int]) -> tuple[int, ...]:
    """All indices of the element that `text` names: those of every axis, or of the last ones, after those in `leading`.

    Negative ones count from the end. ValueError says what is wrong.
    """
    parts = text.replace(",", " ").strip(" []()@").split()
    try:
        given = [int(part) for part in parts]
    except ValueError:
        raise ValueError("not a whole number") from None
    matrix = len(shape) - len(leading)
    if len(given) not in (len(shape), matrix):
        either = f"{matrix} or {len(shape)}" if leading else str(len(shape))
        raise ValueError(f"{either} indices, not {len(given)}")
    indices = given if len(given) == len(shape) else [*leading, *given]
    for axis, (index, size) in enumerate(zip(indices, shape, strict=True)):
        if not -size <= index < size:
            raise ValueError(f"axis {axis} has 0 to {size - 1}")
    return tuple(index % size for index, size in zip(indices, shape, strict=True))
