"""The session: figures that follow the example and the threshold, the history, the findings."""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.synthetic import write_synthetic
from tests.tui.builders import node, write
from tracer.analysis.severity import Severity
from tracer.analysis.verdict import verdict
from tracer.errors import InputError
from tracer.tracefile.trace import Trace
from tui.model.history import History
from tui.model.session import THRESHOLDS, Session


@pytest.fixture(scope="module")
def three() -> Trace:
    """A trace of three examples, in memory."""
    return write_synthetic(None, layers=2, examples=3).trace()


def leaking(path: Path, leaks: Sequence[float]) -> Trace:
    """A model with a call for each self leak."""
    nodes = [node(0, None, len(leaks) + 1, 0, "", sum(leaks), self_leak=np.array([0.0]))]
    nodes += [node(index, 0, index + 1, 1, f"m{index}", leak) for index, leak in enumerate(leaks, 1)]
    return write(path, nodes, delta=np.array([sum(leaks)]), output=np.array([2.0]), output_reference=np.array([1.0]))


def test_the_examples_go_round_with_the_sums_between_last_and_first(three: Trace) -> None:
    session = Session(three)
    seen: list[int | None] = [session.example]
    for _ in range(5):
        session.step_example(1)
        seen.append(session.example)
    assert seen == [None, 0, 1, 2, None, 0]
    session.step_example(-1)
    session.step_example(-1)
    assert session.example == 2


def test_figures_and_verdict_are_those_of_the_example(three: Trace) -> None:
    session = Session(three)
    revision = session.revision
    session.set_example(1)
    leak, self_leak = three.leaks(1)
    assert np.array_equal(session.figures.leak, leak) and np.array_equal(session.figures.self_leak, self_leak)
    assert session.verdict.headline == verdict(three, 1).headline and "example 1" in session.verdict.headline
    assert session.revision == revision + 1
    session.set_example(1)
    assert session.revision == revision + 1, "nothing has changed"
    session.set_example(99)
    assert session.example is None


def test_the_sum_over_the_examples_is_the_sum_of_each(three: Trace) -> None:
    session = Session(three)
    total = session.figures.self_leak
    each = []
    for example in range(3):
        session.set_example(example)
        each.append(session.figures.self_leak)
    assert np.allclose(np.sum(each, axis=0), total)


def test_the_threshold_says_what_diverges(tmp_path: Path) -> None:
    session = Session(leaking(tmp_path / "t", [90.0, 8.0, 1.5, 0.4, 0.1]))
    assert session.figures.diverging.tolist() == [1, 2, 3]
    assert session.step_threshold(1) and session.threshold == 0.02
    assert session.figures.diverging.tolist() == [1, 2]
    for _ in range(2):
        session.step_threshold(-1)
    assert session.threshold == 0.005 and session.figures.diverging.tolist() == [1, 2, 3]
    assert session.step_threshold(-1) and session.figures.diverging.tolist() == [1, 2, 3, 4]


def test_at_the_highest_threshold_only_the_largest_is_left(tmp_path: Path) -> None:
    session = Session(leaking(tmp_path / "t", [70.0, 15.0, 15.0]))
    assert session.figures.severity[2] == Severity.LARGE
    while session.step_threshold(1):
        pass
    assert session.threshold == THRESHOLDS[-1] and not session.step_threshold(1)
    assert session.figures.severity.tolist() == [0, Severity.LARGE, 0, 0] and session.figures.diverging.tolist() == [1]


def test_a_growing_trace_keeps_call_and_marks() -> None:
    small, large = write_synthetic(None, layers=1).trace(), write_synthetic(None, layers=2).trace()
    session = Session(small)
    session.node, session.marks = 5, {3, 7}
    session.set_trace(large)
    assert session.node == 5 and session.marks == {3, 7} and len(session.figures) == len(large.nodes)
    session.node = len(session.figures) - 1
    session.marks = {3, session.node}
    session.set_trace(small)
    assert session.node == len(small.nodes) - 1 and session.marks == {3}


def test_findings_are_worked_out_once_and_again_for_another_example(
    three: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int | None] = []

    def diagnose(trace: Trace, example: int | None) -> tuple[str, ...]:
        asked.append(example)
        if example == 2:
            raise InputError("no diagnosis today")
        return ("found",)

    module = types.ModuleType("tracer.diagnosis.faults")
    module.diagnose = diagnose  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tracer.diagnosis.faults", module)
    session = Session(three)
    assert not asked
    assert session.findings == ("found",) == session.findings and asked == [None]
    session.set_example(2)
    assert session.findings == () and session.findings_problem == "no diagnosis today"
    session.set_example(1)
    assert session.findings == ("found",) and session.findings_problem == "" and asked == [None, 2, 1]


def test_a_trace_without_calls() -> None:
    trace = write_synthetic(None, layers=1, status="failed").trace()
    assert Session(trace).node >= 0
    empty = Session(write_synthetic(None, layers=0).trace())
    assert empty.node == 0


def test_back_and_forward_as_in_a_browser() -> None:
    history, present = History(), 1
    for node_id in (2, 3, 4):
        history.leave(present)
        present = node_id
    walked = []
    for _ in range(4):
        found = history.back(present)
        walked.append(found)
        present = present if found is None else found
    assert walked == [3, 2, 1, None]
    assert history.forward(present) == 2
    history.leave(2)
    assert history.forward(9) is None, "going somewhere new forgets what lay after"
    assert history.back(9) == 2


@given(st.lists(st.integers(0, 3), max_size=30))
def test_forward_undoes_back(visits: list[int]) -> None:
    history, present = History(longest=10), 0
    for visit in visits:
        if visit != present:
            history.leave(present)
        present = visit
    before = present
    there = history.back(before)
    if there is not None:
        assert there != before
        assert history.forward(there) == before
