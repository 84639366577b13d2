"""The search line: a query that finds while it is typed, and how many calls it found."""

from __future__ import annotations

from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.events import Key
from textual.message import Message
from textual.widgets import Input, Label

from tui.lines.format import plural


class SearchBar(Horizontal):
    """Out of sight until it is opened. Enter hands the keys back to the tree, Esc ends the search."""

    @dataclass
    class Typed(Message):
        """The query has changed."""

        query: str

    class Kept(Message):
        """Enter: the hits stay, `n` and `N` go from one to the next."""

    class Ended(Message):
        """Esc while typing: the search is over, and the cursor goes back to where it began."""

    filters = False
    """Whether what is typed filters the tree, instead of being searched."""

    def compose(self) -> ComposeResult:
        """The slash, the query, and the count."""
        yield Label("/", id="slash")
        query = Input(id="query", compact=True, placeholder="path, type or source line", select_on_focus=False)
        query.cursor_blink = False
        yield query
        yield Label("", id="count")

    @property
    def typing(self) -> bool:
        """Whether the query has the focus."""
        return self._input.has_focus

    @property
    def query_text(self) -> str:
        """The query as it stands."""
        return self._input.value

    def open(self, filters: bool = False, text: str = "") -> None:
        """Show the line and take the keys, to search, or to filter by what is typed."""
        self.filters = filters
        self.display = True
        self.query_one("#slash", Label).update(Content("only" if filters else "/"))
        with self._input.prevent(Input.Changed):
            self._input.value = text
        self.say("Enter keeps, Esc gives up" if filters else "")
        self._input.focus()

    def close(self) -> None:
        """Hide the line."""
        self.display = False

    def report(self, hits: int, place: int | None, loosely: bool = False) -> None:
        """Say how many calls were found and which of them, by rank, the cursor is on (from 0)."""
        if not self._input.value.strip():
            self.say("Esc ends")
        elif not hits:
            self.say("nothing found   Esc ends")
        else:
            where = "" if place is None else f"{place + 1} of "
            like = "  not as written" if loosely else ""
            keys = "Enter keeps, Esc ends" if self.typing else "n N, Esc ends"
            self.say(f"{where}{plural(hits, 'hit')}{like}   {keys}")

    def say(self, text: str) -> None:
        """Show a text of our own beside the query."""
        self.query_one("#count", Label).update(Content(text))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Pass a new query on."""
        event.stop()
        self.post_message(self.Typed(event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter."""
        event.stop()
        self.post_message(self.Kept())

    def on_key(self, event: Key) -> None:
        """Esc and the arrows do not belong to the query."""
        if event.key == "escape":
            event.stop()
            self.post_message(self.Ended())

    @property
    def _input(self) -> Input:
        return self.query_one("#query", Input)
