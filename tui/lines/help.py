"""The help as lines: every key, from the table of actions, and how to read the screen."""

from __future__ import annotations

from tracer.analysis.severity import DIVERGING_SHARE, LARGE_SHARE, NEGLIGIBLE, Severity
from tracer.text import clean
from tui import actions
from tui.keys import NO_KEYMAP, Keymap, Scope, keys_of, shown
from tui.lines.format import fit, wrap
from tui.looks.roles import GLYPHS, SEVERITY_ROLES, Line, Role
from tui.model.settings import config_file
from tui.screen_table import entry_of

HelpText = tuple[tuple[str, str], ...]
"""What the columns, colours and marks of a screen mean: each with its text."""

_GLYPH_TEXTS = {
    Severity.QUIET: "nothing that matters",
    Severity.DIVERGING: (
        f"diverges: at least {DIVERGING_SHARE:.0%} of Σ|self leak| (another share with + and -), or the largest, "
        f"and at least {NEGLIGIBLE:.1%} of |f(x)-f(x')|"
    ),
    Severity.LARGE: f"large: diverges with at least {LARGE_SHARE:.0%} of Σ|self leak|",
    Severity.NONFINITE: "the leak is not a number (NaN or infinite)",
}
_OF_PANES: dict[Scope, str] = {
    "screen": "On every screen",
    "tree": "In the layer tree",
    "list": "In the list",
    "heatmap": "In a heatmap",
    "pane": "In this pane",
}
_LABEL = 12


def help_lines(
    width: int, scope: Scope, texts: HelpText, pane: Scope | None = None, keymap: Keymap = NO_KEYMAP
) -> list[Line]:
    """The help in `width` cells: the keys of the pane with the focus, of its screen, of all screens; then `texts`."""
    lines: list[Line] = []
    for group in dict.fromkeys((pane or _first_pane(scope), *actions.scopes_of(scope))):
        if lines:
            lines.append([])
        lines.append([(_heading(group), Role.STRONG)])
        for action in actions.of(group):
            if keys := keys_of(action, keymap):
                lines += _entry(shown(keys), action.title, width, Role.KEY)
    lines += _entry("Ctrl+P", "Every action by name", width, Role.KEY)
    lines += [[], [("Reading the screen", Role.STRONG)]]
    for label, text in texts:
        lines += _entry(label, text, width, Role.MUTED)
    lines += [[], [("Glyphs", Role.STRONG)]]
    lines += _entry("", "a closed call has the glyph of the worst inside it", width, Role.MUTED)
    for severity, text in _GLYPH_TEXTS.items():
        lines += _entry(f"     {GLYPHS[severity]}", text, width, SEVERITY_ROLES[severity])
    return [*lines, [], *_own_keys(width, scope)]


def _first_pane(scope: Scope) -> Scope:
    entry = entry_of(scope)
    return "pane" if entry is None else entry.pane


def _heading(scope: Scope) -> str:
    entry = entry_of(scope)
    if entry is None:
        return _OF_PANES[scope]
    return entry.heading or f"On the screen {entry.title}"


def _own_keys(width: int, scope: Scope) -> list[Line]:
    """Where keys can be changed, and what the actions of the screen are called there."""
    lines: list[Line] = [[("Keys of your own", Role.STRONG)]]
    lines += _entry("file", clean(str(config_file())), width, Role.MUTED)
    lines += _entry("", '[keys]   worst = "W"   "flow.next" = ["n", "f3"]', width, Role.MUTED)
    for group in dict.fromkeys((scope, "screen")):
        names = " ".join(action.id.partition(".")[2] for action in actions.of(group))
        lines += _entry(group, names, width, Role.MUTED)
    return lines


def _entry(label: str, text: str, width: int, role: Role) -> list[Line]:
    return [
        [(fit(label if index == 0 else "", _LABEL) + " ", role), (part, Role.TEXT)]
        for index, part in enumerate(wrap(text, width - _LABEL - 1))
    ]
