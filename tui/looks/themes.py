"""How each role looks: one look per theme, and one of bold, dim and underline alone for NO_COLOR.

Text has only colours of the palette of 256: they look the same on a terminal that has no more, and take half the bytes
on one that has.

In every theme the two signs are blue and orange (or similar), which every common colour blindness can tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.style import Style
from textual.theme import Theme

from tui.looks.roles import Role


@dataclass(frozen=True, slots=True)
class Look:
    """A theme: a style for each role, what is laid over the selected row, and Textual's own colours."""

    name: str
    title: str
    styles: Mapping[Role, Style]
    cursor: Style
    cursor_away: Style
    theme: Theme
    colour: bool = True

    def style(self, role: Role) -> Style:
        """How a role looks."""
        return self.styles.get(role, _NULL)

    def over(self, focused: bool) -> Style:
        """What is laid over the selected row; paler while another pane has the keys."""
        return self.cursor if focused else self.cursor_away


_NULL = Style.null()


@dataclass(frozen=True, slots=True)
class _Inks:
    """The colours a look is made of. `rise` and `fall` are (text, ground) from the faintest to the strongest."""

    background: str
    surface: str
    panel: str
    line: str
    text: str
    strong: str
    muted: str
    faint: str
    accent: str
    op: str
    positive: str
    negative: str
    diverging: str
    large: str
    nonfinite: str
    good: str
    warning: str
    cursor: str
    cursor_away: str
    rise: tuple[tuple[str, str], ...]
    fall: tuple[tuple[str, str], ...]


_RISES = (Role.RISE_1, Role.RISE_2, Role.RISE_3, Role.RISE_4)
_FALLS = (Role.FALL_1, Role.FALL_2, Role.FALL_3, Role.FALL_4)


def _look(name: str, title: str, inks: _Inks, dark: bool = True) -> Look:
    styles = {
        Role.TEXT: Style(color=inks.text),
        Role.STRONG: Style(color=inks.strong, bold=True),
        Role.MUTED: Style(color=inks.muted),
        Role.FAINT: Style(color=inks.faint),
        Role.TITLE: Style(color=inks.muted, bold=True),
        Role.ACCENT: Style(color=inks.accent),
        Role.OP: Style(color=inks.op, italic=True),
        Role.POSITIVE: Style(color=inks.positive),
        Role.NEGATIVE: Style(color=inks.negative),
        Role.QUIET: Style(color=inks.faint),
        Role.DIVERGING: Style(color=inks.diverging),
        Role.LARGE: Style(color=inks.large, bold=True),
        Role.NONFINITE: Style(color=inks.nonfinite, bold=True),
        Role.GOOD: Style(color=inks.good, bold=True),
        Role.WARNING: Style(color=inks.warning),
        Role.HIT: Style(color=inks.strong, underline=True),
        Role.KEY: Style(color=inks.accent, bold=True),
    }
    for roles, pairs in ((_RISES, inks.rise), (_FALLS, inks.fall)):
        for role, (text, ground) in zip(roles, pairs, strict=True):
            styles[role] = Style(color=text, bgcolor=ground, bold=role is roles[-1])
    theme = Theme(
        name=f"tracer-{name}",
        primary=inks.accent,
        secondary=inks.muted,
        accent=inks.accent,
        warning=inks.warning,
        error=inks.nonfinite,
        success=inks.good,
        foreground=inks.text,
        background=inks.background,
        surface=inks.surface,
        panel=inks.panel,
        dark=dark,
        variables={
            "footer-background": inks.panel,
            "scrollbar": inks.line,
            "scrollbar-background": inks.background,
            "panel-lighten-2": inks.line,  # frames and scroll bars; lighter would be nothing on a light ground
            "panel-lighten-3": inks.line,
        },
    )
    return Look(name, title, styles, Style(bgcolor=inks.cursor), Style(bgcolor=inks.cursor_away), theme)


DARK = _look(
    "dark",
    "Dark",
    _Inks(
        background="#12151b", surface="#171b23", panel="#1e2430", line="#333c4c",
        text="#d7d7d7", strong="#ffffff", muted="#949494", faint="#6c6c6c", accent="#5fafff", op="#afafd7",
        positive="#ffaf5f", negative="#5fafff", diverging="#ffd787", large="#ffaf00", nonfinite="#ff87af",
        good="#5fd7af", warning="#ffd75f", cursor="#2a3a55", cursor_away="#202836",
        rise=(("#e3d3bd", "#33291c"), ("#f2dcb8", "#5a4020"), ("#ffffff", "#8f5e1f"), ("#14100a", "#f5a142")),
        fall=(("#bcd0e6", "#1a2738"), ("#c3ddf7", "#1f4066"), ("#ffffff", "#2a669f"), ("#08111c", "#4fa3f7")),
    ),
)  # fmt: skip
LIGHT = _look(
    "light",
    "Light",
    _Inks(
        background="#fbfbf9", surface="#f3f3ef", panel="#e9e9e3", line="#c3c3ba",
        text="#262626", strong="#000000", muted="#585858", faint="#8a8a8a", accent="#005faf", op="#444444",
        positive="#875f00", negative="#005faf", diverging="#5f5f00", large="#875f00", nonfinite="#af005f",
        good="#005f5f", warning="#870087", cursor="#d9e7f8", cursor_away="#e4e9ef",
        rise=(("#4a3a22", "#f6ead8"), ("#4a3112", "#efd3a8"), ("#331e00", "#e0a357"), ("#ffffff", "#b35900")),
        fall=(("#223a55", "#dce8f5"), ("#102c4a", "#b3d1ee"), ("#001c38", "#6ba7dd"), ("#ffffff", "#0a58b0")),
    ),
    dark=False,
)  # fmt: skip
COLOUR_BLIND = _look(
    "colour-blind",
    "Colour-blind safe (Okabe-Ito)",
    _Inks(
        background="#101010", surface="#171717", panel="#202020", line="#4a4a4a",
        text="#dadada", strong="#ffffff", muted="#a8a8a8", faint="#767676", accent="#56b4e9", op="#c6c6c6",
        positive="#e69f00", negative="#56b4e9", diverging="#f0e442", large="#e69f00", nonfinite="#cc79a7",
        good="#009e73", warning="#f0e442", cursor="#162a38", cursor_away="#2b2b2b",
        rise=(("#e8dcc0", "#33270d"), ("#f5dfae", "#5c430a"), ("#ffffff", "#966900"), ("#000000", "#e69f00")),
        fall=(("#c4d8e4", "#16262f"), ("#c8e4f6", "#1e4359"), ("#ffffff", "#2c739c"), ("#000000", "#56b4e9")),
    ),
)  # fmt: skip
HIGH_CONTRAST = _look(
    "high-contrast",
    "High contrast",
    _Inks(
        background="#000000", surface="#000000", panel="#1a1a1a", line="#ffffff",
        text="#ffffff", strong="#ffffff", muted="#d7d7d7", faint="#c6c6c6", accent="#87d7ff", op="#e4e4e4",
        positive="#ffaf00", negative="#87d7ff", diverging="#ffff00", large="#ffaf00", nonfinite="#ffafd7",
        good="#5fffaf", warning="#ffff00", cursor="#00305f", cursor_away="#2b2b2b",
        rise=(("#ffffff", "#4a3300"), ("#ffffff", "#6b4900"), ("#000000", "#d99500"), ("#000000", "#ffd24d")),
        fall=(("#ffffff", "#002c52"), ("#ffffff", "#00508f"), ("#000000", "#4da6ff"), ("#000000", "#b3dcff")),
    ),
)  # fmt: skip
LOOKS: Mapping[str, Look] = {look.name: look for look in (DARK, LIGHT, COLOUR_BLIND, HIGH_CONTRAST)}
"""The themes to choose from, by name."""

PLAIN = Look(
    name="plain",
    title="No colour",
    styles={
        Role.STRONG: Style(bold=True),
        Role.TITLE: Style(bold=True),
        Role.OP: Style(italic=True),
        Role.LARGE: Style(bold=True),
        Role.NONFINITE: Style(bold=True),
        Role.GOOD: Style(bold=True),
        Role.WARNING: Style(bold=True),
        Role.HIT: Style(underline=True),
        Role.KEY: Style(bold=True),
        Role.RISE_3: Style(bold=True),
        Role.RISE_4: Style(bold=True),
        Role.FALL_1: Style(underline=True),
        Role.FALL_2: Style(underline=True),
        Role.FALL_3: Style(underline=True, bold=True),
        Role.FALL_4: Style(underline=True, bold=True),
        Role.FAINT: Style(dim=True),
        Role.MUTED: Style(dim=True),
    },
    cursor=Style(reverse=True, dim=False),
    cursor_away=Style(underline=True),
    theme=DARK.theme,
    colour=False,
)
"""By weight alone, for NO_COLOR."""
