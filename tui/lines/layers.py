"""The lines of the layer tree: the call's name, and its figures in columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from tracer.analysis.severity import Severity, is_unknown
from tracer.text import clean, percentage
from tui.lines.format import fit, narrow, number, seconds, shorten, signed_bar
from tui.lines.help import HelpText
from tui.looks.roles import GLYPHS, SEVERITY_ROLES, Piece, Role
from tui.model.figures import Figures
from tui.model.outline import Sort

MINIMUM_TREE = 24
MINIMUM_PATH = 40
_GAP = 1
READING: HelpText = (
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
"""How to read the screen Layers, for the help."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column beside the tree: its heading, width in cells and side of its text."""

    name: str
    title: str
    width: int
    right: bool = True


@dataclass(frozen=True, slots=True)
class Shape:
    """Which columns are wanted, in any order (None: the usual ones), and by what the calls are sorted."""

    columns: tuple[str, ...] | None = None
    sort: Sort = "order"

    @property
    def flat(self) -> bool:
        """Whether the lines are single calls in a list, not a tree."""
        return self.sort != "order"


BAR = Column("bar", "-  leak │       +", 17, right=False)
WIDE_BAR = Column("bar", "-      leak │           +", 25, right=False)
LEAK = Column("leak", "leak", 11)
SELF = Column("self", "self leak", 11)
SHARE = Column("share", "of Σ|leak|", 10)
GAIN = Column("gain", "gain", 8)
TIME = Column("time", "time", 9)
TYPE = Column("type", "type", 20, right=False)
ORDER = (BAR, LEAK, SELF, SHARE, GAIN, TIME, TYPE)
USUAL = ("bar", "leak", "self", "gain", "type")
DROPPED_FIRST = (TYPE, TIME, SHARE, GAIN, BAR, SELF, LEAK)
SORTED_BY: Mapping[str, Sort] = {
    "bar": "leak",
    "leak": "leak",
    "self": "leak",
    "share": "leak",
    "gain": "gain",
    "time": "time",
}
"""What a click on a column's title sorts by."""
_SHOWS: Mapping[Sort, Column] = {"leak": SELF, "gain": GAIN, "time": TIME}
_PLAIN = Shape()


def layout(width: int, shape: Shape = _PLAIN) -> tuple[int, tuple[Column, ...]]:
    """The tree's width and the columns that fit beside it in `width` cells.

    Columns go in the order type, time, share, gain, bar, self leak, leak until the tree has its minimum; the one that
    the calls are sorted by goes last. What is then left over goes to the tree, and from 120 cells on to a longer bar.
    A list, which shows whole paths, needs more room for them.
    """
    last = _SHOWS.get(shape.sort)
    least = MINIMUM_PATH if shape.flat else MINIMUM_TREE
    wanted = shape.columns if shape.columns is not None else USUAL
    columns = [column for column in ORDER if column.name in wanted or column is last]
    for column in (*(each for each in DROPPED_FIRST if each is not last), *([last] if last else [])):
        if 2 + least + sum(each.width + _GAP for each in columns) <= width:
            break
        if column in columns:
            columns.remove(column)
    if width >= 120 and BAR in columns and not shape.flat:
        columns[columns.index(BAR)] = WIDE_BAR
    tree = max(width - 2 - sum(column.width + _GAP for column in columns), 1)
    return tree, tuple(columns)


def heading(width: int, shape: Shape = _PLAIN) -> list[Piece]:
    """The line of column titles; "▼" is at the one that the calls are sorted by."""
    tree, columns = layout(width, shape)
    cells: list[Piece] = [("  " + fit("call", tree), Role.TITLE)]
    by = _SHOWS.get(shape.sort)
    for column in columns:
        title = "own time" if column is TIME and shape.flat else column.title
        if by is not None and column.name == by.name:
            title = fit(title, min(cell_len(title), column.width - 1)) + "▼"
        cells.append((" " * _GAP + fit(title, column.width, column.right), Role.TITLE))
    return cells


def column_at(x: int, width: int, shape: Shape = _PLAIN) -> str | None:
    """The name of the column at this cell of a line; "call" for the tree, None past the end."""
    tree, columns = layout(width, shape)
    start = 2 + tree
    if 0 <= x < start:
        return "call"
    for column in columns:
        start += column.width + _GAP
        if 0 <= x < start:
            return column.name
    return None


def row(
    figures: Figures,
    node: int,
    expanded: bool,
    width: int,
    hit: bool = False,
    model: str = "",
    marked: bool = False,
    shape: Shape = _PLAIN,
) -> list[Piece]:
    """The line of one call, exactly `width` cells wide.

    The glyph is the severity of the call or, while it is closed, the worst of its subtree; the user's mark is next.
    """
    tree, columns = layout(width, shape)
    closed = figures.has_children(node) and not expanded and not shape.flat
    severity = Severity(int(figures.subtree_severity[node] if closed else figures.severity[node]))
    cells: list[Piece] = [(GLYPHS[severity], SEVERITY_ROLES[severity]), ("●" if marked else " ", Role.KEY)]
    if shape.flat:
        name = shorten(full_name(figures, node, model), tree)
        cells.append((fit(name, tree), _name_role(figures, node, hit)))
    else:
        cells += tree_cells(figures, node, expanded, tree, hit, model)
    for column in columns:
        cells += _column_cells(figures, node, column, severity, shape)
    return cells


def full_name(figures: Figures, node: int, model: str = "") -> str:
    """The whole path of a call, "#1" for a second call of it; the model's name for the model itself."""
    call = int(figures.call[node])
    name = figures.paths[node] or model or figures.types[node] or "(model)"
    return clean(f"{name} #{call}" if call else name)


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


def tree_cells(figures: Figures, node: int, expanded: bool, width: int, hit: bool, model: str) -> list[Piece]:
    depth = int(figures.depth[node])
    room = max(width - 14, 0)
    step = 2 if figures.deepest * 2 <= room else 1
    indent = min(depth * step, room)
    marker = ("▾ " if expanded else "▸ ") if figures.has_children(node) else "  "
    name = shorten(name_of(figures, node, model), width - indent - 2)
    role = _name_role(figures, node, hit)
    padding = width - indent - 2 - cell_len(name)
    return [(" " * indent + marker, Role.MUTED), (name, role), (" " * padding, Role.TEXT)]


def _name_role(figures: Figures, node: int, hit: bool) -> Role:
    if hit:
        return Role.HIT
    if figures.severity[node] >= Severity.LARGE:
        return Role.STRONG
    return Role.OP if figures.kinds[node] == "op" else Role.TEXT


def _column_cells(figures: Figures, node: int, column: Column, severity: Severity, shape: Shape) -> Sequence[Piece]:
    leak = float(figures.leak[node])
    inside = Severity(int(figures.subtree_severity[node]))
    if column.name == "bar":
        known = 0.0 if is_unknown(leak, inside) else leak
        left, right = signed_bar(known, figures.largest_leak, column.width, thin=figures.has_children(node))
        return [(" " + left, Role.NEGATIVE), ("│", Role.FAINT), (right, Role.POSITIVE)]
    if column.name == "leak":
        return [(_figure(leak, column, inside), Role.TEXT if severity else Role.MUTED)]
    if column.name == "self":
        own = Severity(int(figures.severity[node]))
        return [(_figure(float(figures.self_leak[node]), column, own), SEVERITY_ROLES[own] if own else Role.FAINT)]
    if column.name == "gain":
        gain = float(figures.gain[node])
        times = "-" if math.isnan(gain) else narrow(gain, column.width)  # NaN: no multiplier came, or none yet
        return [(" " + fit(times, column.width, right=True), Role.MUTED)]
    if column.name == "share":
        share = "-" if is_unknown(leak, severity) else percentage(float(figures.share[node]))
        return [(" " + fit(share, column.width, right=True), Role.MUTED)]
    if column.name == "time":
        spent = figures.own_seconds if shape.flat else figures.seconds
        return [(" " + fit(seconds(float(spent[node])), column.width, right=True), Role.MUTED)]
    return [(" " + fit(clean(figures.types[node]), column.width), Role.MUTED)]


def _figure(value: float, column: Column, severity: Severity) -> str:
    if is_unknown(value, severity):
        return " " + fit("-", column.width, right=True)
    return " " + fit(number(value, signed=True, digits=4 if severity else 2), column.width, right=True)
