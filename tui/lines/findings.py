"""The diagnosis as lines: a list of findings, causes before what they cause, and one finding in full."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from tracer.analysis.severity import LARGE_SHARE, Severity
from tracer.analysis.verdict import HOLDS, Verdict
from tracer.records import Finding, FindingKind, Run
from tracer.text import clean, percentage
from tui.lines.format import bar, fit, number, plural, shorten, wrap
from tui.lines.help import HelpText
from tui.lines.pieces import paragraph
from tui.looks.roles import GLYPHS, SEVERITY_ROLES, Line, Piece, Role
from tui.model.figures import Figures

_BAR = 10
_SHARE = 7
_CALLS = 7
_AFTER = 12
_LEAST_NAME = 24
_MOST_CALLS = 200
READING: HelpText = (
    ("share", "Σ|self leak| of the calls that show the fault, of Σ|self leak| of all calls"),
    ("delta after", "the delta measured with these calls made exact; - where that was not measured"),
    ("└", "a symptom: making the finding above it exact removes it"),
)
"""How to read the screen Findings, for the help."""


@dataclass(frozen=True, slots=True)
class ListedFinding:
    """A finding in the list; `depth` 1 and more stands under its cause."""

    finding: Finding
    depth: int


def entries(findings: Sequence[Finding]) -> tuple[ListedFinding, ...]:
    """The findings in their order, each one that another caused right under the first of that kind.

    A cause that is not among the findings, or that goes round in a circle, leaves its symptom on its own.
    """
    place_of = {finding.kind: place for place, finding in reversed(list(enumerate(findings)))}
    under: dict[int, list[int]] = {}
    tops: list[int] = []
    for place, finding in enumerate(findings):
        cause = place_of.get(finding.caused_by) if finding.caused_by else None
        if cause is None or cause == place or _leads_to(findings, place_of, cause, place):
            tops.append(place)
        else:
            under.setdefault(cause, []).append(place)
    found: list[ListedFinding] = []
    stack = [(place, 0) for place in reversed(tops)]
    while stack:
        place, depth = stack.pop()
        found.append(ListedFinding(findings[place], depth))
        stack += [(each, depth + 1) for each in reversed(under.get(place, ()))]
    return tuple(found)


def heading(width: int) -> Line:
    """The titles of the list's columns."""
    name, columns = _layout(width)
    titles = {"bar": "share of Σ|leak|", "share": "", "calls": "calls", "after": "delta after"}
    cells: list[Piece] = [(fit("  finding", name), Role.TITLE)]
    if "bar" in columns:
        cells.append((" " + fit(titles["bar"], _BAR + 1 + _SHARE), Role.TITLE))
    elif "share" in columns:
        cells.append((" " + fit("share", _SHARE, right=True), Role.TITLE))
    if "calls" in columns:
        cells.append((" " + fit("calls", _CALLS, right=True), Role.TITLE))
    if "after" in columns:
        cells.append((" " + fit(titles["after"], _AFTER, right=True), Role.TITLE))
    return cells


def row(entry: ListedFinding, width: int) -> Line:
    """The line of one finding, exactly `width` cells: kind and place, share, number of calls, delta when repaired."""
    name, columns = _layout(width)
    finding = entry.finding
    severity = severity_of(finding)
    indent = "  " * min(entry.depth, 4)
    lead = "└ " if entry.depth else ""
    kind = clean(finding.kind, 60)
    room = name - 2 - len(indent) - len(lead)
    cells: list[Piece] = [
        (f"{GLYPHS[severity]} ", SEVERITY_ROLES[severity]),
        (indent + lead, Role.FAINT),
        (shorten(kind, room), Role.MUTED if entry.depth else Role.STRONG),
    ]
    rest = room - min(cell_len(kind), room)
    place = place_of(finding)
    text = f"  {shorten(place, rest - 2)}" if rest >= 10 else ""
    cells.append((fit(text, rest), Role.TEXT if not entry.depth else Role.MUTED))
    known = math.isfinite(finding.share)
    if "bar" in columns:
        cells.append((" " + bar(finding.share if known else 0.0, _BAR), SEVERITY_ROLES[severity]))
    if "share" in columns:
        cells.append((" " + fit(percentage(finding.share) if known else "-", _SHARE, right=True), Role.TEXT))
    if "calls" in columns:
        cells.append((" " + fit(str(len(finding.nodes)) if finding.nodes else "-", _CALLS, right=True), Role.MUTED))
    if "after" in columns:
        after = "-" if finding.delta_after is None else number(finding.delta_after, signed=True)
        cells.append((" " + fit(after, _AFTER, right=True), Role.FAINT if finding.delta_after is None else Role.TEXT))
    return cells


def severity_of(finding: Finding) -> Severity:
    """How much of the leaks a finding explains; one about the run as a whole diverges."""
    if math.isnan(finding.share):
        return Severity.DIVERGING
    return Severity.LARGE if finding.share >= LARGE_SHARE else Severity.DIVERGING


def place_of(finding: Finding) -> str:
    """Where to look first: the call's path, or the whole run."""
    if finding.node is None:
        return clean(finding.path) or "the whole run"
    name = clean(finding.path) or "the model"
    return f"{name} #{finding.call}" if finding.call else name


def finding_lines(finding: Finding, figures: Figures, delta: float, width: int) -> list[Line]:
    """A finding in full: what is wrong, what to change, the numbers that prove it, all calls that show it.

    `delta` is the sum over the examples, as `delta_after` is.
    """
    severity = severity_of(finding)
    lines: list[Line] = [
        [(f"{GLYPHS[severity]} ", SEVERITY_ROLES[severity]), (shorten(clean(finding.kind), width - 2), Role.STRONG)],
        *paragraph(clean(finding.message), width, Role.TEXT),
        [],
        *_labelled("change", clean(finding.advice), width, Role.GOOD),
    ]
    if finding.delta_after is not None:
        text = f"{number(delta, signed=True)} → {number(finding.delta_after, signed=True)}, measured"
        lines += _labelled("delta", text, width, Role.STRONG)
    if finding.caused_by:
        lines += _labelled("caused by", clean(finding.caused_by, 100), width, Role.WARNING)
    if finding.node is not None:
        lines += _labelled("look at", place_of(finding), width, Role.TEXT)
    if finding.source:
        lines += _labelled("source", clean(finding.source), width, Role.ACCENT)
    if finding.issues:
        lines += _labelled("issues", ", ".join(f"captum #{issue}" for issue in finding.issues), width, Role.MUTED)
    if finding.evidence:
        lines += [[], [("Evidence", Role.TITLE)]]
        longest = max(cell_len(clean(name, 60)) for name, _ in finding.evidence)
        label = min(longest, max(width - 14, 8))
        for name, value in finding.evidence:
            text = fit(shorten(clean(name, 60), label), label)
            lines.append([("  " + text + "  ", Role.MUTED), (fit(number(value), 11, right=True).strip(), Role.TEXT)])
    lines += _calls(finding, figures, width)
    return lines


def nothing_lines(run: Run, verdict: Verdict, problem: str, width: int) -> list[Line]:
    """Why there is no finding, in words."""
    if problem:
        return paragraph(f"No diagnosis: {clean(problem)}", width, Role.WARNING)
    if verdict.level == "holds":
        reason = (
            f"the attributions add up (relative delta {percentage(verdict.relative_delta)}, "
            f"the bound is {percentage(HOLDS)}) and no known fault shows."
        )
    elif verdict.level == "unfinished":
        reason = verdict.headline
    else:
        reason = "no known fault explains the delta. The worst calls are in Layers, key w."
    return paragraph(f"Nothing to report: {clean(reason)}", width, Role.TEXT)


def _calls(finding: Finding, figures: Figures, width: int) -> list[Line]:
    known = [node for node in finding.nodes if 0 <= node < len(figures)]
    if not known:
        return []
    lines: list[Line] = [[], [(f"{plural(len(known), 'call')}, worst first", Role.TITLE)]]
    for node in known[:_MOST_CALLS]:
        severity = Severity(int(figures.severity[node]))
        own = number(float(figures.self_leak[node]), signed=True)
        call = int(figures.call[node])
        name = (clean(figures.paths[node]) or "the model") + (f" #{call}" if call else "")
        room = max(width - 16, 6)
        lines.append(
            [
                (f"  {GLYPHS[severity]} ", SEVERITY_ROLES[severity]),
                (fit(own, 11, right=True) + " ", Role.TEXT),
                (shorten(name, room), Role.MUTED),
            ]
        )
    if len(known) > _MOST_CALLS:
        lines.append([(f"  and {len(known) - _MOST_CALLS} more", Role.MUTED)])
    return lines


def _layout(width: int) -> tuple[int, tuple[str, ...]]:
    """The width of kind and place, and the columns that fit beside it."""
    sizes = {"bar": _BAR + 1, "share": _SHARE + 1, "calls": _CALLS + 1, "after": _AFTER + 1}
    shown = list(sizes)
    for column in ("calls", "bar", "after", "share"):
        if _LEAST_NAME + 2 + sum(sizes[each] for each in shown) <= width:
            break
        shown.remove(column)
    return max(width - sum(sizes[each] for each in shown), 2), tuple(shown)


def _labelled(label: str, text: str, width: int, role: Role) -> list[Line]:
    indent = 11
    return [
        [(fit(label if index == 0 else "", indent), Role.MUTED), (part, role)]
        for index, part in enumerate(wrap(text, width - indent))
    ]


def _leads_to(findings: Sequence[Finding], place_of: dict[FindingKind, int], start: int, goal: int) -> bool:
    """Whether following causes from `start` comes to `goal`: then they cause each other, and none stands under."""
    seen: set[int] = set()
    place: int | None = start
    while place is not None and place not in seen:
        if place == goal:
            return True
        seen.add(place)
        cause = findings[place].caused_by
        place = place_of.get(cause) if cause else None
    return False
