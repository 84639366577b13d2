"""The help: how to read the screen, and every key, from the table of actions."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from tracer.analysis.severity import DIVERGING_SHARE, LARGE_SHARE, NEGLIGIBLE, Severity
from tracer.text import clean
from tui import actions
from tui.lines.format import fit, wrap
from tui.lines.help import READING
from tui.lines.roles import GLYPHS, SEVERITY_ROLES, Line, Role
from tui.model.settings import config_file
from tui.widgets.lines import LinesView

_READING = (
    ("leak", "what a call and all inside it add to the convergence delta: Σ m·Δ going in less Σ m·Δ coming out"),
    ("self leak", "what the calls inside do not explain; all self leaks together are the delta"),
    ("gain", "‖m in‖ / ‖m out‖: above 1 the call makes multipliers larger, and with them every leak before it"),
    (
        "bar",
        (
            "the leak, to the left if negative, to the right if positive. The scale is logarithmic over four decades: "
            "the largest leak fills its side, a tenth of it three quarters, a ten-thousandth nothing. "
            "A thin line is the sum of a call with others inside, a block one call"
        ),
    ),
    (
        "detail",
        (
            "secant max is the largest |m in / m out|; small Δin counts elements where input and reference agree to "
            "1e-10; dropped Δ those of them whose output still differs, so that their share is lost"
        ),
    ),
)
_GLYPH_TEXTS = {
    Severity.QUIET: "nothing that matters",
    Severity.DIVERGING: (
        f"diverges: at least {DIVERGING_SHARE:.0%} of Σ|self leak| (another share with + and -), or the largest, "
        f"and at least {NEGLIGIBLE:.1%} of |f(x)-f(x')|"
    ),
    Severity.LARGE: f"large: diverges with at least {LARGE_SHARE:.0%} of Σ|self leak|",
    Severity.NONFINITE: "the leak is not a number (NaN or infinite)",
}
_TITLES: dict[actions.Scope, str] = {
    "screen": "On every screen",
    "tree": "In the layer tree",
    "list": "In the list",
    "heatmap": "In a heatmap",
    "pane": "In this pane",
    "tensor": "On a tensor",
    "folder": "In the list of traces",
    "waiting": "While waiting for a recording",
}
_PANES: dict[actions.Scope, actions.Scope] = {
    "layers": "tree",
    "tensor": "heatmap",
    "heads": "heatmap",
    "flow": "flow",
    "findings": "list",
    "repair": "list",
    "compare": "tree",
    "folder": "list",
}
_LABEL = 12


def help_lines(
    width: int,
    scope: actions.Scope = "layers",
    pane: actions.Scope | None = None,
    keymap: actions.Keymap = actions.NO_KEYMAP,
) -> list[Line]:
    """The help in `width` cells: the keys of the pane that has them, of its screen and of all screens; then how to
    read the screen."""
    lines: list[Line] = []
    for group in dict.fromkeys((pane or _PANES.get(scope, "pane"), *actions.scopes_of(scope))):
        if lines:
            lines.append([])
        lines.append([(_TITLES.get(group, f"On the screen {group.capitalize()}"), Role.STRONG)])
        for action in actions.of(group):
            if keys := actions.keys_of(action, keymap):
                lines += _entry(actions.shown(keys), action.title, width, Role.KEY)
    lines += _entry("Ctrl+P", "Every action by name", width, Role.KEY)
    lines += [[], [("Reading the screen", Role.STRONG)]]
    for label, text in READING.get(scope, _READING):
        lines += _entry(label, text, width, Role.MUTED)
    lines += [[], [("Glyphs", Role.STRONG)]]
    lines += _entry("", "a closed call has the glyph of the worst inside it", width, Role.MUTED)
    for severity, text in _GLYPH_TEXTS.items():
        lines += _entry(f"     {GLYPHS[severity]}", text, width, SEVERITY_ROLES[severity])
    return [*lines, [], *_own_keys(width, scope)]


def _own_keys(width: int, scope: actions.Scope) -> list[Line]:
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


class HelpScreen(ModalScreen[None]):
    """Lies over the screen until Esc, `?` or `q`."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q", "dismiss", "Close")]

    def __init__(self, scope: actions.Scope = "layers", pane: actions.Scope | None = None) -> None:
        super().__init__()
        self.scope = scope
        self.pane = pane

    def compose(self) -> ComposeResult:
        """The help in a frame."""
        view = LinesView(id="help")
        view.border_title = "Help"
        view.border_subtitle = "Esc closes"
        yield view

    def on_mount(self) -> None:
        """Fill the frame."""
        keymap = getattr(self.app, "keys", actions.NO_KEYMAP)
        self.query_one(LinesView).show(lambda width: help_lines(width, self.scope, self.pane, keymap))
