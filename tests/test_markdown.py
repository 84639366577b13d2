"""The Markdown report says what the text report says, and nothing in it that comes from a trace takes effect."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests.synthetic import synthetic_run, write_synthetic
from tests.test_report import BLAMED, VICTIM, memory_trace, with_delta
from tests.test_rows import node
from tracer.records import Counterfactual, HookReport, Panel, Ranking
from tracer.report import contents
from tracer.report.markdown import code, prose, report_markdown
from tracer.text import clean
from tracer.tracefile.amend import amend
from tracer.tracefile.trace import Trace

# As GitHub reads it, as far as markup goes: HTML is taken as it is, tables are cut at their pipes.
GITHUB = MarkdownIt("commonmark").enable("table").enable("strikethrough")
EVIL = (
    "*b* _i_ **s** `c` ``d`` ~~e~~ [l](http://evil.example) ![p](x) <script>alert(1)</script> <img src=x onerror=y> "
    "@maintainer me@mail.example org/repo#12 #1 GH-3 deadbeefcafe :tada: www.evil.example https://evil.example "
    " and @you *b* | cell | \\| \\\\ $math$ &lt; &#64; &amp; # head"
)
LINES = "\n# head\n\n- item\n\n```\nfence\n```\n\n| a |\n|---|\n"
# What GitHub acts on in any text that is not code: names, numbers of issues, commits, pictures, addresses.
ACTIVE = re.compile(r"@\w|#\d|GH-\d|:\w+:|://|www\.|\b[0-9a-f]{7,40}\b", re.IGNORECASE)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.text(
    "|\\`*_<>&#@[]()!~:$ aA1-\n", max_size=20
)


def outside_code(page: str) -> str:
    """The text of a page without its code and its tags."""
    return html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<(code|pre)\b.*?</\1>", "", page, flags=re.DOTALL)))


@given(texts)
@example("&lt; &#64; &amp;")
@example("a | b")
def test_prose_is_read_as_it_was_given_also_in_a_table(text: str) -> None:
    line = "x" + prose(text) + "x"
    (cell,) = re.findall(r"<td>(.*?)</td>", GITHUB.render(f"| a |\n|---|\n| {line} |\n"), flags=re.DOTALL)
    for page in (GITHUB.renderInline(line), cell):
        assert html.unescape(page).replace("\u200b", "") == "x" + clean(text).replace("\u200b", "") + "x"
        assert "<" not in page


@given(texts.filter(lambda text: clean(text).strip()))
@example(" a ")
def test_code_is_read_as_it_was_given_also_in_a_table(text: str) -> None:
    page = GITHUB.render(f"| a | b |\n|---|---|\n| {code(text)} | end |\n")
    cells = re.findall(r"<td>(.*?)</td>", page, flags=re.DOTALL)
    assert len(cells) == 2 and cells[1] == "end"
    found = re.fullmatch(r"<code>(.*)</code>", cells[0], flags=re.DOTALL)
    assert found is not None and html.unescape(found[1]) == clean(text)
    assert "<" not in found[1]


def evil_trace(monkeypatch: pytest.MonkeyPatch, evil: str) -> Trace:
    """A trace in which everything that can be a text is `evil`."""
    blamed = replace(BLAMED, kind=evil, path=evil, source=evil, message=evil, advice=evil, delta_after=1.0)
    victim = replace(VICTIM, kind=evil, path=evil, message=evil, advice=evil, caused_by=evil)
    monkeypatch.setattr(contents, "diagnose", lambda trace, example=None: (blamed, victim))
    hooks = HookReport(evil, evil, {evil: 1}, {evil: 2})
    command = json.dumps({"model": evil, "text": evil, "rules": [evil], evil: evil})
    run = replace(
        with_delta(-8.0), model=evil, method=evil, variant=evil, target=evil, text=evil, reference=evil, message=evil,
        versions={evil: evil}, command=command, rulebook=evil, started=evil, tokens=((evil, "b"),),
        panel=Panel((1.0,), (0.0,), (evil,), (Ranking(evil, (1.0,), 1.0, 1.0, evil),), hooks),
    )  # fmt: skip
    nodes = (node(end=2, path="", type=evil), node(1, path=evil, type=evil, source=evil, self_leak=np.array([-8.0])))
    trace = memory_trace(run, *nodes, attributions=np.ones((1, 2, 1)))
    change = Counterfactual(0, f"{evil} exact", evil, (f"{evil}=exact",), np.array([0.5]), np.zeros(2), 0.25)
    amend(trace, counterfactuals=(change, replace(change, step=1)))
    return trace


@pytest.mark.parametrize("evil", [EVIL, LINES + EVIL, EVIL.replace("`", "")])
def test_nothing_of_a_trace_takes_effect(monkeypatch: pytest.MonkeyPatch, evil: str) -> None:
    markdown = report_markdown(evil_trace(monkeypatch, evil))
    page = GITHUB.render(markdown)
    tags = {tag for tag in re.findall(r"<(\w+)", page)}
    assert tags <= {"p", "strong", "table", "thead", "tbody", "tr", "th", "td", "code", "pre", "h4", "ol", "ul", "li"}
    told = outside_code(page)
    meant = {found[0] for found in re.finditer(r"meta-pytorch/captum#\d+", told)}
    assert meant == {"meta-pytorch/captum#351", "meta-pytorch/captum#1082"}
    assert not ACTIVE.findall(re.sub(r"meta-pytorch/captum#\d+", "", told))
    rows = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert len(page.split("<tr>")) - 1 == len(rows)  # no name opens or ends a row, or a table


def test_dollars_make_no_formula() -> None:
    assert "$" not in prose("$a$") and html.unescape(GITHUB.renderInline(prose("$a$"))) == "$a$"


def test_the_report_has_versions_command_numbers_findings_ladder_and_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "diagnose", lambda trace, example=None: (replace(BLAMED, delta_after=0.5), VICTIM))
    run = replace(
        with_delta(-8.0), command='{"model": "mine", "text": "hi"}', versions={"torch": "2.13", "captum": "0.9"}
    )
    trace = memory_trace(
        run, node(end=2, self_leak=np.array([-7.5])), node(1, source="a.py:3 f", self_leak=np.array([-0.5]))
    )
    change = Counterfactual(0, "softmax exact (6 calls)", "softmax", ("softmax=exact",), np.array([0.5]), np.zeros(2))
    amend(trace, counterfactuals=(change, replace(change, step=1)))
    text = report_markdown(trace, top=2)
    for line in (
        "| model | `synthetic` |",
        "| delta | -8   400 % of f(x) - f(x') |",
        "deeplift-tracer trace mine --text hi",
        "Versions: `captum 0.9`, `torch 2.13`",
        "1. **unseen-op: 95 % of all leaks**",
        "   - where: `p0` and 1 more call",
        "   - line: `model.py:7 forward`",
        "   - change: make it a module",
        "   - then: the delta is +0.5 instead of -8, measured",
        "   - see: meta-pytorch/captum#351, meta-pytorch/captum#1082",
        "2. **linearised-norm: 5 % of all leaks, caused by unseen-op**",
        "| -8 | 400 % | 0 | as recorded |",
        "| +0.5 | 25 % | 1 | softmax exact (6 calls) |",
        "| +0.5 | 25 % |  | softmax exact (6 calls), alone |",
        "To confirm: `--rule softmax=exact`",
        "#### Worst 2 of 2 calls",
        "| -7.5 | 0 | 1 | `T` | `p0` |  |",
        "| -0.5 | 0 | 1 | `T` | `p1` | `a.py:3 f` |",
    ):
        assert line in text.splitlines(), line
    assert text.startswith("**BROKEN.** Do not read these attributions: the delta is -8, 400 % of the output's change")
    page = GITHUB.render(text)
    assert page.count("<table>") == 3 and page.count("<li>") == 2 + 6 + 3


def test_a_trace_without_calls_or_findings_has_a_report_too() -> None:
    text = report_markdown(memory_trace(replace(synthetic_run(tokens=False, status="failed"), panel=Panel())))
    assert text.startswith("**UNFINISHED.** The run failed before its attribution was complete: it failed on purpose")
    assert "No call was recorded." in text and "Repair" not in text


def test_top_and_example_are_heeded() -> None:
    trace = write_synthetic(None, layers=1, examples=2).trace()
    assert "#### Worst 3 of 20 calls" in report_markdown(trace, top=3)
    assert "| examples | example 1 of 2 (0 to 1) |" in report_markdown(trace, example=1)
