"""Whole screens of the terminal view. Each module is loaded when its screen is first shown."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui.screens.base import TraceScreen


@dataclass(frozen=True, slots=True)
class Entry:
    """A screen of the table: `name` as the code calls it, `place` "module:Class"."""

    name: str
    key: str
    title: str
    place: str

    @property
    def exists(self) -> bool:
        """Whether this version has the screen."""
        return find_spec(self.place.partition(":")[0]) is not None

    def make(self) -> TraceScreen:
        """A new screen."""
        module, _, class_name = self.place.partition(":")
        screen: TraceScreen = getattr(importlib.import_module(module), class_name)()
        return screen


SCREENS: tuple[Entry, ...] = tuple(
    entry
    for entry in (
        Entry("layers", "1", "Layers", "tui.screens.layers:LayersScreen"),
        Entry("flow", "2", "Flow", "tui.screens.flow:FlowScreen"),
        Entry("tokens", "3", "Tokens", "tui.screens.tokens:TokensScreen"),
        Entry("heads", "4", "Heads", "tui.screens.heads:HeadsScreen"),
        Entry("findings", "5", "Findings", "tui.screens.findings:FindingsScreen"),
        Entry("repair", "6", "Repair", "tui.screens.repair:RepairScreen"),
        Entry("compare", "7", "Compare", "tui.screens.compare:CompareScreen"),
    )
    if entry.exists
)


def entry_of(name: str) -> Entry | None:
    """The screen of this name, None where there is none."""
    return next((entry for entry in SCREENS if entry.name == name), None)
