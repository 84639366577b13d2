"""Two traces compared, as lines: their leaks side by side, the difference, and both headlines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len

from tracer.analysis.compare import Comparison, difference
from tracer.analysis.severity import LARGE_SHARE, Severity, subtree_maximum
from tracer.analysis.verdict import HOLDS, OFF, changes
from tracer.records import Floats, Node, Run
from tracer.report.comparison import outcome
from tracer.text import clean, figure, multiple, relative
from tracer.tracefile.trace import Trace
from tui.lines import layers as rows
from tui.lines.format import fit, narrow, number, plural, seconds, shorten, signed_bar
from tui.lines.help import HelpText
from tui.lines.pieces import paragraph
from tui.looks.roles import GLYPHS, SEVERITY_ROLES, Line, Piece, Role
from tui.model.figures import Figures, Ints, derive

ONLY_A, ONLY_B = "‹", "›"
MINIMUM_TREE = 12
_FIGURE = 11
_NARROW_FIGURE = 9
_BAR = 17
_WIDE_BAR = 25
_LEAD = 4
_LABEL = 11
_BROKEN = ("✖", Role.LARGE)
READING: HelpText = (
    (
        "leak",
        "of an open call its self leak, of a closed one that of all inside it: what is seen sums to the delta",
    ),
    ("B − A", "the difference; a call that only one trace has counts as 0 in the other"),
    (f"{ONLY_A} {ONLY_B}", "only A, or only B, has this call"),
    ("bar", "B − A, to the left if negative; logarithmic over four decades"),
)
"""How to read the screen Compare, for the help."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two traces in one merged tree of P calls, as the lines need them.

    `figures` has the merged tree; its leaks are those of B less those of A, a call that only one has counting as 0 in
    the other. `a` and `b` are the calls' ids in each trace, −1 where it has none; the leaks of both are NaN there.
    `outcome` is one sentence on the comparison.
    """

    figures: Figures
    a: Ints
    b: Ints
    leak_a: Floats
    leak_b: Floats
    self_leak_a: Floats
    self_leak_b: Floats
    comparison: Comparison
    outcome: str

    def __len__(self) -> int:
        return len(self.a)


def pair(comparison: Comparison, first: Trace, second: Trace, example: int | None = None) -> Pair:
    """The comparison of two traces with what its lines need, of one example or summed over all."""
    a, b = np.asarray(comparison.a), np.asarray(comparison.b)
    leak_a, self_a = (_taken(values, a) for values in first.leaks(example))
    leak_b, self_b = (_taken(values, b) for values in second.leaks(example))
    names_a, names_b = first.columns, second.columns
    change = changes(first.run)
    figures = derive(
        parent=comparison.parent,
        end=comparison.end,
        depth=comparison.depth,
        leak=difference(np.where(a >= 0, leak_a, 0.0), np.where(b >= 0, leak_b, 0.0)),
        self_leak=comparison.difference,
        gain=_taken(names_a.gain, a),
        call=np.where(a >= 0, _taken(names_a.call, a, -1), _taken(names_b.call, b, -1)),
        kinds=_named(names_a.kinds, names_b.kinds, a, b),
        types=_named(names_a.types, names_b.types, a, b),
        paths=_named(names_a.paths, names_b.paths, a, b),
        change=float(change.sum() if example is None else change[example]),
    )
    said = outcome(first, second, comparison)
    return Pair(_rated(figures, comparison), a, b, leak_a, leak_b, self_a, self_b, comparison, said)


def heading(width: int) -> list[Piece]:
    """The line of column titles."""
    tree, columns = layout(width)
    cells: list[Piece] = [(fit("    call", _LEAD + tree), Role.TITLE)]
    titles = {"a": "A leak", "b": "B leak", "difference": "B − A"}
    for column, size in columns:
        if column == "bar":
            half = (size - 1) // 2
            cells.append((" " + fit("- B − A", half) + "│" + fit("+", half, right=True), Role.TITLE))
        else:
            cells.append((" " + fit(titles[column], size, right=True), Role.TITLE))
    return cells


def row(given: Pair, index: int, expanded: bool, width: int, hit: bool = False, model: str = "") -> list[Piece]:
    """The line of one call, exactly `width` cells.

    A closed call stands for all that is in it and has the leaks of its subtree, an open one its own: what is in view
    always sums to both deltas.
    """
    figures = given.figures
    tree, columns = layout(width)
    closed = figures.has_children(index) and not expanded
    severity = Severity(int(figures.subtree_severity[index] if closed else figures.severity[index]))
    only = ONLY_B if given.a[index] < 0 else ONLY_A if given.b[index] < 0 else " "
    cells: list[Piece] = [(f"{GLYPHS[severity]} ", SEVERITY_ROLES[severity]), (f"{only} ", Role.ACCENT)]
    cells += rows.tree_cells(figures, index, expanded, tree, hit, model)
    whole = figures.has_children(index) and closed
    values = {
        "a": float((given.leak_a if whole else given.self_leak_a)[index]),
        "b": float((given.leak_b if whole else given.self_leak_b)[index]),
        "difference": float((figures.leak if whole else figures.self_leak)[index]),
    }
    absent = {"a": given.a[index] < 0, "b": given.b[index] < 0, "difference": False}
    for column, size in columns:
        if column == "bar":
            left, right = signed_bar(values["difference"], figures.largest_leak, size, thin=whole)
            cells += [(" " + left, Role.NEGATIVE), ("│", Role.FAINT), (right, Role.POSITIVE)]
            continue
        text = "none" if absent[column] else number(values[column], signed=True, digits=4 if severity else 2)
        if len(text) > size:
            text = narrow(values[column], size)
        if column == "difference":
            role = SEVERITY_ROLES[severity] if severity else Role.FAINT
        else:
            role = Role.TEXT if severity and not absent[column] else Role.FAINT
        cells.append((" " + fit(text, size, right=True), role))
    return cells


def layout(width: int) -> tuple[int, tuple[tuple[str, int], ...]]:
    """The tree's width, and the columns beside it with theirs; the bar goes first, then the difference."""
    figure_width = _FIGURE if width >= 48 else _NARROW_FIGURE
    columns = [(name, figure_width) for name in ("a", "b", "difference")]
    columns.append(("bar", _BAR if width < 120 else _WIDE_BAR))
    least = rows.MINIMUM_TREE if width >= 64 else MINIMUM_TREE
    for dropped in ("bar", "difference", "b"):
        if _LEAD + least + sum(size + 1 for _, size in columns) <= width:
            break
        columns = [column for column in columns if column[0] != dropped]
    return max(width - _LEAD - sum(size + 1 for _, size in columns), 1), tuple(columns)


def headline_lines(given: Pair, first: Run, second: Run, example: int | None, width: int, short: bool) -> list[Line]:
    """Both runs with their deltas, then what differs; one line each on a short screen."""
    lines: list[Line] = [_run("A", first, second, example, width), _run("B", second, first, example, width)]
    text = verdict_of(given)
    return [*lines, *([] if short else paragraph(text, width, Role.TEXT))]


def verdict_of(given: Pair) -> str:
    """What the comparison finds, in a few sentences."""
    figures, found = given.figures, given.comparison
    only_a, only_b = int((given.b < 0).sum()), int((given.a < 0).sum())
    parts = [given.outcome]
    if found.first is not None:
        both = ", and the worst" if found.worst == found.first else ""
        parts.append(f"First in execution order{both}: {_name(figures, found.first)}.")
    if found.worst is not None and found.worst != found.first:
        parts.append(f"Worst: {_name(figures, found.worst)}.")
    if found.last_gain is not None and found.first_value is None:
        parts.append(f"Multipliers, which come from the output, part at {_name(figures, found.last_gain)}.")
    if only_a:
        parts.append(f"{plural(only_a, 'call')} only in A ({ONLY_A}).")
    if only_b:
        parts.append(f"{plural(only_b, 'call')} only in B ({ONLY_B}).")
    return " ".join(parts)


def call_lines(given: Pair, index: int, nodes: tuple[Node | None, Node | None], width: int) -> list[Line]:
    """The selected call as both traces have it, side by side."""
    figures = given.figures
    severity = Severity(int(figures.severity[index]))
    lines: list[Line] = [
        [
            (f"{GLYPHS[severity]} ", SEVERITY_ROLES[severity]),
            (shorten(_name(figures, index), width - 2), Role.STRONG),
        ]
    ]
    each = max((width - _LABEL) // 2, 5)
    lines.append([(fit("", _LABEL), Role.TITLE), (fit("A", each), Role.TITLE), (fit("B", each), Role.TITLE)])
    leaks = (
        ("self leak", given.self_leak_a, given.self_leak_b),
        ("leak", given.leak_a, given.leak_b),
    )
    for label, a, b in leaks:
        texts = [
            "no such call" if node is None and label == "self leak" else "" if node is None else _signed(values[index])
            for node, values in zip(nodes, (a, b), strict=True)
        ]
        lines.append(_beside(label, texts, each, Role.TEXT))
    lines.append(_beside("gain", [_gain(node) for node in nodes], each, Role.TEXT))
    lines.append(_beside("rule", ["" if node is None else clean(node.rule, 100) for node in nodes], each, Role.TEXT))
    kinds = ["" if node is None else f"{clean(node.type, 60)} {node.kind}" for node in nodes]
    lines.append(_beside("type", kinds, each, Role.MUTED))
    sources = ["" if node is None else clean(node.source or "", 200) for node in nodes]
    if any(sources):
        lines.append(_beside("source", sources, each, Role.ACCENT))
    lines.append(_beside("time", ["" if node is None else seconds(node.seconds) for node in nodes], each, Role.MUTED))
    return lines


def _rated(figures: Figures, comparison: Comparison) -> Figures:
    """The figures with the comparison's own verdict on which calls diverge."""
    size = np.abs(figures.self_leak)
    finite = np.isfinite(size)
    total = float(size[finite].sum())
    severity = np.where(comparison.diverging, np.uint8(Severity.DIVERGING), np.uint8(Severity.QUIET))
    if total:
        large = comparison.diverging & finite & (size >= LARGE_SHARE * total)
        severity[large] = Severity.LARGE
    severity[comparison.diverging & ~finite] = Severity.NONFINITE
    return replace(
        figures,
        severity=severity,
        subtree_severity=subtree_maximum(severity, figures.end),
        diverging=np.flatnonzero(severity),
        worst=figures.worst if comparison.worst is None else comparison.worst,
    )


def _taken(values: npt.NDArray[np.generic], ids: Ints, missing: float = math.nan) -> Floats:
    """The values of these calls, `missing` where there is no call."""
    if not len(values):
        return np.full(len(ids), missing)
    taken = np.asarray(values, dtype=np.float64)[np.maximum(ids, 0)]
    taken[ids < 0] = missing
    return taken


def _named(first: Sequence[str], second: Sequence[str], a: Ints, b: Ints) -> list[str]:
    return [first[one] if one >= 0 else second[other] for one, other in zip(a.tolist(), b.tolist(), strict=True)]


def _name(figures: Figures, index: int) -> str:
    call = int(figures.call[index])
    name = clean(figures.paths[index]) or "the model"
    return f"{name} #{call}" if call else name


def _run(label: str, run: Run, other: Run, example: int | None, width: int) -> Line:
    """A run's delta, method and variant; its text or reference where the other run has another."""
    delta, change = (
        float(values.sum() if example is None else values[example]) for values in (run.delta, changes(run))
    )
    ratio = relative(delta, change)
    facts = [f"{clean(run.method, 60)} / {clean(run.variant, 60)}" if run.variant else clean(run.method, 60)]
    for name in ("model", "text", "reference", "target"):
        if getattr(run, name) != getattr(other, name):
            facts.append(f"{name} {clean(str(getattr(run, name)), 60)}")
    changed = sorted(
        name for name in {*run.versions, *other.versions} if run.versions.get(name) != other.versions.get(name)
    )
    facts += [f"{clean(name, 30)} {clean(run.versions.get(name, 'none'), 30)}" for name in changed]
    if run.status != "complete":
        facts.insert(0, run.status)
    if run.status != "complete" or math.isnan(ratio):
        glyph, role = "▲", Role.WARNING
    else:
        glyph, role = ("✔", Role.GOOD) if ratio <= HOLDS else ("▲", Role.WARNING) if ratio <= OFF else _BROKEN
    cells: list[Piece] = [
        (f"{label} ", Role.ACCENT),
        (f"{glyph} ", role),
        ("delta ", Role.MUTED),
        (fit(figure(delta, signed=True), 12), Role.STRONG),
        (fit(multiple(ratio), 16) + " ", Role.TEXT),
    ]
    used = sum(cell_len(text) for text, _ in cells)
    if width - used < 16:
        cells = cells[:-1]
        used = sum(cell_len(text) for text, _ in cells)
    text = facts[0]
    for fact in facts[1:]:
        if used + cell_len(text) + 3 + cell_len(fact) <= width:
            text += f"   {fact}"
    return [*cells, (shorten(text, max(width - used, 0)), Role.TEXT)]


def _signed(value: float) -> str:
    return number(float(value), signed=True)


def _gain(node: Node | None) -> str:
    return "" if node is None else "-" if math.isnan(node.gain) else f"×{number(node.gain)}"


def _beside(label: str, texts: Sequence[str], each: int, role: Role) -> Line:
    cells: list[Piece] = [(fit(label, _LABEL), Role.MUTED)]
    return [*cells, *((fit(shorten(text, each - 1), each), role) for text in texts)]
