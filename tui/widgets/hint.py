"""Three lines of help at the first start of all."""

from __future__ import annotations

from tui.looks.roles import Line, Role
from tui.widgets.short_lines import ShortLines

_LINES: tuple[tuple[tuple[str, str], ...], ...] = (
    (
        ("The cursor is on the call that leaks most.", ""),
        (" n", " next one, "),
        ("d", " only those, "),
        ("/", " search"),
    ),
    (
        ("Each call is rated:", ""),
        (" ◆", " large, "),
        ("◇", " diverges. "),
        ("Enter", " opens it, "),
        ("v", " shows its tensors"),
    ),
    (
        ("Other screens:", ""),
        (" 1", " to "),
        ("7", ", or click. "),
        ("?", " help, "),
        ("q", " quits. This is said once."),
    ),
)


def hint_lines(width: int) -> list[Line]:
    """The three lines; what does not fit in `width` is cut off by the pane."""
    lines: list[Line] = []
    for parts in _LINES:
        line: list[tuple[str, Role]] = []
        for index, (key, text) in enumerate(parts):
            line += [(key, Role.KEY if index else Role.TEXT), (text, Role.MUTED)]
        lines.append(line)
    return lines


class Hint(ShortLines):
    """Gone with the first key, and never there again."""

    def on_mount(self) -> None:
        """Fill the lines."""
        self.show(hint_lines)
