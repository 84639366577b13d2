"""The report on a trace as one HTML page that needs nothing else, and as a fragment for notebooks. Pure.

Everything that comes from the trace is escaped, and the page forbids itself scripts and requests.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from html import escape
from pathlib import Path

from tracer.analysis.flow_map import flow_map
from tracer.analysis.ladder import headline, rule_options
from tracer.analysis.verdict import call_name, changes, ranking_warning, relative_deltas, worst_example
from tracer.errors import InputError
from tracer.records import Finding
from tracer.report.command_line import command_line
from tracer.report.contents import SIGNS, TraceReport, ranked, token_attributions
from tracer.report.flow_svg import NEGATIVE, POSITIVE, flow_svg
from tracer.report.html_tree import worst_tree
from tracer.report.text import counts, finding_facts, finding_title
from tracer.text import clean, figure, multiple
from tracer.tracefile.trace import Trace

_ISSUES = "https://github.com/meta-pytorch/captum/issues/"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_FRAGMENT_CALLS = 8
_FRAGMENT_FINDINGS = 3
_MOST_TOKENS = 5_000
_STRONGEST = 0.6
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
        *_findings(report),
        *_ladder(report),
        *_flow(report),
        *_tokens(report),
        *_calls(report, top),
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

    Its style holds inside it only; colours are those of the notebook.
    """
    report = TraceReport(trace)
    parts = [
        *_verdict(report),
        *_numbers(report),
        *_causes(report),
        *_flow(report),
        *_calls(report, _FRAGMENT_CALLS),
    ]
    return f'<div class="dltrace"><style>{_style()}</style>\n' + "\n".join(parts) + "\n</div>"


def text(value: str) -> str:
    """`value` in one line of which nothing is HTML."""
    return escape(clean(value))


@cache
def _style() -> str:
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def _verdict(report: TraceReport) -> Iterator[str]:
    judged = report.verdict
    yield (
        f'<div class="verdict {judged.level}"><b>{SIGNS[judged.level]}</b><p>{text(report.headline)}</p></div>'
    )  # fmt: skip


def _numbers(report: TraceReport) -> Iterator[str]:
    run = report.trace.run
    shown = ("model", "method", "target", "text", "reference", "examples", "not exact", "error", "got to")
    rows = _list([(name, escape(value)) for name, value in report.numbers() if name in shown])
    if not report.complete:
        yield rows
        return
    delta, change, name = report.delta, report.change, "delta"
    if run.examples > 1 and report.example is None:  # as the verdict: in their sum deltas may cancel
        worst = worst_example(relative_deltas(run))
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


def _list(rows: Sequence[tuple[str, str]]) -> str:
    """A list of names and values; the values are HTML."""
    return "<dl>" + "".join(f'<dt>{escape(name)}</dt><dd class="{name}">{value}</dd>' for name, value in rows) + "</dl>"


def _findings(report: TraceReport) -> Iterator[str]:
    if report.findings:
        yield "<h2>What is wrong, causes first</h2>"
        yield f'<ol class="findings">{"".join(_finding(report, finding) for finding in report.findings)}</ol>'


def _causes(report: TraceReport) -> Iterator[str]:
    """The first findings that are causes of their own."""
    causes = [finding for finding in report.findings if not finding.caused_by]
    if causes:
        yield "<h2>What is wrong, causes first</h2>"
        shown = causes[:_FRAGMENT_FINDINGS]
        yield f'<ol class="findings">{"".join(_finding(report, finding) for finding in shown)}</ol>'
        left = len(report.findings) - len(shown)
        yield f'<p class="muted">{left} more in tracer.diagnose(trace)</p>' if left else ""


def _finding(report: TraceReport, finding: Finding) -> str:
    rows = []
    for name, value in finding_facts(finding, report):
        if name == "see":
            links = (f'<a href="{_ISSUES}{int(issue)}">captum #{int(issue)}</a>' for issue in finding.issues)
            rows.append((name, ", ".join(links)))
        else:
            rows.append((name, f"<code>{escape(value)}</code>" if name in ("where", "line") else escape(value)))
    kind = ' class="symptom"' if finding.caused_by else ""
    return f"<li{kind}><h3>{escape(finding_title(finding))}</h3>{_list(rows)}</li>"


def _ladder(report: TraceReport) -> Iterator[str]:
    repair = report.repair
    if not repair.counterfactuals:
        return
    yield f"<h2>Repair, measured</h2><p>{text(headline(repair))}</p>"
    rows = [("0", "as recorded", repair.delta), *((str(r.step), r.change, r.delta) for r in repair.ladder)]
    rows += [("", f"{single.change}, alone", single.delta) for single in repair.singles]
    shares = [repair.relative(delta) for _, _, delta in rows]
    yield '<div class="scroll"><table><tr><th>step</th><th>change, on top of those before it</th>'
    of = "of f(x) − f(x′)" if repair.delta.size < 2 else "of f(x) − f(x′), worst example"
    yield f'<th class="right">delta</th><th class="right">{of}</th>'
    yield '<th class="wide">on a logarithmic scale</th></tr>'
    for (step, change, delta), share in zip(rows, shares, strict=True):
        value, which = repair.worst_delta(delta)
        yield (
            f'<tr><td>{step}</td><td>{text(change)}</td><td class="right">{value}</td>'
            f'<td class="right">{multiple(share)}{which}</td><td class="wide">{_log_bar(share, shares)}</td></tr>'
        )
    yield "</table></div>"
    if repair.rules:
        yield f"<p>To confirm: <code>{text(rule_options(repair.rules))}</code></p>"


def _log_bar(share: float, shares: Sequence[float]) -> str:
    """A bar of up to 10 em: a decade is as long wherever it is."""
    known = [each for each in shares if 0 < each < math.inf]
    if not known or not 0 < share < math.inf:
        return ""
    least, most = math.log10(min(known)) - 0.5, math.log10(max(known))
    return f'<span class="bar" style="width:{10 * (math.log10(share) - least) / (most - least):.2f}em"></span>'


def _flow(report: TraceReport) -> Iterator[str]:
    if not report.complete:
        return
    example = report.example or 0
    try:
        flow = flow_map(report.trace, example)
    except InputError as error:
        yield f'<h2>Flow map</h2><p class="muted">{text(str(error))}</p>'
        return
    paths = [report.trace.columns.paths[node] or "the model's input" for node in flow.nodes]
    which = f" Example {example} of {report.trace.run.examples}." if report.trace.run.examples > 1 else ""
    change = float(changes(report.trace.run)[example])
    yield (
        "<h2>Flow map</h2><p>What each token carries of the output's change after each layer, from the input down to "
        f"the output. A row should sum to {figure(change, signed=True)}; its sum stands behind it.{which}</p>"
    )
    yield f'<div class="scroll">{flow_svg(flow, paths)}</div>'
    yield f'<p class="muted">Colours are relative to each row\'s largest: {_key(POSITIVE, "+")} adds to the output, '
    yield f"{_key(NEGATIVE, '−')} takes from it.</p>"


def _key(colour: str, sign: str) -> str:
    return f'<span style="background:{colour};padding:0 .35em;border-radius:2px">{sign}</span>'


def _tokens(report: TraceReport) -> Iterator[str]:
    rows: dict[int, list[tuple[str, float]]] = {}
    for index, token, value in token_attributions(report.trace, report.example):
        rows.setdefault(index, []).append((token, value))
    if not rows:
        return
    yield "<h2>Tokens</h2>"
    left = _MOST_TOKENS
    for index, row in rows.items():
        if left <= 0:
            yield f'<p class="muted">Examples from {index} on are left out.</p>'
            return
        if len(rows) > 1:
            yield f"<h3>example {index}</h3>"
        known = [abs(value) for _, value in row if math.isfinite(value)]
        largest = max(known, default=0.0)
        cells = [_token(token, value, largest) for token, value in row[:left]]
        yield f'<p class="tokens">{"".join(cells)}</p>'
        left -= len(cells)


def _token(token: str, value: float, largest: float) -> str:
    strength = _STRONGEST * abs(value) / largest if largest and math.isfinite(value) else 0.0
    red, green, blue = (int((POSITIVE if value > 0 else NEGATIVE)[at : at + 2], 16) for at in (1, 3, 5))
    style = f' style="background:rgba({red},{green},{blue},{strength:.2f})"' if strength else ""
    told = "" if math.isnan(value) else figure(float(f"{value:.2g}"), signed=True)
    return f"<span{style}>{text(token) or '&nbsp;'}<small>{told}</small></span>"


def _calls(report: TraceReport, top: int) -> Iterator[str]:
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
    told = "What each adds to the delta, in the order of the data; calls that hold others show the sum of all in them."
    if report.verdict.level == "holds":
        told += " Nothing here is wrong: the attributions add up, and this is what is left to rounding."
    yield f'<p class="muted">{told}</p>'
    yield worst_tree(report, nodes)


def _panel(trace: Trace) -> Iterator[str]:
    panel = trace.run.panel
    tokens = trace.run.tokens[0] if trace.run.tokens else ()
    if not (panel.output or panel.rankings or panel.hooks):
        return
    yield "<h2>Sanity panel</h2>"
    if panel.output:
        labels = [*panel.labels, *map(str, range(len(panel.labels), len(panel.output)))]
        yield '<div class="scroll"><table><tr><th>model output</th><th class="right">text</th>'
        yield '<th class="right">reference</th></tr>'
        for label, output, reference in zip(labels, panel.output, panel.output_reference, strict=False):
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
        yield _list([("hooked", escape(counts(hooks.hooked))), ("not hooked", escape(counts(hooks.unhooked)))])


def _made(trace: Trace) -> Iterator[str]:
    run = trace.run
    yield "<h2>How it was made</h2>"
    command = command_line(run.command)
    if command:
        yield f"<pre>{escape(command)}</pre>"
    versions = ", ".join(f"{name} {version}" for name, version in sorted(run.versions.items()))
    rows = [("started", run.started), ("rulebook", run.rulebook), ("capture", run.capture), ("versions", versions)]
    yield _list([(name, text(value)) for name, value in rows if value])
