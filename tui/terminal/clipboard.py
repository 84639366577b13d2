"""Copies a text to wherever the user can paste it from, and says where that is.

A clipboard tool if there is one; else the terminal itself is asked (OSC 52), through tmux or screen where it runs in
one; else, on a terminal that cannot, a file.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence

from tui.model.settings import folder

_TIMEOUT = 2.0
_LONGEST = 74_994  # of base64: more is refused by common terminals
_UNABLE = {"linux", "dumb", "vt100", "vt220", "unknown", ""}


def copy(
    text: str,
    write: Callable[[str], object],
    environment: Mapping[str, str] = os.environ,
    find: Callable[[str], str | None] = shutil.which,
) -> str:
    """Copy `text`; what is given back says where it went. `write` sends a sequence to the terminal."""
    for name, command in _tools(environment):
        if find(command[0]) and _fed(command, text):
            return f"to the clipboard, with {name}"
    sequence = osc52(text, environment)
    if sequence:
        write(sequence)
        return "to the terminal's clipboard (OSC 52), if the terminal allows it"
    file = folder(environment, "XDG_STATE_HOME", ".local/state") / "copied.txt"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        return f"nowhere: no clipboard was found, and {file} cannot be written ({error.strerror})"
    return f"to {file}: no clipboard was found"


def _tools(environment: Mapping[str, str]) -> list[tuple[str, Sequence[str]]]:
    """The tools that can work here, the surest first: each needs its display server, tmux a running one."""
    tools: list[tuple[str, Sequence[str]]] = []
    if environment.get("WAYLAND_DISPLAY"):
        tools.append(("wl-copy", ("wl-copy",)))
    if environment.get("DISPLAY"):
        tools += [("xclip", ("xclip", "-selection", "clipboard")), ("xsel", ("xsel", "--clipboard", "--input"))]
    tools.append(("pbcopy", ("pbcopy",)))
    return tools


def _fed(command: Sequence[str], text: str) -> bool:
    """Whether the tool took the text. It may stay behind to serve it: its output is not waited for."""
    try:
        done = subprocess.run(
            command,
            input=text.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT,
            start_new_session=True,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def osc52(text: str, environment: Mapping[str, str]) -> str:
    """The sequence that asks the terminal to take `text`; "" where the terminal is known to have no such thing.

    tmux and screen take it for themselves or drop it, so it is wrapped in their passthrough as well. tmux needs
    `allow-passthrough on` or `set-clipboard on` for it.
    """
    terminal = environment.get("TERM", "")
    encoded = base64.b64encode(text.encode()).decode()
    if terminal in _UNABLE or len(encoded) > _LONGEST:
        return ""
    plain = f"\x1b]52;c;{encoded}\x07"
    if environment.get("TMUX") or terminal.startswith("tmux"):
        doubled = plain.replace("\x1b", "\x1b\x1b")
        return f"{plain}\x1bPtmux;{doubled}\x1b\\"
    if environment.get("STY") or terminal.startswith("screen"):
        return f"{plain}\x1bP{plain}\x1b\\"
    return plain
