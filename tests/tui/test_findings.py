"""The diagnosis as a list and in full, and its screen."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.synthetic import write_synthetic
from tests.tui.builders import EVIL, figures
from tests.tui.test_app import SIZES, run, shown, text_of
from tests.tui.test_panes import check_within
from tests.tui.test_panes import text_of as words_of
from tracer.analysis.verdict import Verdict
from tracer.records import Finding
from tracer.tracefile.trace import Trace, open_trace
from tui.lines import findings as finding_lines
from tui.lines.findings import ListedFinding, entries
from tui.screens.findings import FindingsScreen
from tui.screens.layers import LayersScreen

TREE = figures([-1, 0, 0, 0], [0.0, -525.0, 40.0, 3.0], paths=["", "a.softmax", "a.norm", "a/matmul"])


def finding(kind: str, share: float = 0.5, node: int | None = 1, caused_by: str = "", **fields: Any) -> Finding:
    given: dict[str, Any] = {
        "path": "" if node is None else ("", "a.softmax", "a.norm", "a/matmul")[node % 4],
        "call": 0,
        "source": "model.py:7",
        "message": f"{kind}: 6 calls leak -525.0",
        "advice": "make it exact",
        "nodes": () if node is None else (node,),
    }
    return Finding(kind, node, share=share, caused_by=caused_by, **(given | fields))


def kinds(found: tuple[ListedFinding, ...]) -> list[tuple[str, int]]:
    return [(entry.finding.kind, entry.depth) for entry in found]


def test_a_symptom_stands_under_its_cause() -> None:
    found = entries(
        [finding("norm", caused_by="softmax"), finding("softmax"), finding("own"), finding("deep", caused_by="norm")]
    )
    assert kinds(found) == [("softmax", 0), ("norm", 1), ("deep", 2), ("own", 0)]


def test_no_finding_is_lost_whatever_causes_say() -> None:
    circle = [finding("a", caused_by="b"), finding("b", caused_by="a"), finding("c", caused_by="nobody")]
    assert sorted(kinds(entries(circle))) == [("a", 0), ("b", 0), ("c", 0)]
    assert kinds(entries([finding("a", caused_by="a")])) == [("a", 0)]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["", *"abcde"])), max_size=8))
def test_every_finding_is_listed_once(pairs: list[tuple[str, str]]) -> None:
    given_findings = [finding(kind, caused_by=cause, call=index) for index, (kind, cause) in enumerate(pairs)]
    found = [entry.finding for entry in entries(given_findings)]
    assert sorted(each.call for each in found) == list(range(len(pairs)))
    for entry in entries(given_findings):
        assert entry.depth == 0 or entry.finding.caused_by


@given(st.integers(24, 220), st.integers(0, 6), st.sampled_from([0.0, 0.03, 0.62, 1.0, math.nan, math.inf]))
def test_a_line_is_exactly_as_wide_as_the_screen(width: int, depth: int, share: float) -> None:
    for name in ("softmax-normalised", EVIL, "世界" * 30):
        line = finding_lines.row(ListedFinding(finding(name, share, path=EVIL, delta_after=-2.4), depth), width)
        assert cell_len("".join(text for text, _ in line)) == width
    assert cell_len("".join(text for text, _ in finding_lines.heading(width))) == width


def test_a_line_says_kind_place_share_calls_and_the_delta_after() -> None:
    line = words_of(
        [finding_lines.row(ListedFinding(finding("softmax", 0.62, nodes=(1, 2, 3), delta_after=-2.4), 0), 120)]
    )
    for part in ("◆ softmax  a.softmax", "██████ ", "62 %", " 3 ", "-2.400"):
        assert part in line, part
    under = words_of([finding_lines.row(ListedFinding(finding("norm", math.nan, None), 1), 120)])
    assert under.startswith("◇   └ norm  the whole run") and under.count(" -") == 3


def test_a_finding_in_full() -> None:
    full = finding(
        "softmax-normalised",
        issues=(519, 1367),
        nodes=(1, 2),
        evidence=(("largest secant", 5900.0), ("gain", 442.0)),
        caused_by="exploding-secant",
        delta_after=-2.4,
    )
    text = words_of(finding_lines.finding_lines(full, TREE, -525.0, 100))
    for part in (
        "softmax-normalised: 6 calls leak -525.0",
        "change     make it exact",
        "delta      -525.0 → -2.400, measured",
        "caused by  exploding-secant",
        "look at    a.softmax",
        "source     model.py:7",
        "issues     captum #519, captum #1367",
        "largest secant  5900",
        "gain            442",
        "2 calls, worst first",
        "-525.0 a.softmax",
        "+40.00 a.norm",
    ):
        assert part in text, part
    assert "measured" not in words_of(finding_lines.finding_lines(finding("k"), TREE, 1.0, 100))


@pytest.mark.parametrize("width", [24, 38, 60, 100, 160])
def test_a_finding_keeps_within_its_width_and_is_printable(width: int) -> None:
    evil = finding(
        EVIL * 3, math.nan, message=EVIL * 9, advice=EVIL, source=EVIL, caused_by=EVIL, evidence=((EVIL, 1.0),)
    )
    check_within(finding_lines.finding_lines(evil, TREE, math.inf, width), width)


def test_nothing_to_report_comes_with_a_reason(trace: Trace) -> None:
    def reason(level: Any, problem: str = "") -> str:
        verdict = Verdict(level, "The run failed: no such layer.", 1e-7, None, math.nan)
        return " ".join(words_of(finding_lines.nothing_lines(trace.run, verdict, problem, 60)).split())

    assert reason("holds").startswith("Nothing to report: the attributions add up (relative delta 1e-05 %")
    assert "no known fault explains the delta" in reason("broken")
    assert reason("unfinished") == "Nothing to report: The run failed: no such layer."
    assert reason("holds", "it is damaged") == "No diagnosis: it is damaged"


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    path = tmp_path_factory.mktemp("traces") / "findings.dltrace"
    write_synthetic(path, layers=2, ops_per_layer=8)
    return open_trace(path)


FOUND = (
    finding("softmax-normalised", 0.9, 4),
    finding("linearised-norm", 0.1, 7, caused_by="softmax-normalised"),
    finding("shared-extras", math.nan, None),
)


def given_findings(pilot: Any) -> None:
    """Findings as if diagnosed: what is diagnosed of a trace is tested elsewhere."""
    pilot.app.session.__dict__["findings"] = FOUND


@pytest.mark.parametrize("size", SIZES)
def test_the_list_leads_to_the_calls(trace: Trace, size: tuple[int, int]) -> None:
    async def story() -> None:
        async with shown(trace, size) as pilot:
            given_findings(pilot)
            await pilot.press("5")
            screen = pilot.app.screen
            assert isinstance(screen, FindingsScreen) and "softmax-normalised" in text_of(pilot)
            await pilot.press("tab")
            assert screen.full.has_focus and "make it exact" in text_of(pilot)
            await pilot.press("tab", "j")
            assert screen.line_list.has_focus and screen.line_list.cursor == 1
            await pilot.press("enter")
            assert isinstance(pilot.app.screen, LayersScreen) and pilot.app.screen.layer_tree.selected == 7
            await pilot.press("5", "G", "enter")
            assert pilot.app.screen is screen, "a finding about the whole run has no call"

    run(story)


def test_a_click_selects_and_a_second_goes_to_the_call(trace: Trace) -> None:
    async def story() -> None:
        async with shown(trace) as pilot:
            given_findings(pilot)
            await pilot.press("5")
            await pilot.click("#list", offset=(8, 3))
            assert pilot.app.screen.line_list.cursor == 1  # type: ignore[attr-defined]
            await pilot.click("#list", offset=(8, 3))
            assert isinstance(pilot.app.screen, LayersScreen) and pilot.app.screen.layer_tree.selected == 7

    run(story)


def test_without_findings_there_is_a_reason_and_no_crash(tmp_path: Path) -> None:
    async def story() -> None:
        write_synthetic(tmp_path / "f.dltrace", layers=1, status="failed")
        async with shown(open_trace(tmp_path / "f.dltrace"), (80, 24)) as pilot:
            pilot.app.session.__dict__["findings"] = ()
            await pilot.press("5")
            assert "Nothing to report" in text_of(pilot) and "it failed on purpose" in text_of(pilot)
            for key in ("enter", "tab", "j", "G", "pageup"):
                await pilot.press(key)
            assert isinstance(pilot.app.screen, FindingsScreen)

    run(story)
