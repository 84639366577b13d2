"""The tree's lines: figures and a width in, cells with roles out. Pure; the widget only paints them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from tracer.plain import clean
from tui.figures import Figures, Severity
from tui.format import fit, narrow, number, shorten, signed_bar
from tui.theme import GLYPHS, SEVERITY_ROLES, Cell, Role

MINIMUM_TREE = 24
_GAP = 1


@dataclass(frozen=True, slots=True)
class Column:
    """A column beside the tree: its heading, width in cells and side of its text."""

    name: str
    title: str
    width: int
    right: bool = True


BAR = Column("bar", "-  leak │       +", 17, right=False)
WIDE_BAR = Column("bar", "-      leak │           +", 25, right=False)
LEAK = Column("leak", "leak", 11)
SELF = Column("self", "self leak", 11)
GAIN = Column("gain", "gain", 8)
TYPE = Column("type", "type", 20, right=False)
ORDER = (BAR, LEAK, SELF, GAIN, TYPE)
DROPPED_FIRST = (TYPE, GAIN, BAR, SELF, LEAK)


def layout(width: int) -> tuple[int, tuple[Column, ...]]:
    """The tree's width and the columns that fit beside it in `width` cells.

    Columns go in the order type, gain, bar, self leak, leak until the tree has its minimum. What is then left over
    goes to the tree, and from 120 cells on to a longer bar.
    """
    columns = list(ORDER)
    for column in DROPPED_FIRST:
        if 2 + MINIMUM_TREE + sum(each.width + _GAP for each in columns) <= width:
            break
        columns.remove(column)
    if width >= 120 and BAR in columns:
        columns[columns.index(BAR)] = WIDE_BAR
    tree = max(width - 2 - sum(column.width + _GAP for column in columns), 1)
    return tree, tuple(columns)


def heading(width: int) -> list[Cell]:
    """The line of column titles."""
    tree, columns = layout(width)
    cells: list[Cell] = [("  " + fit("call", tree), Role.TITLE)]
    for column in columns:
        cells.append((" " * _GAP + fit(column.title, column.width, column.right), Role.TITLE))
    return cells


def row(figures: Figures, node: int, expanded: bool, width: int, hit: bool = False, model: str = "") -> list[Cell]:
    """The line of one call, exactly `width` cells wide.

    The glyph rates what the line stands for: the call alone, or its whole subtree while that is closed.
    """
    tree, columns = layout(width)
    closed = figures.has_children(node) and not expanded
    severity = Severity(int(figures.subtree_severity[node] if closed else figures.severity[node]))
    cells: list[Cell] = [(f"{GLYPHS[severity]} ", SEVERITY_ROLES[severity])]
    cells += _tree_cells(figures, node, expanded, tree, hit, model)
    for column in columns:
        cells += _column_cells(figures, node, column, severity)
    return cells


def name_of(figures: Figures, node: int, model: str = "") -> str:
    """What the tree calls a call: the part of its path that its parent's path does not say, "#1" for a second call."""
    path = figures.paths[node]
    parent = int(figures.parent[node])
    name = path
    if parent >= 0 and figures.paths[parent] and path.startswith(figures.paths[parent]):
        rest = path[len(figures.paths[parent]) :]
        if rest[:1] in (".", "/"):
            name = rest[1:]
    elif path.startswith("/"):
        name = path[1:]
    if not name:
        name = model if parent < 0 and model else figures.types[node] or "(model)"
    call = int(figures.call[node])
    return clean(f"{name} #{call}" if call else name)


def _tree_cells(figures: Figures, node: int, expanded: bool, width: int, hit: bool, model: str) -> list[Cell]:
    depth = int(figures.depth[node])
    room = max(width - 14, 0)
    step = 2 if figures.deepest * 2 <= room else 1
    indent = min(depth * step, room)
    marker = ("▾ " if expanded else "▸ ") if figures.has_children(node) else "  "
    name = shorten(name_of(figures, node, model), width - indent - 2)
    if hit:
        role = Role.HIT
    elif figures.severity[node] >= Severity.LARGE:
        role = Role.STRONG
    else:
        role = Role.OP if figures.kinds[node] == "op" else Role.TEXT
    padding = width - indent - 2 - cell_len(name)
    return [(" " * indent + marker, Role.MUTED), (name, role), (" " * padding, Role.TEXT)]


def _column_cells(figures: Figures, node: int, column: Column, severity: Severity) -> Sequence[Cell]:
    leak = float(figures.leak[node])
    inside = Severity(int(figures.subtree_severity[node]))
    if column.name == "bar":
        left, right = signed_bar(leak, figures.largest_leak, column.width, thin=figures.has_children(node))
        return [(" " + left, Role.NEGATIVE), ("│", Role.FAINT), (right, Role.POSITIVE)]
    if column.name == "leak":
        return [(_figure(leak, column, inside), Role.TEXT if severity else Role.MUTED)]
    if column.name == "self":
        own = Severity(int(figures.severity[node]))
        return [(_figure(float(figures.self_leak[node]), column, own), SEVERITY_ROLES[own] if own else Role.FAINT)]
    if column.name == "gain":
        return [(" " + fit(narrow(float(figures.gain[node]), column.width), column.width, right=True), Role.MUTED)]
    return [(" " + fit(clean(figures.types[node]), column.width), Role.MUTED)]


def _figure(value: float, column: Column, severity: Severity) -> str:
    return " " + fit(number(value, signed=True, digits=4 if severity else 2), column.width, right=True)
