"""A run that failed or is not finished has no delta: no form of its report, and no check, shows one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import tracer
from tests.synthetic import write_synthetic
from tests.test_cli import call
from tracer.analysis.compare import compare
from tracer.errors import TracerError
from tracer.records import Status
from tracer.report.comparison import diff_text
from tracer.report.comparison_data import diff_data
from tracer.report.data import report_data
from tracer.report.html import fragment, report_html
from tracer.report.markdown import report_markdown
from tracer.report.text import report_text
from tracer.tracefile.trace import Trace, open_trace

FAULT = "relu (ReLU) runs 2 times, and captum keeps one input and one output a module"


class Twice(nn.Module):
    """One ReLU that runs twice: captum ends with an error of 40 words."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.last = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.relu(self.first(self.relu(self.first(x)))))
        return out


@pytest.fixture
def failed(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    with pytest.raises(TracerError):
        tracer.record(Twice(), torch.randn(2, 4), target=1, path=tmp_path / "failed.dltrace")
    return tmp_path / "failed.dltrace"


def synthetic(path: Path, status: Status) -> Trace:
    write_synthetic(path, layers=1, status=status)
    return open_trace(path)


@pytest.mark.parametrize("status", ["failed", "recording"])
def test_no_form_shows_a_delta_or_a_leak(tmp_path: Path, status: Status) -> None:
    with synthetic(tmp_path / "run.dltrace", status) as trace:
        paths = trace.columns.paths
        count = len(paths)
        data = report_data(trace, top=3)
        text, markdown, page, short = report_text(trace), report_markdown(trace), report_html(trace), fragment(trace)
    for key in ("delta", "relative_delta", "worst_example", "self_leak_sum"):
        assert data[key] is None
    assert [node["path"] for node in data["nodes"]] == paths[-3:]
    assert {node[key] for node in data["nodes"] for key in ("leak", "self_leak", "gain")} == {None}
    assert data["findings"] == []
    for form in (text, markdown, page, short):
        told = form.partition("</style>")[2] or form  # a page of its own has a style
        assert f"{count} calls recorded, no delta" in told
        for word in ("self leak", "Flow map", "770"):
            assert word not in told
    assert f"last 10 of {count} calls" in text and f"#### Last 10 of {count} calls" in markdown
    assert f"<h2>Last {count} of {count} calls</h2>" in page
    assert not [line for line in text.splitlines() if line.startswith("delta")]
    assert "| delta |" not in markdown and "<span>delta" not in page + short


def test_the_fault_that_ended_the_run_is_said_first(failed: Path) -> None:
    with open_trace(failed) as trace:
        data, text, markdown, page = report_data(trace), report_text(trace, width=400), report_markdown(trace), ""
        page = report_html(trace)
    told = f"The run failed before its attribution was complete: {FAULT}."
    assert data["headline"] == told and data["message"].startswith("RuntimeError: A Module ReLU() was detected")
    assert text.startswith(f"UNFINISHED: {told}\n") and markdown.startswith(f"**UNFINISHED.** {told}\n")
    assert f"<p>{told}</p>" in page
    assert "error       RuntimeError: A Module ReLU() was detected" in text
    assert data["findings"][0]["kind"] == "reused-module" and len(data["nodes"]) == 6


def test_check_says_the_fault_in_one_short_sentence(failed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("check", failed, "--max-relative-delta", "1") == 2
    assert capsys.readouterr().err == (
        f"deeplift-tracer: the run in {failed} failed: {FAULT}: there is no delta to check\n"
    )


def test_a_complete_run_keeps_its_figures(tmp_path: Path) -> None:
    with synthetic(tmp_path / "run.dltrace", "complete") as trace:
        data = json.loads(json.dumps(report_data(trace)))
    assert data["delta"] == pytest.approx(-770.0, rel=1e-2) and data["nodes"][0]["self_leak"] == pytest.approx(
        -770.0, rel=1e-2
    )


@pytest.mark.parametrize("status", ["failed", "recording"])
def test_a_comparison_shows_no_delta_of_it(tmp_path: Path, status: Status) -> None:
    with synthetic(tmp_path / "a.dltrace", "complete") as a, synthetic(tmp_path / "b.dltrace", status) as b:
        comparison = compare(a, b)
        data, text = diff_data(a, b, comparison), diff_text(a, b, comparison)
    assert data["a"]["delta"] is not None and data["a"]["relative_delta"] is not None
    assert data["b"]["delta"] is None and data["b"]["relative_delta"] is None
    (row,) = (line for line in text.splitlines() if line.startswith("  delta"))
    assert row.endswith(" –")
