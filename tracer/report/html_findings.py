"""What is wrong, and what was measured with other rules, as parts of the HTML page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from tracer.analysis.ladder import headline, rule_options
from tracer.records import Finding
from tracer.report.contents import TraceReport, finding_facts, finding_title, repair_steps
from tracer.report.html_parts import text, value_list
from tracer.text import multiple

_ISSUES = "https://github.com/meta-pytorch/captum/issues/"
_FRAGMENT_FINDINGS = 3


def findings(report: TraceReport) -> Iterator[str]:
    """All findings, causes first."""
    if report.findings:
        yield "<h2>What is wrong, causes first</h2>"
        yield f'<ol class="findings">{"".join(_finding(report, finding) for finding in report.findings)}</ol>'


def first_causes(report: TraceReport) -> Iterator[str]:
    """The first findings that are causes of their own, and how many more there are."""
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
    return f"<li{kind}><h3>{escape(finding_title(finding))}</h3>{value_list(rows)}</li>"


def ladder(report: TraceReport) -> Iterator[str]:
    """What was measured with other rules: a table with a bar for each delta."""
    repair = report.repair
    if not repair.counterfactuals:
        return
    yield f"<h2>Repair, measured</h2><p>{text(headline(repair))}</p>"
    rows = repair_steps(repair)
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
    """A bar of up to 10 em on a logarithmic scale."""
    known = [each for each in shares if 0 < each < math.inf]
    if not known or not 0 < share < math.inf:
        return ""
    least, most = math.log10(min(known)) - 0.5, math.log10(max(known))
    return f'<span class="bar" style="width:{10 * (math.log10(share) - least) / (most - least):.2f}em"></span>'
