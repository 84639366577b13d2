"""A few lines that take the room they need: they neither scroll nor take the keys."""

from __future__ import annotations

from tui.widgets.lines import LinesView


class Note(LinesView, can_focus=False):
    """As high as its lines, at most `most` of them; not there at all without any."""

    def __init__(self, most: int = 6, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.most = most

    def _lay_out(self) -> None:
        super()._lay_out()
        self.styles.height = min(len(self._lines), self.most)
