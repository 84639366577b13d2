"""The report on a trace as plain text for a terminal. Pure: a trace in, text out."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator

from tracer.analysis.ladder import headline, ladder_lines
from tracer.analysis.verdict import call_name, ranking_warning
from tracer.report.contents import SIGNS, TraceReport, counts, finding_facts, finding_title, panel_outputs, ranked
from tracer.text import clean, ending, figure, of_example, shorten
from tracer.tracefile.trace import Trace

_TOP_TOKENS = 5
_LABEL = 11


def report_text(trace: Trace, top: int = 10, example: int | None = None, width: int = 100) -> str:
    """The report for a terminal of `width` columns.

    Verdict and numbers, what is wrong and what to change, what was measured with other rules, the sanity panel, the
    `top` worst calls.
    """
    report = TraceReport(trace, example)
    lines = [*textwrap.wrap(f"{SIGNS[report.verdict.level]}: {report.headline}", width), ""]
    for name, value in report.numbers():
        lines += _labelled(name, value, width)
    lines += _findings(report, width)
    lines += _ladder(report, width)
    lines += _panel(trace, width)
    lines += _calls(report, top, width)
    return "\n".join(lines) + "\n"


def _findings(report: TraceReport, width: int) -> Iterator[str]:
    """What is wrong, causes first: which calls, why, what to change, and what the delta would be then."""
    if not report.findings:
        return
    yield ""
    yield "what is wrong, causes first"
    for number, finding in enumerate(report.findings, 1):
        yield from textwrap.wrap(f"{number:>3}. {finding_title(finding)}", width, subsequent_indent=" " * 5)
        for name, value in finding_facts(finding, report):
            yield from _labelled(name, value, width, 5)


def _labelled(name: str, value: str, width: int, indent: int = 0) -> list[str]:
    room = _LABEL + indent + 1
    head = f"{'':>{indent}}{name:<{_LABEL}} "
    return textwrap.wrap(f"{head}{value}", width, subsequent_indent=" " * room, break_on_hyphens=False) or [head]


def _ladder(report: TraceReport, width: int) -> Iterator[str]:
    """What was measured with other rules, or the command that measures it."""
    repair = report.repair
    if repair.counterfactuals:
        yield ""
        yield from textwrap.wrap(f"repair, measured: {headline(repair)}", width)
        yield from ladder_lines(repair, width)
    elif report.findings and report.verdict.level in ("off", "broken"):
        yield ""
        file = shlex.quote(clean(str(report.trace.path or "FILE")))
        told = f"What the delta would be after a change is not measured yet: deeplift-tracer repair {file}"
        yield from textwrap.wrap(told, width, break_long_words=False, break_on_hyphens=False)


def _panel(trace: Trace, width: int) -> Iterator[str]:
    panel = trace.run.panel
    tokens = trace.run.tokens[0] if trace.run.tokens else ()
    if panel.output:
        yield ""
        yield f"{'model output':<22} {'text':>12} {'reference':>12}"
        for label, output, reference in panel_outputs(panel):
            yield f"  {clean(label, 20):<20} {figure(output, signed=True):>12} {figure(reference, signed=True):>12}"
    if panel.rankings:
        yield ""
        yield f"{'top tokens by':<34} {'delta':>12}  tokens (attribution over its norm)"
    for ranking in panel.rankings:
        delta = "" if ranking.delta is None else figure(ranking.delta, signed=True)
        top = [f"{clean(token, 30)} {value:+.2f}" for token, _, value in ranked(ranking, tokens)[:_TOP_TOKENS]]
        while len(top) > 1 and len(", ".join(top)) > width - 49:
            top.pop()
        yield f"  {clean(ranking.name, 32):<32} {delta:>12}  {', '.join(top)}"
    for ranking in panel.rankings:
        warning = ranking_warning(ranking)
        if warning:
            yield from textwrap.wrap(f"warning: {clean(warning)}", width, initial_indent="  ", subsequent_indent="    ")
    if panel.hooks is not None:
        hooks = panel.hooks
        yield ""
        yield f"captum {clean(hooks.version)}: {hooks.summary}   ({clean(hooks.path)})"
        yield f"  hooked      {counts(hooks.hooked)}"
        yield f"  not hooked  {counts(hooks.unhooked)}"


def _calls(report: TraceReport, top: int, width: int) -> Iterator[str]:
    nodes = report.worst(top)
    yield ""
    if not nodes:
        yield "no call was recorded"
        return
    total = len(report.trace.nodes)
    if not report.complete:
        yield f"{'type':<12} last {len(nodes)} of {total} calls"
        for node in nodes:
            name = ending(call_name(node), max(width - 13, 24))
            yield f"{shorten(clean(node.type), 12):<12} {name}"
        return
    yield f"{'self leak':>12} {'leak':>12} {'gain':>8}  {'type':<12} worst {len(nodes)} of {total} calls"
    for node in nodes:
        own, whole = of_example(node.self_leak, report.example), of_example(node.leak, report.example)
        room = max(width - 50, 24)
        yield (
            f"{figure(own, signed=True):>12} {figure(whole, signed=True):>12} {figure(node.gain):>8}  "
            f"{shorten(clean(node.type), 12):<12} {ending(call_name(node), room)}"
        )
        if node.source:
            yield f"{'':>50}{ending(clean(node.source), room)}"
