"""The report on a trace as one HTML page that needs nothing else, and as a fragment for notebooks. Pure.

Everything that comes from the trace is escaped; the page's policy forbids scripts and requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from html import escape
from pathlib import Path

from tracer.analysis.verdict import changes, ranking_warning
from tracer.report.command_line import command_line
from tracer.report.contents import SIGNS, TraceReport, counts, panel_outputs, ranked
from tracer.report.html_findings import findings, first_causes, ladder
from tracer.report.html_parts import text, value_list
from tracer.report.html_tokens import flow, tokens
from tracer.report.html_tree import calls
from tracer.text import figure, multiple
from tracer.tracefile.trace import Trace

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_FRAGMENT_CALLS = 8
_PAGE = """\
:root { color-scheme: light dark; }
body { margin: 0; background: #fff; color: #1f2328; }
main { max-width: 75rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font: 600 1.35rem/1.3 system-ui, sans-serif; margin: 0 0 1rem; overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) { body { background: #0f1318; color: #e4e8ee; } }
"""


def report_html(trace: Trace, top: int = 25, example: int | None = None) -> str:
    """One page: verdict, findings, measured repairs, flow map, tokens, the `top` worst calls as a tree, the panel."""
    report = TraceReport(trace, example)
    name = text(trace.run.model or "a model")
    sections = [
        *_verdict(report),
        *_numbers(report),
        *findings(report),
        *ladder(report),
        *flow(report),
        *tokens(report),
        *calls(report, top),
        *_panel(trace),
        *_made(trace),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>DeepLIFT trace: {name}</title>\n<style>\n{_PAGE}{_style()}</style>\n</head>\n<body>\n"
        f'<main class="dltrace">\n<h1>DeepLIFT trace: {name}</h1>\n'
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def fragment(trace: Trace) -> str:
    """The short form for a notebook's cell: verdict, numbers, flow map, worst calls, the first findings.

    Its style applies to itself only; colours are those of the notebook.
    """
    report = TraceReport(trace)
    parts = [
        *_verdict(report),
        *_numbers(report),
        *first_causes(report),
        *flow(report),
        *calls(report, _FRAGMENT_CALLS),
    ]
    return f'<div class="dltrace"><style>{_style()}</style>\n' + "\n".join(parts) + "\n</div>"


@cache
def _style() -> str:
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def _verdict(report: TraceReport) -> Iterator[str]:
    judged = report.verdict
    yield f'<div class="verdict {judged.level}"><b>{SIGNS[judged.level]}</b><p>{text(report.headline)}</p></div>'


def _numbers(report: TraceReport) -> Iterator[str]:
    run = report.trace.run
    shown = ("model", "method", "target", "text", "reference", "examples", "not exact", "error", "got to")
    rows = value_list([(name, escape(value)) for name, value in report.numbers() if name in shown])
    if not report.complete:
        yield rows
        return
    delta, change, name = report.delta, report.change, "delta"
    if run.examples > 1 and report.example is None:  # as the verdict: in their sum deltas may cancel
        worst = report.judged_example
        delta, change = float(run.delta[worst]), float(changes(run)[worst])
        name = f"delta in example {worst}"
    cards = [
        (name, figure(delta, signed=True)),
        ("of the output's change", multiple(abs(delta) / abs(change)) if change else "–"),
        ("f(x)", figure(report.figure(run.output))),
        ("f(x′)", figure(report.figure(run.output_reference))),
        ("calls", figure(float(len(report.trace.nodes)))),
    ]
    yield '<div class="cards">' + "".join(_card(name, value) for name, value in cards) + "</div>"
    yield rows


def _card(name: str, value: str) -> str:
    return f'<div class="card"><span>{escape(name)}</span><b>{escape(value)}</b></div>'


def _panel(trace: Trace) -> Iterator[str]:
    panel = trace.run.panel
    tokens = trace.run.tokens[0] if trace.run.tokens else ()
    if not (panel.output or panel.rankings or panel.hooks):
        return
    yield "<h2>Sanity panel</h2>"
    if panel.output:
        yield '<div class="scroll"><table><tr><th>model output</th><th class="right">text</th>'
        yield '<th class="right">reference</th></tr>'
        for label, output, reference in panel_outputs(panel):
            yield f'<tr><td>{text(label)}</td><td class="right">{figure(output, signed=True)}</td>'
            yield f'<td class="right">{figure(reference, signed=True)}</td></tr>'
        yield "</table></div>"
    if panel.rankings:
        yield '<div class="scroll"><table><tr><th>top tokens by</th><th class="right">delta</th><th>tokens</th></tr>'
        for ranking in panel.rankings:
            delta = "" if ranking.delta is None else figure(ranking.delta, signed=True)
            best = ", ".join(f"{text(token)} {value:+.2f}" for token, _, value in ranked(ranking, tokens)[:8])
            yield f'<tr><td>{text(ranking.name)}</td><td class="right">{delta}</td><td>{best}</td></tr>'
        yield "</table></div>"
        warnings = [warning for ranking in panel.rankings if (warning := ranking_warning(ranking))]
        yield "".join(f"<p>Warning: {text(warning)}</p>" for warning in warnings)
    if panel.hooks is not None:
        hooks = panel.hooks
        yield f"<p>captum {text(hooks.version)}: {text(hooks.summary)}.</p>"
        yield value_list([("hooked", escape(counts(hooks.hooked))), ("not hooked", escape(counts(hooks.unhooked)))])


def _made(trace: Trace) -> Iterator[str]:
    run = trace.run
    yield "<h2>How it was made</h2>"
    command = command_line(run.command)
    if command:
        yield f"<pre>{escape(command)}</pre>"
    versions = ", ".join(f"{name} {version}" for name, version in sorted(run.versions.items()))
    rows = [("started", run.started), ("rulebook", run.rulebook), ("capture", run.capture), ("versions", versions)]
    yield value_list([(name, text(value)) for name, value in rows if value])
