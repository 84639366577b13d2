"""A screen is an entry of the table, its class and its lines: what was forgotten of one is named here."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from dataclasses import replace
from pathlib import Path

import pytest
from textual.screen import Screen

import tui.screens
import tui.widgets
from tui import actions
from tui.keys import Action
from tui.screen_table import SCREENS, TABS, ScreenEntry
from tui.screens.base import TraceScreen
from tui.screens.flow import FlowScreen

SUPPLIED = {"base", "list_screen", "tree_screen", "menu", "help", "palette"}
"""Modules of `screens` that hold no screen of the table."""


def forgotten(entry: ScreenEntry) -> list[str]:
    """What a screen lacks, in words."""
    try:
        screen = entry.load()
    except (ImportError, AttributeError) as error:
        return [f"{entry.name}: no class {entry.place} ({error})"]
    said: list[str] = []
    if vars(screen).get("SCOPE") != entry.name:
        said.append(f"{entry.name}: {screen.__name__}.SCOPE is not {entry.name!r}")
    if not entry.title:
        said.append(f"{entry.name}: no title")
    if not entry.actions:
        said.append(f"{entry.name}: no actions")
    said += [f"{action.id}: not of the scope {entry.name!r}" for action in entry.actions if action.scope != entry.name]
    bound = [binding.id for binding in screen.BINDINGS if hasattr(binding, "id")]
    said += [f"{action.id}: not in BINDINGS" for action in entry.actions if action.id not in bound]
    said += [
        f"{action.id}: no method {action.method}" for action in entry.actions if not hasattr(screen, action.method)
    ]
    if not getattr(screen, "READING", ()):
        said.append(f"{entry.name}: no READING, the screen's part of the help")
    if entry.pane not in scopes_of_panes() | {entry.name}:
        said.append(f"{entry.name}: no pane has the scope {entry.pane!r}")
    styled = [each for each in screen.__mro__ if each.__module__.startswith("tui.") and "DEFAULT_CSS" in vars(each)]
    if not styled:
        said.append(f"{entry.name}: no styles (DEFAULT_CSS)")
    return said


def scopes_of_panes() -> set[str]:
    return {action.scope for action in actions.OF_PANES}


@pytest.mark.parametrize("entry", SCREENS, ids=[entry.name for entry in SCREENS])
def test_nothing_was_forgotten_of_a_screen(entry: ScreenEntry) -> None:
    assert not forgotten(entry)


def test_what_was_forgotten_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = next(entry for entry in SCREENS if entry.name == "flow")
    assert "no class" in forgotten(replace(flow, place="tui.screens.flow:FlawScreen"))[0]
    assert "no class" in forgotten(replace(flow, place="tui.screens.flaw:FlowScreen"))[0]
    assert "flaw: FlowScreen.SCOPE is not 'flaw'" in forgotten(replace(flow, name="flaw", actions=()))
    assert forgotten(replace(flow, title="")) == ["flow: no title"]
    assert forgotten(replace(flow, pane="plain")) == ["flow: no pane has the scope 'plain'"]
    more = Action("fly", ("y",), "Fly", "flow")
    assert forgotten(replace(flow, actions=(*flow.actions, more))) == [
        "flow.fly: not in BINDINGS",
        "flow.fly: no method action_fly",
    ]
    monkeypatch.setattr(FlowScreen, "READING", ())
    monkeypatch.delattr(FlowScreen, "DEFAULT_CSS")
    assert forgotten(flow) == [
        "flow: no READING, the screen's part of the help",
        "flow: no styles (DEFAULT_CSS)",
    ]


def test_every_screen_stands_in_the_table() -> None:
    known = {entry.place for entry in SCREENS}
    for module in pkgutil.iter_modules(tui.screens.__path__, "tui.screens."):
        if module.name.rpartition(".")[2] in SUPPLIED:
            continue
        found = [
            each
            for each in vars(importlib.import_module(module.name)).values()
            if inspect.isclass(each) and issubclass(each, Screen) and each.__module__ == module.name
        ]
        assert [f"{module.name}:{each.__name__}" in known for each in found] == [True], module.name


def test_every_pane_has_a_scope_of_the_table() -> None:
    for module in pkgutil.iter_modules(tui.widgets.__path__, "tui.widgets."):
        for each in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(each) and each.__module__ == module.name and "SCOPE" in vars(each):
                assert actions.of(each.SCOPE), each


def test_tabs_have_keys_of_their_own_and_show_a_trace() -> None:
    assert len({entry.key for entry in TABS}) == len(TABS)
    assert all(issubclass(entry.load(), TraceScreen) and entry.of_a_trace for entry in TABS)


def test_the_sheet_overrides_no_style_of_a_screen() -> None:
    sheet = Path(tui.screens.__path__[0]).parent.joinpath("tui.tcss").read_text(encoding="utf-8")
    for entry in SCREENS:
        own = set(re.findall(r"#[\w-]+", vars(entry.load()).get("DEFAULT_CSS", "")))
        assert not own - {"#body"} & set(re.findall(r"#[\w-]+", sheet)), entry.name
