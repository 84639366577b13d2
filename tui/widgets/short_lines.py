"""A few lines that take the room they need: they neither scroll nor take the keys."""

from __future__ import annotations

from tui.looks.roles import Role
from tui.widgets.lines import LinesView


class ShortLines(LinesView, can_focus=False):
    """As high as its lines, at most `most` of them, the last then ending in "…"; not there at all without any."""

    def __init__(self, most: int = 6, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.most = most

    def _lay_out(self) -> None:
        super()._lay_out()
        if len(self._lines) > self.most:
            last = self._lines[self.most - 1]
            self._lines = [*self._lines[: self.most - 1], [*last, (" …", last[-1][1] if last else Role.MUTED)]]
        self.styles.height = min(len(self._lines), self.most)
