"""The one table of what the user can do. Key bindings, footer, help and the command palette are read from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from textual.binding import Binding

Scope = Literal["tree", "pane", "screen"]

_KEY_NAMES = {
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "home": "Home",
    "end": "End",
    "escape": "Esc",
    "tab": "Tab",
    "shift+tab": "Shift+Tab",
    "enter": "Enter",
    "space": "Space",
}


@dataclass(frozen=True, slots=True)
class Action:
    """Something the user can do: `name` is Textual's action, `scope` the widget that carries it out.

    `short` is its word in the footer, "" if it does not stand there.
    """

    name: str
    keys: tuple[str, ...]
    title: str
    scope: Scope
    short: str = ""

    @property
    def keys_shown(self) -> str:
        """Its keys as a reader knows them: "↓ j"."""
        return " ".join(_KEY_NAMES.get(key, key) for key in self.keys)

    @property
    def binding(self) -> Binding:
        """The same as a Textual binding."""
        return Binding(",".join(self.keys), self.name, self.title, show=False)


ACTIONS: tuple[Action, ...] = (
    Action("cursor_down", ("down", "j"), "Next line", "tree"),
    Action("cursor_up", ("up", "k"), "Line before", "tree"),
    Action("page_down", ("pagedown",), "A page down", "tree"),
    Action("page_up", ("pageup",), "A page up", "tree"),
    Action("first", ("home", "g"), "First line", "tree"),
    Action("last", ("end", "G"), "Last line", "tree"),
    Action("toggle_call", ("enter", "space"), "Open or close the call", "tree"),
    Action("close", ("left", "h"), "Close the call, or go to the one around it", "tree"),
    Action("open", ("right", "l"), "Open the call, or go to the first inside", "tree"),
    Action("scroll_down", ("down", "j"), "Scroll down", "pane"),
    Action("scroll_up", ("up", "k"), "Scroll up", "pane"),
    Action("scroll_home", ("home", "g"), "To the top", "pane"),
    Action("scroll_end", ("end", "G"), "To the end", "pane"),
    Action("worst", ("w",), "Go to the worst call: the largest |self leak|", "screen", "worst"),
    Action("next", ("n",), "Next divergence, or next hit while a search is on", "screen", "next divergence"),
    Action("previous", ("N",), "Divergence before, or hit before while a search is on", "screen"),
    Action("search", ("/",), "Search paths, types and source lines", "screen", "search"),
    Action("end_search", ("escape",), "End the search, or go back to the tree", "screen"),
    Action("only_diverging", ("d",), "Show only diverging calls, or all again", "screen"),
    Action("expand_all", ("e",), "Open all", "screen"),
    Action("collapse_all", ("c",), "Close all", "screen"),
    Action("tokens", ("t",), "Tokens and their rankings, or the detail of the call", "screen", "tokens"),
    Action("next_pane", ("tab",), "Next pane", "screen"),
    Action("previous_pane", ("shift+tab",), "Pane before", "screen"),
    Action("help", ("?",), "Help", "screen", "help"),
    Action("quit", ("q",), "Quit", "screen", "quit"),
)


def of(*scopes: Scope) -> list[Action]:
    """The actions of these scopes, in the order of the table."""
    return [action for action in ACTIONS if action.scope in scopes]


def bindings(scope: Scope) -> list[Binding]:
    """Textual's key bindings for a widget of this scope."""
    return [action.binding for action in of(scope)]
