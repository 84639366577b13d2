"""The report on a trace as Markdown, to be pasted into an issue thread. Pure: a trace in, text out.

Names, texts and tokens of the trace are escaped: none acts as markup, mention, reference, link or HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tracer.analysis.ladder import headline, rule_options
from tracer.analysis.verdict import call_name
from tracer.records import Finding
from tracer.report.command_line import command_line
from tracer.report.contents import SIGNS, TraceReport, finding_facts, finding_title, repair_steps
from tracer.text import clean, figure, multiple, of_example
from tracer.tracefile.trace import Trace

CAPTUM = "meta-pytorch/captum"
_NAMES = {"model", "method", "target", "text", "reference", "not exact", "error"}
_MARKUP = re.compile(r"[\\`*_\[\]|~]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;"}
# What GitHub turns into a link or a picture, anywhere in a text: @name, #1, GH-1, a commit, :emoji:, an address.
_LINKS = re.compile(r"(@|#|:(?=[\w/+-])|\bGH-|\bwww(?=\.)|\b[0-9a-fA-F]{6}(?=[0-9a-fA-F]))", re.IGNORECASE)
_BREAK = "\u200b"


def report_markdown(trace: Trace, top: int = 10, example: int | None = None) -> str:
    """The report in GitHub's Markdown: verdict, numbers, how it was made, findings, ladder, the `top` worst calls."""
    report = TraceReport(trace, example)
    lines = [f"**{SIGNS[report.verdict.level]}.** {prose(report.headline)}", ""]
    lines += _table(("", ""), [(name, (code if name in _NAMES else prose)(value)) for name, value in report.numbers()])
    lines += _made(trace)
    lines += _findings(report)
    lines += _ladder(report)
    lines += _calls(report, top)
    return "\n".join(lines) + "\n"


def prose(text: str) -> str:
    """`text` in one line, its markup escaped."""
    text = _LINKS.sub(rf"\1{_BREAK}", clean(text))
    text = _MARKUP.sub(lambda found: f"\\{found[0]}", text)
    return re.sub(r"[&<>$]", lambda found: _ENTITIES[found[0]], text)


def code(text: str) -> str:
    """`text` in one line as a code span, in a table too."""
    text = clean(text)
    if not text:
        return ""
    if re.search(r"[`|]", text) or text != text.strip():
        # A table is cut at its pipes before code spans are seen: only entities are safe there.
        return f"<code>{re.sub(r'[^A-Za-z0-9 ]', lambda found: f'&#{ord(found[0])};', text)}</code>"
    return f"`{text}`"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: int = 0) -> Iterator[str]:
    """The lines of a table; its first `right` columns are numbers."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---:|' * right}{'---|' * (len(head) - right)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _made(trace: Trace) -> Iterator[str]:
    command = command_line(trace.run.command)
    if command:
        yield from ("```sh", command, "```", "")  # one line, which begins with the program: it holds no fence
    versions = [code(f"{name} {version}") for name, version in sorted(trace.run.versions.items())]
    if versions:
        yield from (f"Versions: {', '.join(versions)}", "")


def _findings(report: TraceReport) -> Iterator[str]:
    if not report.findings:
        return
    yield from ("#### What is wrong, causes first", "")
    for number, finding in enumerate(report.findings, 1):
        yield f"{number}. **{prose(finding_title(finding))}**"
        for name, value in finding_facts(finding, report):
            yield f"   - {name}: {_issues(finding) if name == 'see' else _fact(name, value)}"
    yield ""


def _fact(name: str, value: str) -> str:
    """Paths and lines of code as code, sentences as text."""
    if name == "where":
        path, more, rest = value.partition(" and ")
        return code(path) + prose(more + rest)
    return code(value) if name == "line" else prose(value)


def _issues(finding: Finding) -> str:
    """Links to captum's issues that work wherever the report is pasted."""
    return ", ".join(f"{CAPTUM}#{issue}" for issue in finding.issues)


def _ladder(report: TraceReport) -> Iterator[str]:
    repair = report.repair
    if not repair.counterfactuals:
        return
    yield from ("#### Repair, measured", "", prose(headline(repair)), "")
    cells = []
    for step, change, delta in repair_steps(repair):
        value, which = repair.worst_delta(delta)
        cells.append((value, multiple(repair.relative(delta)) + which, step, prose(change)))
    share = "of f(x) − f(x')" if repair.delta.size < 2 else "of f(x) − f(x'), worst example"
    yield from _table(("delta", share, "step", "change"), cells, right=2)
    if repair.rules:
        yield from (f"To confirm: {code(rule_options(repair.rules))}", "")


def _calls(report: TraceReport, top: int) -> Iterator[str]:
    nodes = report.worst(top)
    if not nodes:
        yield "No call was recorded."
        return
    if not report.complete:
        yield from (f"#### Last {len(nodes)} of {len(report.trace.nodes)} calls", "")
        lines = [(code(node.type), code(call_name(node)), code(node.source or "")) for node in nodes]
        yield from _table(("type", "call", "line"), lines)
        return
    yield from (f"#### Worst {len(nodes)} of {len(report.trace.nodes)} calls", "")
    rows = [
        (
            figure(of_example(node.self_leak, report.example), signed=True),
            figure(of_example(node.leak, report.example), signed=True),
            figure(node.gain),
            code(node.type),
            code(call_name(node)),
            code(node.source or ""),
        )
        for node in nodes
    ]
    yield from _table(("self leak", "leak", "gain", "type", "call", "line"), rows, right=3)
    yield "The self leaks of all calls sum to the delta: each row is what one call adds to it."
