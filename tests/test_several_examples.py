"""Where deltas of a batch cancel in their sum, the words are about the worst example, and say which one it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.diagnose.minimal import CASES
from tests.synthetic import synthetic_run
from tests.test_report import memory_trace, with_delta
from tests.test_rows import node
from tracer.analysis.ladder import headline, ladder_lines, stored_repair
from tracer.diagnosis.faults import diagnose
from tracer.records import Counterfactual
from tracer.report.data import report_data
from tracer.report.html import report_html
from tracer.report.markdown import report_markdown
from tracer.report.text import report_text
from tracer.text import figure
from tracer.tracefile.amend import amend
from tracer.tracefile.trace import Trace


def change(pattern: str, *delta: float, step: int = 0) -> Counterfactual:
    return Counterfactual(step, f"{pattern} exact", pattern, (f"{pattern}=exact",), np.array(delta), np.zeros(1))


@pytest.fixture
def trace() -> Trace:
    """Deltas of +1 and −1.0001, that sum to almost nothing; a rung that leaves the other example as the worst."""
    leak = np.array([1.0, -1.0001])
    trace = memory_trace(with_delta(1.0, -1.0001), node(leak=leak, self_leak=leak))
    amend(trace, counterfactuals=[change("gelu", 0.5, 0.25), change("softmax", 1e-4, -1e-5, step=1)])
    return trace


def test_the_headline_of_a_repair_pairs_a_delta_with_its_own_share(trace: Trace) -> None:
    assert headline(stored_repair(trace)) == (
        "1 change brings the delta from -1 in example 1 to +0.0001 in example 0, 0.005 % of the output's change: "
        "softmax exact."
    )


def test_the_ladder_shows_the_worst_example_of_each_rung(trace: Trace) -> None:
    lines = list(ladder_lines(stored_repair(trace), 100))
    assert [line.split()[-6:] for line in lines[1:3]] == [
        ["-1", "50", "%", "in", "example", "1"],
        ["+0.0001", "0.005", "%", "in", "example", "0"],
    ]
    assert {len(line) for line in lines[:3]} == {98}
    assert lines[3] == "delta with one change alone: gelu +0.5 in example 0"
    assert "| +0.0001 | 0.005 % in example 0 | 1 | softmax exact |" in report_markdown(trace).splitlines()
    assert '<td class="right">+0.0001</td><td class="right">0.005 % in example 0</td>' in report_html(trace)


def test_the_numbers_name_the_worst_example(trace: Trace) -> None:
    assert "-0.0001   0.0025 % of f(x) - f(x') in sum; -1 in example 1, the worst" in report_text(trace)
    assert "<span>delta in example 1</span><b>-1</b>" in report_html(trace)
    alone = report_text(trace, example=0)
    assert "in sum; " not in alone and "delta       +1   50 % of f(x) - f(x')" in alone


def test_the_json_has_the_sum_and_the_worst_example(trace: Trace) -> None:
    data = report_data(trace)
    assert data["delta"] == pytest.approx(-1e-4) and data["relative_delta"] == pytest.approx(2.5e-5)
    assert data["worst_example"] == {"example": 1, "delta": -1.0001, "relative_delta": pytest.approx(0.50005)}
    assert report_data(trace, example=0)["worst_example"] == {"example": 0, "delta": 1.0, "relative_delta": 0.5}


def test_what_a_finding_measured_is_of_the_worst_example() -> None:
    case = CASES["unsupported-module"]
    trace = case.record()
    change_of_output = trace.run.output - trace.run.output_reference
    before = int(np.argmax(abs(trace.delta / change_of_output)))
    after = 1 - before
    better, worse = np.zeros(2), np.zeros(2)
    better[after] = 0.5 * abs(trace.delta / change_of_output)[before] * change_of_output[after]
    worse[after], worse[before] = 3 * better[after], -3 * better[after]  # the sum is nothing
    leaks = np.zeros(len(trace.nodes))
    for delta, advised in ((better, "make it exact"), (worse, "on its own an exact rule for it makes the delta ")):
        amend(trace, counterfactuals=[replace(change("gelu", *delta), self_leak=leaks)])
        finding = diagnose(trace)[0]
        numbers = dict(finding.evidence)
        worst = int(numbers["example once exact"])
        relative = abs(delta / change_of_output)
        assert worst == int(relative.argmax()) and numbers["its delta once exact"] == delta[worst]
        assert finding.delta_after == delta.sum() and finding.advice.startswith(advised)
        told = f"the delta is {figure(delta[worst], signed=True)} in example {worst} instead of "
        assert f"{told}{figure(trace.delta[before], signed=True)} in example {before}, measured" in " ".join(
            report_text(trace).split()
        )
        shown = dict(diagnose(trace, before)[0].evidence)
        assert (shown["example once exact"], shown["its delta once exact"]) == (before, delta[before])


def test_leaks_that_cancel_are_told_by_their_size() -> None:
    trace = CASES["unsupported-module"].record()
    finding = diagnose(trace)[0]
    total = trace.run.delta.sum()
    assert np.sign(trace.run.delta).tolist() in ([1.0, 1.0], [-1.0, -1.0])
    assert f"({figure(float(f'{total:.3g}'), signed=True)})" in finding.message
    cancelling = CASES["unseen-op"].record()
    sizes = [abs(cancelling.leaks(example)[1]).sum() for example in range(2)]
    assert np.prod(np.sign(cancelling.run.delta)) == -1
    assert f"(Σ|self leak| = {sum(sizes):.3g})" in diagnose(cancelling)[0].message


def test_a_run_without_an_example_has_a_headline_too() -> None:
    nothing = np.zeros(0)
    run = replace(synthetic_run(tokens=False), output=nothing, output_reference=nothing, delta=nothing)
    assert headline(stored_repair(memory_trace(run))) == (
        "Nothing to repair: the delta is 0, 0 % of the output's change."
    )
