"""The one table of what the user can do. Key bindings, footer, help and the command palette are read from it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from textual.binding import Binding

from tui.screen_table import SCREENS

Scope = Literal[
    "tree", "list", "heatmap", "pane", "screen",
    "layers", "flow", "tokens", "heads", "findings", "repair", "compare", "tensor", "folder", "waiting",
]  # fmt: skip

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
    "comma": ",",
}


@dataclass(frozen=True, slots=True)
class Action:
    """Something the user can do: `name` is Textual's action, `scope` the pane or screen that carries it out.

    "screen" is every screen, "tree" the layer tree, "pane" any other pane that scrolls; the others are screens of
    their own. `short` is its word in the footer, "" if it does not stand there.
    """

    name: str
    keys: tuple[str, ...]
    title: str
    scope: Scope
    short: str = ""

    @property
    def keys_shown(self) -> str:
        """Its keys as a reader knows them: "↓ j"."""
        return shown(self.keys)

    @property
    def id(self) -> str:
        """What a config file calls it: "layers.worst", "screen.show-flow"."""
        return f"{self.scope}.{'-'.join(re.findall(r'[-_a-zA-Z0-9]+', self.name))}"

    @property
    def method(self) -> str:
        """The name of the method that carries it out: the action's without its parameters."""
        return f"action_{self.name.partition('(')[0]}"

    @property
    def binding(self) -> Binding:
        """The same as a Textual binding."""
        return Binding(",".join(self.keys), self.name, self.title, show=False, id=self.id)


Keymap = Mapping[str, tuple[str, ...]]
"""The user's keys: an action's `id` → its keys. Other actions have those of the table."""

NO_KEYMAP: Keymap = {}


def shown(keys: Sequence[str]) -> str:
    """Keys as a reader knows them: "↓ j"."""
    return " ".join(_KEY_NAMES.get(key, key) for key in keys)


def keys_of(action: Action, keymap: Keymap) -> tuple[str, ...]:
    """The keys of an action, the user's own if there are any."""
    return keymap.get(action.id, action.keys)


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
    Action("worst", ("w",), "Go to the worst call: the largest |self leak|", "layers", "worst"),
    Action("next", ("n",), "Next divergence, or next hit while a search is on", "layers", "next divergence"),
    Action("previous", ("N",), "Divergence before, or hit before while a search is on", "layers"),
    Action("search", ("/",), "Search paths, types and source lines", "layers", "search"),
    Action("end_search", ("escape",), "End the search, or go back to the tree", "layers"),
    Action("only_diverging", ("d",), "Show only diverging calls, or all again", "layers"),
    Action(
        "filter", ("F",), "Show only diverging calls, attention, GELU, normalisation, or what a text finds", "layers"
    ),
    Action("sort", ("s",), "Sort by order, leak, gain or time", "layers"),
    Action("columns", ("C",), "Choose the columns", "layers"),
    Action("threshold(1)", ("+", "="), "Higher threshold: fewer calls count as diverging", "layers"),
    Action("threshold(-1)", ("-",), "Lower threshold: more calls count as diverging", "layers"),
    Action("mark", ("m",), "Mark the call, or take its mark away", "layers"),
    Action("next_mark(1)", ("'",), "Next mark", "layers"),
    Action("next_mark(-1)", ("M",), "Mark before", "layers"),
    Action("expand_all", ("e",), "Open all", "layers"),
    Action("collapse_all", ("c",), "Close all", "layers"),
    Action("tokens", ("t",), "Tokens and their rankings, or the detail of the call", "layers"),
    Action("tensor", ("v",), "View the tensors of the call", "layers", "tensors"),
    Action("next_pane", ("tab",), "Next pane", "layers"),
    Action("previous_pane", ("shift+tab",), "Pane before", "layers"),
    Action("cursor_up", ("up", "k"), "One layer up", "flow"),
    Action("cursor_down", ("down", "j"), "One layer down", "flow"),
    Action("cursor_left", ("left", "h"), "One token left", "flow"),
    Action("cursor_right", ("right", "l"), "One token right", "flow"),
    Action("page_up", ("pageup",), "A page of layers up", "flow"),
    Action("page_down", ("pagedown",), "A page of layers down", "flow"),
    Action("first_token", ("home",), "First token", "flow"),
    Action("last_token", ("end",), "Last token", "flow"),
    Action("first_layer", ("g",), "First layer", "flow"),
    Action("last_layer", ("G",), "Last layer", "flow"),
    Action("open_call", ("enter",), "Show the layer's call in Layers", "flow", "to the call"),
    Action("next", ("n",), "Next change of sign: where an attribution changes its mind", "flow", "next change"),
    Action("previous", ("N",), "Change of sign before", "flow"),
    Action("scale", ("s",), "Heat by the largest of the row, or of the whole map", "flow", "scale"),
    Action("numbers", ("v",), "Numbers in all cells, scrolled sideways where they do not fit", "flow", "numbers"),
    Action("colour", ("c",), "The text by the next method alone; after the last by all", "tokens", "next method"),
    Action("only", ("t",), "The texts alone, or with rankings and agreement", "tokens", "text alone"),
    Action("open_call", ("enter",), "Show the call in Layers", "findings", "to the call"),
    Action("switch_pane", ("tab", "shift+tab"), "From the list to the finding, and back", "findings", "other pane"),
    Action("open_call", ("enter",), "Show the call that the run changes most in Layers", "repair", "to the call"),
    Action("switch_pane", ("tab", "shift+tab"), "From the list to the run, and back", "repair", "other pane"),
    Action("worst", ("w",), "Go to the worst divergence", "compare", "worst"),
    Action("first_divergence", ("f",), "Go to the first divergence in the data's order", "compare", "first"),
    Action("next", ("n",), "Next divergence", "compare", "next"),
    Action("previous", ("N",), "Divergence before", "compare"),
    Action("only_diverging", ("d",), "Show only diverging calls, or all again", "compare", "diverging"),
    Action("expand_all", ("e",), "Open all", "compare"),
    Action("collapse_all", ("c",), "Close all", "compare"),
    Action("open_call", ("o",), "Show the call in Layers", "compare"),
    Action("move(1, 0)", ("down", "j"), "One layer down", "heads"),
    Action("move(-1, 0)", ("up", "k"), "One layer up", "heads"),
    Action("move(0, -1)", ("left", "h"), "One head left", "heads"),
    Action("move(0, 1)", ("right", "l"), "One head right", "heads"),
    Action("page(1)", ("pagedown",), "A page of layers down", "heads"),
    Action("page(-1)", ("pageup",), "A page of layers up", "heads"),
    Action("worst", ("w",), "Go to the worst head: the largest |leak|, or the largest gain", "heads", "worst"),
    Action("measure", ("m",), "Gains in the table, or leaks again", "heads", "gain or leak"),
    Action("tensor", ("v", "enter"), "View the head's probabilities in full", "heads", "tensor"),
    Action("open_call", ("o",), "Show the call in Layers", "heads", "to the call"),
    Action("switch_pane(1)", ("tab",), "From the table to the next matrix, and back", "heads"),
    Action("switch_pane(-1)", ("shift+tab",), "The matrix before", "heads"),
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
    Action("quantity('value')", ("i",), "Input or output, as the input run had it", "tensor"),
    Action("quantity('reference')", ("r",), "As the reference run had it", "tensor"),
    Action("quantity('difference')", ("d",), "Δ: input minus reference", "tensor", "Δ"),
    Action("quantity('multiplier')", ("m",), "Multiplier", "tensor"),
    Action("quantity('product')", ("p",), "m·Δ: what the element carries", "tensor", "m·Δ"),
    Action("edge(1)", ("n",), "Next tensor of the call", "tensor", "next tensor"),
    Action("edge(-1)", ("N",), "Tensor before", "tensor"),
    Action("slice(1)", (".",), "Next slice of a tensor of more than two axes", "tensor"),
    Action("slice(-1)", ("comma",), "Slice before", "tensor"),
    Action("first_axis(1)", (">",), "The same slice, one further on the first axis", "tensor"),
    Action("first_axis(-1)", ("<",), "The same slice, one back on the first axis", "tensor"),
    Action("jump", ("@",), "Jump to the element i,j, or to all indices", "tensor"),
    Action("export('npy')", ("x",), "Write the slice to a .npy file", "tensor"),
    Action("export('csv')", ("X",), "Write the slice to a .csv file", "tensor"),
    Action("call", ("o",), "Show the call in Layers", "tensor"),
    Action("close", ("escape",), "Back to where the tensor was opened", "tensor", "back"),
    Action("open_trace", ("enter",), "Open the trace; Esc comes back to the list", "folder", "open"),
    Action("mark", ("m", "space"), "Mark the trace, or take its mark away", "folder", "mark"),
    Action("compare", ("c",), "Compare both marked traces, or the marked with the selected one", "folder", "compare"),
    Action("sort", ("s",), "Sort by name, delta, method, model or status", "folder", "sort"),
    Action("reload", ("r",), "Read the folder again", "folder"),
    Action("theme", ("T",), "Choose the theme", "folder"),
    Action("redraw", ("ctrl+l",), "Paint everything again", "folder"),
    Action("help", ("?",), "Help", "folder", "help"),
    Action("quit", ("q",), "Quit", "folder", "quit"),
    Action("help", ("?",), "Help", "waiting", "help"),
    Action("quit", ("q",), "Quit, and end the recording", "waiting", "quit and end the recording"),
    *(Action(f"show('{entry.name}')", (entry.key,), f"Screen: {entry.title}", "screen") for entry in SCREENS),
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


def keymap_of(wishes: Keymap) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The keymap of what a config file wishes, and what is wrong with the wishes.

    A wish is for "scope.name", or for "name" on every screen that has such an action. A key that another action of the
    same scope keeps is refused.
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
    alone: tuple[Scope, ...] = ("screen", "folder", "waiting")
    return (scope,) if scope in alone else (scope, "screen")


def bindings(scope: Scope) -> list[Binding]:
    """Textual's key bindings for a widget of this scope."""
    return [action.binding for action in of(scope)]
