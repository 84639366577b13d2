"""The worst calls of a trace as a part of the HTML page: a tree that opens and closes without a script. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from tracer.analysis.verdict import call_name
from tracer.records import Node
from tracer.report.contents import TraceReport
from tracer.report.html_parts import text
from tracer.text import clean, figure, percentage


def calls(report: TraceReport, top: int) -> Iterator[str]:
    """The `top` worst calls; of a run that is not complete the last ones."""
    nodes = report.worst(top)
    if not nodes:
        yield '<h2>Worst calls</h2><p class="muted">No call was recorded.</p>'
        return
    if not report.complete:
        yield f"<h2>Last {len(nodes)} of {len(report.trace.nodes)} calls</h2>"
        lines = (f'<li class="call"><code>{text(call_name(n))}</code> {text(n.type)}</li>' for n in nodes)
        yield f'<ul class="tree">{"".join(lines)}</ul>'
        return
    yield f"<h2>Worst {len(nodes)} of {len(report.trace.nodes)} calls</h2>"
    told = "What each adds to the delta, in execution order; calls that hold others show the sum of all in them."
    if report.verdict.level == "holds":
        told += " Nothing here is wrong: the attributions add up, and this is what is left to rounding."
    yield f'<p class="muted">{told}</p>'
    yield worst_tree(report, nodes)


@np.errstate(over="ignore", invalid="ignore")  # a trace may hold any figures
def worst_tree(report: TraceReport, nodes: Sequence[Node]) -> str:
    """The tree of these calls and of the calls around them; a chain without branches is one line."""
    columns = report.trace.columns
    leak = report.trace.leaks(report.example)[0]
    worst = {node.id for node in nodes}
    shown = _branching(columns.parent.tolist(), worst)
    ordered = sorted(shown)
    sizes = np.abs(leak[ordered])
    largest = float(sizes[np.isfinite(sizes)].max(initial=0.0))
    total = float(np.abs(report.self_leak[np.isfinite(report.self_leak)]).sum())
    parts = ['<ul class="tree">']
    open_ends: list[int] = []
    for place, node in enumerate(ordered):
        while open_ends and node >= open_ends[-1]:
            parts.append("</ul></details></li>")
            open_ends.pop()
        above = shown[node]
        name = _name(columns.paths[node], "" if above < 0 else columns.paths[above], int(columns.call[node]))
        own = float(report.self_leak[node])
        share = f", {percentage(abs(own) / total)} of all leaks" if total and math.isfinite(own) else ""
        told = escape(f"{clean(columns.types[node], 60)}{share if node in worst else ''}")
        kind = ' class="worst"' if node in worst else ""
        row = (
            f'<span class="row"><span class="name"><code{kind}>{escape(name)}</code> '
            f'<span class="muted">{told}</span></span>{_figures(float(leak[node]), largest)}</span>'
        )
        holds = place + 1 < len(ordered) and ordered[place + 1] < columns.end[node]
        if holds:
            parts.append(f"<li><details open><summary>{row}</summary><ul>")
            open_ends.append(int(columns.end[node]))
        else:
            parts.append(f'<li class="call">{row}</li>')
    parts += ["</ul></details></li>"] * len(open_ends)
    parts.append("</ul>")
    return "".join(parts)


def _branching(parent: Sequence[int], worst: set[int]) -> dict[int, int]:
    """The calls to show, each with the shown one around it (−1: none): the worst, and where paths to several branch."""
    above: dict[int, set[int]] = {}
    for node in worst:
        child = node
        while parent[child] >= 0:
            known = parent[child] in above
            above.setdefault(parent[child], set()).add(child)
            if known:
                break
            child = parent[child]
    shown = worst | {node for node, children in above.items() if len(children) > 1}
    holder: dict[int, int] = {}
    for node in shown:
        around = parent[node]
        while around >= 0 and around not in shown:
            around = parent[around]
        holder[node] = around
    return holder


def _name(path: str, above: str, call: int) -> str:
    """The part of a path that the line above does not show."""
    if not above:
        rest = path.removeprefix("/")
    elif path.startswith((f"{above}.", f"{above}/")):
        rest = path[len(above) + 1 :]
    else:  # also a module that calls itself, whose inner call has the same path
        rest = path
    name = clean(rest) or "the model"
    return f"{name} call {call}" if call else name


def _figures(leak: float, largest: float) -> str:
    width = 100 * abs(leak) / largest if largest and math.isfinite(leak) else 0.0
    side = " down" if leak < 0 else ""
    bar = f'<i class="bar{side}" style="width:{width:.1f}%"></i>' if width else "<i></i>"
    return f'<span class="figures"><b>{figure(leak, signed=True)}</b>{bar}</span>'
