"""The styles of panes that carry a title in a line over them."""

from __future__ import annotations


def titled(screen: str, *panes: str) -> str:
    """Styles for these panes (selectors) of a screen: the line and the title are strong while the pane has the keys."""
    focused = ", ".join(f"{pane}:{state}" for pane in panes for state in ("focus", "focus-within"))
    return f"""
    {screen} {{
        {", ".join(panes)} {{
            border-top: solid $panel-lighten-2;
            border-title-color: $secondary;
            border-title-background: $background;
            padding: 0 0 0 1;
        }}
        {focused} {{
            border-top: heavy $primary;
            border-title-color: $primary;
            border-title-style: bold;
        }}
    }}
    """
