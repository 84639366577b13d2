"""The table of screens. A screen's module is loaded when it is first shown: all that is needed before is here.

A new screen is an entry here, its module in `screens` (with its styles) and its lines in `lines` (with its part of the
help). `tests/tui/test_screen_table.py` says what was forgotten.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from textual.screen import Screen

from tui.keys import Action


@dataclass(frozen=True, slots=True)
class ScreenEntry:
    """A screen: `name` is its scope as well, `place` its class as "module:Class", `key` shows it from everywhere.

    `key` is "" for a screen that another one opens. `pane` is the scope of the pane that has the keys at first.
    `heading` stands above its keys in the help. `of_a_trace`: it also has the actions of every screen of a trace.
    """

    name: str
    title: str
    place: str
    actions: tuple[Action, ...]
    key: str = ""
    pane: str = "pane"
    heading: str = ""
    of_a_trace: bool = True

    def load(self) -> type[Screen[None]]:
        """Its class."""
        module, _, class_name = self.place.partition(":")
        found: type[Screen[None]] = getattr(importlib.import_module(module), class_name)
        return found


SCREENS: tuple[ScreenEntry, ...] = (
    ScreenEntry(
        "layers",
        "Layers",
        "tui.screens.layers:LayersScreen",
        key="1",
        pane="tree",
        actions=(
            Action("worst", ("w",), "Go to the worst call: the largest |self leak|", "layers", "worst"),
            Action("next", ("n",), "Next divergence, or next hit while a search is on", "layers", "next divergence"),
            Action("previous", ("N",), "Divergence before, or hit before while a search is on", "layers"),
            Action("search", ("/",), "Search paths, types and source lines", "layers", "search"),
            Action("end_search", ("escape",), "End the search, or go back to the tree", "layers"),
            Action("only_diverging", ("d",), "Show only diverging calls, or all again", "layers"),
            Action(
                "filter",
                ("F",),
                "Show only diverging calls, attention, GELU, normalisation, or what a text finds",
                "layers",
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
        ),
    ),
    ScreenEntry(
        "flow",
        "Flow",
        "tui.screens.flow:FlowScreen",
        key="2",
        pane="flow",
        actions=(
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
            Action("next", ("n",), "Next change of sign between layers", "flow", "next change"),
            Action("previous", ("N",), "Change of sign before", "flow"),
            Action("scale", ("s",), "Heat by the largest of the row, or of the whole map", "flow", "scale"),
            Action(
                "numbers", ("v",), "Numbers in all cells, scrolled sideways where they do not fit", "flow", "numbers"
            ),
        ),
    ),
    ScreenEntry(
        "tokens",
        "Tokens",
        "tui.screens.tokens:TokensScreen",
        key="3",
        actions=(
            Action(
                "colour", ("c",), "The text by the next method alone; after the last by all", "tokens", "next method"
            ),
            Action("only", ("t",), "The texts alone, or with rankings and agreement", "tokens", "text alone"),
        ),
    ),
    ScreenEntry(
        "heads",
        "Heads",
        "tui.screens.heads:HeadsScreen",
        key="4",
        pane="heatmap",
        actions=(
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
        ),
    ),
    ScreenEntry(
        "findings",
        "Findings",
        "tui.screens.findings:FindingsScreen",
        key="5",
        pane="list",
        actions=(
            Action("open_call", ("enter",), "Show the call in Layers", "findings", "to the call"),
            Action(
                "switch_pane", ("tab", "shift+tab"), "From the list to the finding, and back", "findings", "other pane"
            ),
        ),
    ),
    ScreenEntry(
        "repair",
        "Repair",
        "tui.screens.repair:RepairScreen",
        key="6",
        pane="list",
        actions=(
            Action(
                "open_call", ("enter",), "Show the call that the run changes most in Layers", "repair", "to the call"
            ),
            Action("switch_pane", ("tab", "shift+tab"), "From the list to the run, and back", "repair", "other pane"),
        ),
    ),
    ScreenEntry(
        "compare",
        "Compare",
        "tui.screens.compare:CompareScreen",
        key="7",
        pane="tree",
        actions=(
            Action("worst", ("w",), "Go to the worst divergence", "compare", "worst"),
            Action("first_divergence", ("f",), "Go to the first divergence in execution order", "compare", "first"),
            Action("next", ("n",), "Next divergence", "compare", "next"),
            Action("previous", ("N",), "Divergence before", "compare"),
            Action("only_diverging", ("d",), "Show only diverging calls, or all again", "compare", "diverging"),
            Action("expand_all", ("e",), "Open all", "compare"),
            Action("collapse_all", ("c",), "Close all", "compare"),
            Action("open_call", ("o",), "Show the call in Layers", "compare"),
        ),
    ),
    ScreenEntry(
        "tensor",
        "Tensor",
        "tui.screens.tensor:TensorScreen",
        pane="heatmap",
        heading="On a tensor",
        actions=(
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
        ),
    ),
    ScreenEntry(
        "folder",
        "Folder",
        "tui.screens.folder:FolderScreen",
        pane="list",
        heading="In the list of traces",
        of_a_trace=False,
        actions=(
            Action("open_trace", ("enter",), "Open the trace; Esc comes back to the list", "folder", "open"),
            Action("mark", ("m", "space"), "Mark the trace, or take its mark away", "folder", "mark"),
            Action(
                "compare",
                ("c",),
                "Compare both marked traces, or the marked with the selected one",
                "folder",
                "compare",
            ),
            Action("sort", ("s",), "Sort by name, delta, method, model or status", "folder", "sort"),
            Action("reload", ("r",), "Read the folder again", "folder"),
            Action("theme", ("T",), "Choose the theme", "folder"),
            Action("redraw", ("ctrl+l",), "Paint everything again", "folder"),
            Action("help", ("?",), "Help", "folder", "help"),
            Action("quit", ("q",), "Quit", "folder", "quit"),
        ),
    ),
    ScreenEntry(
        "waiting",
        "Waiting",
        "tui.screens.waiting:WaitingScreen",
        heading="While waiting for a recording",
        of_a_trace=False,
        actions=(
            Action("help", ("?",), "Help", "waiting", "help"),
            Action("quit", ("q",), "Quit, and end the recording", "waiting", "quit and end the recording"),
        ),
    ),
)
TABS = tuple(entry for entry in SCREENS if entry.key)
"""The screens that have a tab."""


def entry_of(name: str) -> ScreenEntry | None:
    """The screen of this name, None where there is none."""
    return next((entry for entry in SCREENS if entry.name == name), None)
