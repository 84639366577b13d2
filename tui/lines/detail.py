"""The detail of one call as lines: what it is, what it leaks, and the figures of every tensor into and out of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tracer.analysis.severity import Severity, is_unknown
from tracer.records import Edge, Node, Statistics
from tracer.text import clean, percentage
from tracer.tracefile.trace import TensorName
from tui.lines.format import fit, number, seconds, shorten, wrap
from tui.lines.pieces import paragraph
from tui.looks.roles import GLYPHS, SEVERITY_ROLES, Line, Piece, Role
from tui.model.figures import Figures, figure_of

_LABEL = 12
_FIGURE = 11
_STATISTICS = ("min", "max", "mean", "norm", "non-finite")
_TENSORS = ("value", "reference", "Δ", "multiplier")
_NAMES: Mapping[str, Mapping[str, TensorName]] = {
    "in": {"value": "input", "reference": "reference", "multiplier": "multiplier_in"},
    "out": {"value": "output", "reference": "output_reference", "multiplier": "multiplier_out"},
}
_WORDS = {
    Severity.QUIET: "no divergence of its own",
    Severity.DIVERGING: "diverges",
    Severity.LARGE: "large divergence",
    Severity.NONFINITE: "not a number",
}


def detail_lines(
    node: Node, edges: Sequence[Edge], figures: Figures, delta: float, width: int, example: int | None = None
) -> list[Line]:
    """The detail of a call in `width` cells; `delta` and all leaks are of one example, or summed over all."""
    lines = _what(node, figures, width)
    lines += _leaks(node, figures, delta, width, example)
    if not edges:
        lines += [[], [("No tensors were recorded for this call.", Role.MUTED)]]
    if example is not None:
        lines += [[], *_all_examples(width)]
    for edge in edges:
        lines += [[], *_edge(edge, width, example)]
    return lines


def tensor_at(lines: Sequence[Line], y: int) -> tuple[TensorName, int] | None:
    """The tensor that a line of the detail is about, by name and slot; None for a line about the call itself."""
    if not 0 <= y < len(lines) or not lines[y]:
        return None
    label = lines[y][0][0].strip()
    for line in reversed(lines[: y + 1]):
        if not line:
            return None
        direction, _, slot = line[0][0].strip().partition(" ")
        if line[0][1] is Role.ACCENT and direction in _NAMES and slot.strip().isdigit():
            return _NAMES[direction].get(label, _NAMES[direction]["value"]), int(slot)
    return None


def _what(node: Node, figures: Figures, width: int) -> list[Line]:
    severity = Severity(int(figures.severity[node.id]))
    path = clean(node.path) or "(the model)"
    lines: list[Line] = [
        [
            (f"{GLYPHS[severity]} ", SEVERITY_ROLES[severity]),
            (shorten(path, width - 2), Role.STRONG),
        ]
    ]
    calls = f"call {node.call}" if node.call else "first call"
    described = f"{clean(node.type)}   {node.kind}, {calls}   rule: {clean(node.rule)}   {seconds(node.seconds)}"
    lines += [[(text, Role.MUTED)] for text in wrap_keeping_gaps(described, width)]
    # A line even without a source: what follows keeps its place while the cursor moves.
    source = clean(node.source) if node.source else ""
    lines.append([(shorten(source, width), Role.ACCENT)] if source else [("no source line", Role.FAINT)])
    return lines


def _all_examples(width: int) -> list[Line]:
    text = "Leaks and flows are of this example. Gain, secant, counts and the figures of tensors are over all examples."
    return paragraph(text, width, Role.FAINT)


def _leaks(node: Node, figures: Figures, delta: float, width: int, example: int | None) -> list[Line]:
    severity = Severity(int(figures.severity[node.id]))
    leak, own = figure_of(node.leak, example), figure_of(node.self_leak, example)
    share = own / delta + 0.0 if delta else float("nan")  # + 0.0: no "-0 %"
    unknown = is_unknown(own, severity)
    tone = SEVERITY_ROLES[severity] if severity else Role.TEXT
    facts = [
        ("self leak", "-" if unknown else number(own, signed=True), tone),
        ("of the delta", "-" if unknown else percentage(share), Role.TEXT),
        ("leak", "-" if unknown else number(leak, signed=True), Role.TEXT),
        ("of Σ|leak|", "-" if unknown else percentage(float(figures.share[node.id])), Role.TEXT),
        ("gain", _times(node.gain), Role.TEXT),
        ("relative", _known(node.relative_leak), Role.TEXT),
        ("secant max", _known(node.largest_secant), Role.TEXT),
        ("small Δin", str(node.small_differences), Role.TEXT),
        ("dropped Δ", str(node.dropped_differences), Role.WARNING if node.dropped_differences else Role.TEXT),
        ("non-finite", str(node.nonfinite), Role.NONFINITE if node.nonfinite else Role.TEXT),
    ]
    across = max(1, width // (_LABEL + 1 + _FIGURE + 2))
    words = "not known: the run did not come so far" if unknown else _WORDS[severity]
    if node.id == figures.worst and severity:
        words = f"the worst of all calls: {words}"
    lines: list[Line] = [[(shorten(words, width), SEVERITY_ROLES[severity] if severity else Role.MUTED)]]
    for start in range(0, len(facts), across):
        cells: list[Piece] = []
        for label, value, role in facts[start : start + across]:
            cells += [
                (fit(label, _LABEL + 1), Role.MUTED),
                (fit(value, _FIGURE, right=True) + "  ", role),
            ]
        lines.append(cells)
    return lines


def _times(gain: float) -> str:
    return f"×{number(gain)}" if np.isfinite(gain) else _known(gain)


def _known(value: float) -> str:
    """NaN stands for a figure that the call does not have."""
    return "-" if np.isnan(value) else number(value)


def _edge(edge: Edge, width: int, example: int | None) -> list[Line]:
    shape = "×".join(map(str, edge.shape)) or "scalar"
    flow = figure_of(edge.flow, example)
    lead: list[Piece] = [
        (f"{'in ' if edge.direction == 'in' else 'out'} {edge.slot}  ", Role.ACCENT),
        (shorten(_edge_name(edge), max(width // 3, 8)), Role.STRONG),
        (f"  {shape} {clean(edge.dtype)}", Role.MUTED),
    ]
    flow_cells: list[Piece] = [("  flow ", Role.MUTED), (number(flow, signed=True), Role.TEXT)]
    room = sum(len(text) for text, _ in lead + flow_cells) <= width
    lines: list[Line] = [lead + flow_cells] if room else [lead, [("     ", Role.TEXT), *flow_cells]]
    rows = [
        (name, statistics)
        for name, statistics in zip(
            _TENSORS,
            (
                edge.value_statistics,
                edge.reference_statistics,
                edge.difference_statistics,
                edge.multiplier_statistics,
            ),
            strict=True,
        )
        if statistics is not None
    ]
    if not rows:
        return [*lines, [("  no figures kept", Role.FAINT)]]
    shown = _statistics_that_fit(width)
    lines.append(
        [(" " * (_LABEL + 1), Role.TEXT), *((fit(name, _FIGURE + 1, right=True), Role.FAINT) for name in shown)]
    )
    lines += [_statistics_line(name, statistics, shown) for name, statistics in rows]
    if edge.multiplier_statistics is None:
        lines.append([("  multiplier   none came back", Role.FAINT)])
    return lines


def _edge_name(edge: Edge) -> str:
    """The argument's name; one that was given by position alone has a number there."""
    name = clean(edge.name)
    return f"argument {name}" if name.isdigit() and edge.direction == "in" else name


def _statistics_that_fit(width: int) -> list[str]:
    """The figures for which there is room; the norm goes last, the mean first."""
    shown = list(_STATISTICS)
    for name in ("mean", "non-finite", "min", "max"):
        if _LABEL + 1 + len(shown) * (_FIGURE + 1) <= width:
            break
        shown.remove(name)
    return shown


def _statistics_line(name: str, statistics: Statistics, shown: Sequence[str]) -> Line:
    return [(f"  {name:<{_LABEL - 1}}", Role.MUTED), *_statistics_cells(statistics, shown)]


def _statistics_cells(statistics: Statistics, shown: Sequence[str]) -> Iterator[Piece]:
    texts = {
        "min": number(statistics.minimum),
        "max": number(statistics.maximum),
        "mean": number(statistics.mean),
        "norm": number(statistics.norm),
        "non-finite": str(statistics.nonfinite),
    }
    for name in shown:
        bad = name == "non-finite" and statistics.nonfinite
        yield fit(texts[name], _FIGURE + 1, right=True), Role.NONFINITE if bad else Role.TEXT


def wrap_keeping_gaps(text: str, width: int) -> list[str]:
    """`text` in lines of `width` cells; it stays as it is, with its gaps of several spaces, where it fits in one."""
    return [text] if len(text) <= width else wrap(text, width)
