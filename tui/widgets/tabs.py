"""The line of screens under the header: their keys and names, the present one marked."""

from __future__ import annotations

from textual.content import Content
from textual.style import Style
from textual.widget import Widget

from tui.screen_table import TABS, ScreenEntry


def tab_texts(current: str, width: int) -> list[tuple[ScreenEntry, str]]:
    """What each tab says in `width` cells: key and title; only the key but for the present one where room is short."""
    full = [(entry, f" {entry.key} {entry.title} ") for entry in TABS]
    if sum(len(text) for _, text in full) <= width:
        return full
    return [(entry, text if entry.name == current else f" {entry.key} ") for entry, text in full]


class Tabs(Widget):
    """One line; each tab can be clicked."""

    def __init__(self, current: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.current = current

    def render(self) -> Content:
        """The tabs that fit."""
        colour = not self.app.no_color
        parts: list[Content | str] = [" "]
        for entry, text in tab_texts(self.current, self.size.width - 1):
            if entry.name == self.current:
                style = Style.parse("bold $background on $primary") if colour else Style(bold=True, reverse=True)
            else:
                style = Style.from_meta({"@click": f"screen.show('{entry.name}')"})
            parts.append(Content.styled(text, style))
        return Content.assemble(*parts)
