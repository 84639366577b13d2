"""The one table of what the user can do. Key bindings, footer, help and the command palette are read from it."""

from __future__ import annotations

from textual.binding import Binding

from tui.keys import Action, Keymap, Scope, keys_of
from tui.screen_table import SCREENS, TABS

OF_PANES: tuple[Action, ...] = (
    Action("cursor_down", ("down", "j"), "Next line", "tree"),
    Action("cursor_up", ("up", "k"), "Line before", "tree"),
    Action("page_down", ("pagedown",), "A page down", "tree"),
    Action("page_up", ("pageup",), "A page up", "tree"),
    Action("first", ("home", "g"), "First line", "tree"),
    Action("last", ("end", "G"), "Last line", "tree"),
    Action("toggle_call", ("enter", "space"), "Open or close the call", "tree"),
    Action("close", ("left", "h"), "Close the call, or go to the one around it", "tree"),
    Action("open", ("right", "l"), "Open the call, or go to the first inside", "tree"),
    Action("cursor_down", ("down", "j"), "Next line", "list"),
    Action("cursor_up", ("up", "k"), "Line before", "list"),
    Action("page_down", ("pagedown",), "A page down", "list"),
    Action("page_up", ("pageup",), "A page up", "list"),
    Action("first", ("home", "g"), "First line", "list"),
    Action("last", ("end", "G"), "Last line", "list"),
    Action("scroll_down", ("down", "j"), "Scroll down", "pane"),
    Action("scroll_up", ("up", "k"), "Scroll up", "pane"),
    Action("scroll_home", ("home", "g"), "To the top", "pane"),
    Action("scroll_end", ("end", "G"), "To the end", "pane"),
    Action("cursor(1, 0)", ("down", "j"), "One cell down", "heatmap"),
    Action("cursor(-1, 0)", ("up", "k"), "One cell up", "heatmap"),
    Action("cursor(0, -1)", ("left", "h"), "One cell left", "heatmap"),
    Action("cursor(0, 1)", ("right", "l"), "One cell right", "heatmap"),
    Action("page(1)", ("pagedown",), "A page down", "heatmap"),
    Action("page(-1)", ("pageup",), "A page up", "heatmap"),
    Action("first", ("home", "g"), "First element", "heatmap"),
    Action("last", ("end", "G"), "Last element", "heatmap"),
    Action("zoom(1)", ("+", "="), "Closer", "heatmap"),
    Action("zoom(-1)", ("-", "_"), "Farther away", "heatmap"),
    Action("whole", ("0",), "The whole matrix", "heatmap"),
    Action("largest", ("w",), "Go to the largest |value| in view, or to a NaN", "heatmap"),
    Action("scale", ("s",), "Colours in proportion, or by decades", "heatmap"),
    Action("digits", ("#",), "Sign and digit instead of colours, or colours again", "heatmap"),
)
"""What each kind of pane can do: the layer tree, a list, a heatmap, and any other pane that scrolls."""

OF_TRACES: tuple[Action, ...] = (
    *(Action(f"show('{entry.name}')", (entry.key,), f"Screen: {entry.title}", "screen") for entry in TABS),
    Action("example(1)", ("]",), "Next example; after the last the sums over all", "screen"),
    Action("example(-1)", ("[",), "Example before", "screen"),
    Action("back", ("b", "alt+left"), "Back to the call before the last jump", "screen"),
    Action("forward", ("f", "alt+right"), "Forward again", "screen"),
    Action("choose_example", ("E",), "Choose the example, or the sum over all", "screen"),
    Action("copy('path')", ("y",), "Copy the path of the call", "screen"),
    Action("copy('number')", ("Y",), "Copy its self leak", "screen"),
    Action("theme", ("T",), "Choose the theme", "screen"),
    Action("screenshot", ("S",), "Write a picture of the screen to a file", "screen"),
    Action("report", ("R",), "Write the report to a file", "screen"),
    Action("redraw", ("ctrl+l",), "Paint everything again", "screen"),
    Action("leave", ("escape",), "Back to the list of traces, where a folder was opened", "screen"),
    Action("help", ("?",), "Help", "screen", "help"),
    Action("quit", ("q",), "Quit", "screen", "quit"),
)
"""What every screen of a trace can do."""

ACTIONS: tuple[Action, ...] = (*OF_PANES, *(action for entry in SCREENS for action in entry.actions), *OF_TRACES)


def keymap_of(wishes: Keymap) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The keymap that a config file asks for, and what is wrong with it, a line each.

    `wishes` maps "scope.name", or "name" for every screen that has such an action, to keys. A key that another action
    of the same scope keeps is refused.
    """
    keymap: dict[str, tuple[str, ...]] = {}
    problems: list[str] = []
    for name, keys in wishes.items():
        named = [action for action in ACTIONS if name in (action.id, action.id.partition(".")[2])]
        if not named:
            problems.append(f"[keys]: there is no action {name!r}")
        for action in named:
            keymap[action.id] = keys
    for action in ACTIONS:
        if action.id not in keymap:
            continue
        taken = {key: other for other in of(action.scope) if other is not action for key in keys_of(other, keymap)}
        clash = next((key for key in keymap[action.id] if key in taken), None)
        if clash is not None:
            problems.append(f"[keys]: {clash!r} of {action.id} is a key of {taken[clash].id}: it is left as it was")
            del keymap[action.id]
    return keymap, problems


def of(*scopes: Scope) -> list[Action]:
    """The actions of these scopes, in the order of the table."""
    return [action for action in ACTIONS if action.scope in scopes]


def in_footer(scope: Scope) -> list[Action]:
    """What stands in the footer of a screen: its own actions that have a word, then those of every screen."""
    return [action for each in scopes_of(scope) for action in of(each) if action.short]


def scopes_of(scope: Scope) -> tuple[Scope, ...]:
    """The scopes whose actions a screen has: its own and, if it shows a trace, that of every such screen."""
    alone = {"screen", *(entry.name for entry in SCREENS if not entry.of_a_trace)}
    return (scope,) if scope in alone else (scope, "screen")


def bindings(scope: Scope) -> list[Binding]:
    """Textual's key bindings for a widget of this scope."""
    return [action.binding for action in of(scope)]
