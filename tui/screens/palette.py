"""Textual's command palette, safe against quick fingers."""

from __future__ import annotations

from textual.command import CommandList, CommandPalette


class Palette(CommandPalette):
    """Ignores keys for its list until that is laid out: Textual 8's list fails on a page key before."""

    def _action_command_list(self, action: str) -> None:
        if self.query_one(CommandList).size.height:
            super()._action_command_list(action)
