"""The ladder of repairs as lines, and its screen."""

from __future__ import annotations

import math
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.synthetic import synthetic_run, write_synthetic
from tests.tui.builders import EVIL, figures
from tests.tui.test_app import SIZES, run, shown
from tests.tui.test_app import text_of as screen_text
from tests.tui.test_panes import check_within, text_of
from tracer.records import Counterfactual
from tracer.tracefile.amend import amend
from tracer.tracefile.trace import open_trace
from tui.lines import repair as repair_lines
from tui.lines.repair import Ladder, ladder
from tui.screens.layers import LayersScreen
from tui.screens.repair import RepairScreen

RUN = replace(synthetic_run(), delta=np.array([-525.0]), output=np.array([2.0]), output_reference=np.array([-0.12]))
TREE = figures([-1, 0, 0, 0], [0.0, -520.0, -5.0, 0.0], paths=["", "a.softmax", "a.norm", "a/matmul"])


def measured(step: int, change: str, delta: float, *rules: str, leaks: tuple[float, ...] = ()) -> Counterfactual:
    return Counterfactual(step, change, change, rules, np.array([delta]), np.array(leaks), 0.5)


RUNS = (
    measured(0, "LayerNorm exact", -1026.0, "LayerNorm=exact"),
    measured(0, "products exact", 131.0, "matmul=exact"),
    measured(0, "softmax exact", -2.4, "softmax=exact", leaks=(0.0, -1.4, -1.0, math.nan)),
    measured(3, "products exact too", 2e-12, "softmax=exact", "LayerNorm=exact", "matmul=exact"),
    measured(2, "LayerNorm exact too", -0.92, "softmax=exact", "LayerNorm=exact"),
    measured(1, "softmax exact", -2.4, "softmax=exact", leaks=(0.0, -1.4, -1.0, math.nan)),
)


def given_ladder() -> Ladder:
    return ladder(RUN, RUNS, None)


def step_text(given: Ladder, words: str, width: int = 120) -> str:
    index = next(index for index, step in enumerate(given.steps) if step.words == words)
    return text_of(repair_lines.step_lines(given, index, TREE, width))


def test_the_ladder_goes_down_and_single_changes_stand_by_use() -> None:
    given = given_ladder()
    assert [step.words for step in given.steps] == [
        "as recorded",
        "softmax exact",
        "LayerNorm exact too",
        "products exact too",
        "Each change on its own",
        "softmax exact",
        "products exact",
        "LayerNorm exact",
    ]
    assert [step.label for step in given.rungs] == ["1", "2", "3"]
    assert given.enough is not None and given.enough.words == "products exact too"


def test_a_line_says_change_delta_and_share() -> None:
    lines = [text_of([repair_lines.row(given_ladder(), index, 120)]) for index in range(8)]
    assert "0 as recorded" in lines[0] and "-525.0" in lines[0] and "250 times" in lines[0]
    assert "2 LayerNorm exact too" in lines[2] and "-0.9200" in lines[2] and "43 %" in lines[2]
    assert lines[3].startswith("✔  3 products exact too") and "+2.000e-12" in lines[3]
    assert not lines[2].startswith("✔") and lines[4].split() == ["Each", "change", "on", "its", "own"]


def test_bars_share_one_logarithmic_scale() -> None:
    bars = [text_of([repair_lines.row(given_ladder(), index, 120)]).count("█") for index in (0, 1, 2, 3, 7)]
    assert bars[4] > bars[0] > bars[1] > bars[2] > bars[3]
    decade = (bars[4] - bars[2]) / math.log10(1026 / 0.92)
    assert bars[0] - bars[2] == pytest.approx(decade * math.log10(525 / 0.92), abs=1)


@given(
    st.integers(24, 220),
    st.lists(st.sampled_from([0.0, 1.0, -3e9, math.nan, math.inf, 1e-300]), min_size=1, max_size=4),
)
def test_lines_are_exactly_as_wide_as_the_screen(width: int, deltas: list[float]) -> None:
    runs = [measured(index % 2, EVIL * 3, delta, EVIL) for index, delta in enumerate(deltas)]
    given_steps = ladder(RUN, runs, None)
    for index in range(len(given_steps.steps)):
        line = repair_lines.row(given_steps, index, width)
        assert cell_len("".join(text for text, _ in line)) == width
        check_within(repair_lines.step_lines(given_steps, index, TREE, max(width, 20)), max(width, 20))
    assert cell_len("".join(text for text, _ in repair_lines.heading(width))) == width


def test_the_recorded_line_tells_the_outcome_and_the_options() -> None:
    text = step_text(given_ladder(), "as recorded")
    assert "✔ 3 changes bring the delta from -525.0 to +2.000e-12: the attributions add up." in text
    assert "--rule 'softmax=exact' --rule 'LayerNorm=exact' --rule 'matmul=exact'" in text
    assert "6 runs measured, 3.0 s in all" in text
    short = ladder(RUN, RUNS[4:], None)
    assert "▲ After 2 steps the delta is -0.9200: the attributions do not add up yet." in step_text(
        short, "as recorded"
    )
    fine = replace(RUN, delta=np.array([1e-9]))
    assert "nothing is to be repaired" in step_text(ladder(fine, RUNS, None), "as recorded")
    assert "one by one" in step_text(ladder(RUN, RUNS[:3], None), "as recorded")


def test_a_run_in_full() -> None:
    text = step_text(given_ladder(), "softmax exact")
    assert "delta -525.0 → -2.400, measured in 0.5 s, 113 % of f(x)-f(x')." in text.replace("500 ms", "0.5 s")
    assert "--rule 'softmax=exact'" in text
    assert text.splitlines()[-2:] == ["     -520.0 → -1.400      a.softmax", "     -5.000 → -1.000      a.norm"]
    assert "Alone it makes the delta larger" in step_text(given_ladder(), "LayerNorm exact")
    assert "Alone" not in step_text(given_ladder(), "products exact")
    assert "1 of 3 changes made the delta larger" in step_text(given_ladder(), "Each change on its own")


def test_self_leaks_of_another_tree_are_left_out() -> None:
    assert repair_lines.moved_most(measured(1, "x", 1.0, leaks=(1.0,)), TREE) == []
    assert repair_lines.moved_most(RUNS[-1], TREE) == [1, 2], "a call that did not occur and one that stays"


def test_figures_are_of_the_example_or_summed() -> None:
    two = replace(RUN, delta=np.array([1.0, 2.0]), output=np.array([3.0, 4.0]), output_reference=np.zeros(2))
    run_of_two = Counterfactual(1, "c", "c", (), np.array([0.5, -0.5]), np.zeros(0))
    for example, before, after, change in [(None, 3.0, 0.0, 7.0), (1, 2.0, -0.5, 4.0)]:
        given = ladder(two, [run_of_two], example)
        assert (given.before, given.rungs[0].delta, given.change) == (before, after, change)


@pytest.mark.parametrize(
    "rule", ["softmax=exact", "a b=exact", "it's=exact", "$(rm -rf x)=exact", "h.*.attn/matmul=exact"]
)
def test_options_can_be_pasted(rule: str) -> None:
    (option,) = repair_lines.rule_options(measured(1, "x", 1.0, rule))
    assert shlex.split(option) == ["--rule", rule]


def test_without_a_measurement_it_says_how_to_measure() -> None:
    text = text_of(repair_lines.nothing_lines(RUN, "my run.dltrace", 80))
    assert "deeplift-tracer repair 'my run.dltrace'" in text
    unfinished = text_of(repair_lines.nothing_lines(replace(RUN, status="failed"), "f", 200))
    assert "not complete" in unfinished and "deeplift-tracer" not in unfinished


@pytest.mark.parametrize("size", SIZES)
def test_the_screen_shows_the_ladder_and_leads_to_calls(tmp_path: Path, size: tuple[int, int]) -> None:
    write_synthetic(tmp_path / "r.dltrace", layers=1, ops_per_layer=8)
    trace = open_trace(tmp_path / "r.dltrace")
    leaks = trace.columns.self_leak.copy()
    leaks[4] = 0.0

    async def story() -> None:
        async with shown(trace, size) as pilot:
            await pilot.press("6")
            assert "No repair has been measured" in screen_text(pilot)
            await pilot.press("enter", "tab", "j", "1")
            amend(trace, counterfactuals=[measured(1, "softmax exact", -0.9, "softmax=exact", leaks=tuple(leaks))])
            pilot.app.session.set_trace(trace)  # type: ignore[attr-defined]
            await pilot.press("6")
            screen = pilot.app.screen
            assert isinstance(screen, RepairScreen) and "as recorded" in screen_text(pilot)
            await pilot.press("j", "tab")
            assert "--rule 'softmax=exact'" in screen_text(pilot)
            await pilot.press("enter")
            assert isinstance(pilot.app.screen, LayersScreen) and pilot.app.screen.layer_tree.selected == 4

    run(story)
