"""An action with its keys, and the keys that a user gives it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from textual.binding import Binding

Scope = str
"""The name of the pane or screen that carries an action out; "screen" stands for every screen of a trace."""

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
    """Something the user can do: `name` is Textual's action, `scope` says which pane or screen carries it out.

    `short` is its word in the footer, "" where the footer leaves it out.
    """

    name: str
    keys: tuple[str, ...]
    title: str
    scope: Scope
    short: str = ""

    @property
    def id(self) -> str:
        """Its name in a config file: "layers.worst", "screen.show-flow"."""
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
"""The keys that the user has chosen, by the action's `id`; all other actions keep those of the table."""

NO_KEYMAP: Keymap = {}


def shown(keys: Sequence[str]) -> str:
    """Keys as a reader knows them: "↓ j"."""
    return " ".join(_KEY_NAMES.get(key, key) for key in keys)


def keys_of(action: Action, keymap: Keymap) -> tuple[str, ...]:
    """The keys of an action: the user's own, else those of the table."""
    return keymap.get(action.id, action.keys)
