"""The last line: the few keys that matter most on this screen, as many as fit."""

from __future__ import annotations

from textual.content import Content
from textual.style import Style
from textual.widget import Widget

from tui import actions
from tui.host import host_of
from tui.keys import Scope, keys_of, shown


class Footer(Widget):
    """Keys and words of the action table; each can be clicked. `quit` and `help` go last when there is little room."""

    def __init__(self, scope: Scope, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.scope = scope

    def render(self) -> Content:
        """As many as fit in one line, in the table's order."""
        keymap = host_of(self).keys
        fitting = [(action, shown(keys_of(action, keymap)[:1])) for action in actions.in_footer(self.scope)]
        essential = ("help", "quit")
        for each in reversed([each for each in fitting if each[0].name not in essential]):
            if sum(len(key) + len(action.short) + 4 for action, key in fitting) <= self.size.width:
                break
            fitting.remove(each)
        key_style = Style(bold=True) + (Style() if self.app.no_color else Style.parse("$primary"))
        parts: list[Content | str] = []
        for action, key in fitting:
            click = Style.from_meta({"@click": f"screen.{action.name}"})
            parts.append(Content.styled(f" {key}", key_style + click))
            parts.append(Content.styled(f" {action.short}  ", click))
        return Content.assemble(*parts)
