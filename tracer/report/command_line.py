"""The command that repeats a run, from the options that its trace keeps. Pure."""

from __future__ import annotations

import json
import shlex
from pathlib import PurePath

from tracer.text import clean


def command_line(command: str) -> str:
    """The command that repeats the run, from the options that its trace keeps; "" where it keeps none.

    Of an absolute path only the last name is shown: the folders before it are private.
    """
    try:
        kept = json.loads(command) if command else None
    except (ValueError, RecursionError):
        return ""
    if not isinstance(kept, dict) or not isinstance(kept.get("model"), str):
        return ""
    if kept["model"] == "(demo)":
        return "deeplift-tracer demo"
    words = ["deeplift-tracer", "trace", _last_name(kept.pop("model"))]
    for option, value in kept.items():
        name = "--rule" if option == "rules" else f"--{option.replace('_', '-')}"
        if option == "rules" and isinstance(value, list):
            words += [word for rule in value for word in (name, str(rule))]
        elif option == "explicit" and isinstance(value, list):
            words += [name, ",".join(map(str, value))]
        elif isinstance(value, str | int):
            words += [name, _last_name(value) if option == "inputs" and isinstance(value, str) else str(value)]
    return clean(shlex.join(words))


def _last_name(path: str) -> str:
    return PurePath(path).name if path.startswith("/") else path
