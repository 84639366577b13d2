"""The last line: the few keys that matter most, as many as fit."""

from __future__ import annotations

from textual.content import Content
from textual.style import Style
from textual.widget import Widget

from tui import actions


class Footer(Widget):
    """Keys and words of the action table; each can be clicked. `quit` and `help` go last when there is little room."""

    def render(self) -> Content:
        """As many as fit in one line, in the table's order."""
        shown = [action for action in actions.ACTIONS if action.short]
        essential = ("help", "quit")
        for action in reversed([each for each in shown if each.name not in essential]):
            if sum(len(each.keys_shown) + len(each.short) + 4 for each in shown) <= self.size.width:
                break
            shown.remove(action)
        key_style = Style(bold=True) + (Style() if self.app.no_color else Style.parse("$primary"))
        parts: list[Content | str] = []
        for action in shown:
            click = Style.from_meta({"@click": f"screen.{action.name}"})
            parts.append(Content.styled(f" {action.keys_shown}", key_style + click))
            parts.append(Content.styled(f" {action.short}  ", click))
        return Content.assemble(*parts)
