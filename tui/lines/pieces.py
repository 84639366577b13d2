"""Lines of text in roles, within a width in cells."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from tui.lines.format import fit, wrap
from tui.looks.roles import Line, Piece, Role


def paragraph(text: str, width: int, role: Role) -> list[Line]:
    """`text` wrapped into lines of one role."""
    return [[(part, role)] for part in wrap(text, width)]


def cut(pieces: Sequence[Piece], width: int) -> Line:
    """The pieces that fit into one line, the last of them cut with "…"."""
    line: list[Piece] = []
    left = width
    for text, role in pieces:
        if left <= 0:
            break
        part = text if cell_len(text) <= left else fit(text, left)
        line.append((part, role))
        left -= cell_len(part)
    return line
