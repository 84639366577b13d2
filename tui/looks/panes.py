"""The styles that screens share: panes with a title over them, and a window in a frame over another screen."""

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


def framed(screen: str, window: str, size: str = "") -> str:
    """Styles for the window (a selector) in the middle of a screen that lies over another; `size` is its own styles."""
    return f"""
    {screen} {{
        align: center middle;
        background: $background 60%;
        {window} {{
            {size}
            max-width: 100%;
            max-height: 100%;
            background: $surface;
            border: round $primary;
            border-title-color: $primary;
            border-subtitle-color: $secondary;
            padding: 0 1;
        }}
    }}
    """
