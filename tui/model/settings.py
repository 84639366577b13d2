"""What the user has chosen: keys from a config file that is only read, theme and columns from a state file.

Each mistake in the config file is a line of `problems`. A state file that cannot be read or written is left alone: then
nothing is remembered.
"""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tracer.text import clean

FOLDER = "deeplift-tracer"


@dataclass(frozen=True, slots=True)
class Settings:
    """The choices of a sitting.

    `keys` maps an action's name, or "scope.name", to its keys. `columns` are those to show beside the tree, None for
    as many as fit. `state_file` is where theme and columns are kept; None keeps nothing.
    """

    theme: str = "dark"
    columns: tuple[str, ...] | None = None
    first_start: bool = False
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    state_file: Path | None = None

    def with_theme(self, name: str) -> Settings:
        """The same with another theme, remembered."""
        return self._kept(replace(self, theme=name))

    def with_columns(self, columns: tuple[str, ...] | None) -> Settings:
        """The same with other columns, remembered."""
        return self._kept(replace(self, columns=columns))

    def started(self) -> Settings:
        """The same after the first start, remembered."""
        return self._kept(replace(self, first_start=False))

    @staticmethod
    def _kept(settings: Settings) -> Settings:
        if settings.state_file is not None:
            columns = None if settings.columns is None else list(settings.columns)
            write_state(settings.state_file, {"theme": settings.theme, "columns": columns})
        return settings


def load(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this user. What the state file remembers goes before the theme of the config file."""
    file = config_file(environment)
    state_file = folder(environment, "XDG_STATE_HOME", ".local/state") / "state.json"
    config, problems = read_config(file)
    keys, more = _keys(config.get("keys", {}), file)
    problems += more
    theme = config.get("theme", "dark")
    if not isinstance(theme, str):
        problems.append(f"{file}: theme is not a text: it is left out")
        theme = "dark"
    unknown = sorted(set(config) - {"keys", "theme"})
    if unknown:
        problems.append(f"{file}: unknown entry {clean(unknown[0], 40)!r}: there are theme and [keys]")
    state = read_state(state_file)
    columns = state.get("columns")
    known = isinstance(columns, list) and all(isinstance(name, str) for name in columns)
    remembered = state.get("theme")
    return Settings(
        theme=remembered if isinstance(remembered, str) else theme,
        columns=tuple(columns) if known and columns is not None else None,
        first_start=not state_file.exists(),
        keys=keys,
        problems=tuple(problems),
        state_file=state_file,
    )


def config_file(environment: Mapping[str, str] = os.environ) -> Path:
    """The file that the user may write keys and a theme in."""
    return folder(environment, "XDG_CONFIG_HOME", ".config") / "config.toml"


def folder(environment: Mapping[str, str], variable: str, default: str) -> Path:
    """The folder of this tool under the one that the XDG variable names, or under its default in the home folder."""
    given = environment.get(variable, "")
    base = Path(given) if Path(given).is_absolute() else Path(environment.get("HOME") or Path.home()) / default
    return base / FOLDER


def read_config(file: Path) -> tuple[dict[str, Any], list[str]]:
    """The content of a config file, and what is wrong with it; ({}, []) if there is no file."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8")), []
    except (FileNotFoundError, NotADirectoryError):
        return {}, []
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return {}, [f"{file} cannot be read, so it is left out: {clean(str(error), 200)}"]


def read_state(file: Path) -> dict[str, Any]:
    """What was remembered; {} if it cannot be read."""
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) else {}


def write_state(file: Path, state: Mapping[str, Any]) -> None:
    """Write the state file, by renaming: two views at once leave a whole file. Does nothing if it cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=file.name)
    except OSError:
        return
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(dict(state), stream)
        os.replace(name, file)
    except OSError:
        Path(name).unlink(missing_ok=True)


def _keys(table: Any, file: Path) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The keys of each action: `worst = "W"`, or a list of keys; `[keys.flow]` for those of one screen."""
    if not isinstance(table, dict):
        return {}, [f'{file}: keys is not a table: write [keys] and lines as worst = "W"']
    keys: dict[str, tuple[str, ...]] = {}
    problems: list[str] = []
    for name, value in table.items():
        inner = value if isinstance(value, dict) else {"": value}
        entries = {f"{name}.{action}" if action else name: given for action, given in inner.items()}
        for action, given in entries.items():
            listed = [given] if isinstance(given, str) else given
            if isinstance(listed, list) and listed and all(isinstance(key, str) and key for key in listed):
                keys[action] = tuple(listed)
            else:
                problems.append(f"{file}: the keys of {clean(action, 60)} are neither a text nor a list of texts")
    return keys, problems
