"""The line over the tree that says where the selected call lies; each part can be clicked."""

from __future__ import annotations

from textual.content import Content
from textual.style import Style
from textual.widget import Widget

from tui.lines.crumbs import SEPARATOR, crumbs
from tui.model.session import Session


class Crumbs(Widget):
    """One line; a click on a part asks the screen for `crumb(node)`."""

    def __init__(self, session: Session, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.session = session

    def render(self) -> Content:
        """The parts that fit."""
        session = self.session
        parts = crumbs(session.figures, session.node, session.trace.run.model, self.size.width)
        pieces: list[Content | str] = []
        for place, (node, text) in enumerate(parts):
            if place:
                pieces.append(SEPARATOR)
            style = Style.from_meta({"@click": f"screen.crumb({node})"}) if node >= 0 else Style()
            pieces.append(Content.styled(text, style + Style(bold=place == len(parts) - 1)))
        return Content.assemble(*pieces)
