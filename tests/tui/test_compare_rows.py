"""Two traces as lines: both leaks, the difference, calls that only one has, and what is said about it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.tui.builders import EVIL, node, write
from tests.tui.test_panes import check_within, text_of
from tracer.analysis.compare import compare
from tracer.analysis.severity import Severity
from tracer.records import Node
from tracer.tracefile.trace import Trace
from tui.lines import compare as compare_rows
from tui.lines.compare import ONLY_A, ONLY_B, Pair

# A and B share the model, its block and "dense"; A has SDPA in one op, B as matmul and softmax.
LEAKS_A = {"": 0.0, "block": 0.0, "block.dense": 0.5, "block/sdpa": 3.0}
LEAKS_B = {"": 0.0, "block": 0.0, "block.dense": 0.5, "block/matmul": -770.0, "block/softmax": 40.0}


def traced(path: Path, leaks: dict[str, float], delta: float) -> Trace:
    """A model, one block in it, and the block's calls; leaks are sums of the self leaks."""
    _, block, *inner = leaks
    total = sum(value for value in leaks.values())
    nothing = np.array([0.0])
    nodes: list[Node] = [
        node(0, None, len(leaks), 0, "", total, self_leak=nothing, type="Model"),
        node(1, 0, len(leaks), 1, block, total, self_leak=nothing, type="Block"),
    ]
    for index, name in enumerate(inner, 2):
        kind = "op" if "/" in name else "module"
        nodes.append(node(index, 1, index + 1, 2, name, leaks[name], kind=kind, type=name[6:], source=f"m.py:{index}"))
    change = {"output": np.array([2.0]), "output_reference": np.array([0.0])}
    return write(path, nodes, (), delta=np.array([delta]), **change)


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trace, Trace]:
    folder = tmp_path_factory.mktemp("pair")
    return traced(folder / "a.dltrace", LEAKS_A, 3.5), traced(folder / "b.dltrace", LEAKS_B, -729.5)


@pytest.fixture(scope="module")
def pair(traces: tuple[Trace, Trace]) -> Pair:
    return compare_rows.pair(compare(*traces), *traces)


def row_of(pair: Pair, path: str, expanded: bool = True, width: int = 120) -> str:
    index = list(pair.figures.paths).index(path)
    return text_of([compare_rows.row(pair, index, expanded, width)])


def test_the_merged_tree_has_each_call_once(pair: Pair) -> None:
    assert sorted(pair.figures.paths) == sorted({*LEAKS_A, *LEAKS_B})
    assert pair.figures.end[0] == len(pair) == 6
    names = list(pair.figures.paths)
    absent = {name for name in names if pair.a[names.index(name)] < 0}
    assert absent == {"block/matmul", "block/softmax"}
    for leaks in (pair.leak_a, pair.self_leak_a):
        assert {name for name, leak in zip(names, leaks, strict=True) if math.isnan(leak)} == absent


def test_both_leaks_and_the_difference_stand_side_by_side(pair: Pair) -> None:
    for path, a, b, gap in [("block.dense", "+0.50", "+0.50", "0"), ("block/matmul", "none", "-770.0", "-770.0")]:
        assert row_of(pair, path).split()[-4:-1] == [a, b, gap] or row_of(pair, path).split()[-5:-2] == [a, b, gap]
    assert "none" in row_of(pair, "block/sdpa") and "-3.000" in row_of(pair, "block/sdpa")


def test_a_call_that_only_one_has_is_marked(pair: Pair) -> None:
    assert row_of(pair, "block/sdpa")[2] == ONLY_A
    assert row_of(pair, "block/matmul")[2] == ONLY_B
    assert row_of(pair, "block.dense")[2] == " "


def test_what_is_in_view_sums_to_both_deltas(pair: Pair) -> None:
    """A closed call stands for all inside it, an open one for itself."""
    closed = row_of(pair, "", expanded=False)
    assert "+3.500" in closed and "-729.5" in closed and "-733.0" in closed
    assert row_of(pair, "", expanded=True).replace("│", "").split()[-3:] == ["0", "0", "0"]
    for example_leaks, delta in ((pair.self_leak_a, 3.5), (pair.self_leak_b, -729.5)):
        assert np.nansum(example_leaks) == pytest.approx(delta)
    assert pair.figures.self_leak.sum() == pytest.approx(-729.5 - 3.5)


def test_diverging_rows_have_the_glyphs_of_the_comparison(pair: Pair) -> None:
    severities = dict(zip(pair.figures.paths, pair.figures.severity.tolist(), strict=True))
    assert severities == {
        "": Severity.QUIET,
        "block": Severity.QUIET,
        "block.dense": Severity.QUIET,
        "block/sdpa": Severity.DIVERGING,
        "block/matmul": Severity.LARGE,
        "block/softmax": Severity.DIVERGING,
    }
    assert row_of(pair, "block", expanded=False).startswith("◆") and row_of(pair, "block").startswith("·")
    names = list(pair.figures.paths)
    assert pair.figures.worst == names.index("block/matmul") == pair.comparison.worst


def test_equal_traces_do_not_diverge(traces: tuple[Trace, Trace]) -> None:
    same = compare_rows.pair(compare(traces[0], traces[0]), traces[0], traces[0])
    assert not same.figures.severity.any() and not len(same.figures.diverging)
    assert compare_rows.verdict_of(same).startswith("A and B agree")
    assert not same.figures.leak.any()


def test_a_leak_that_is_no_number_diverges_from_one_that_is(traces: tuple[Trace, Trace], tmp_path: Path) -> None:
    bad = traced(tmp_path / "n.dltrace", LEAKS_A | {"block.dense": math.nan}, math.nan)
    pair = compare_rows.pair(compare(traces[0], bad), traces[0], bad)
    index = list(pair.figures.paths).index("block.dense")
    assert pair.figures.severity[index] == Severity.NONFINITE
    assert "nan" in row_of(pair, "block.dense") and row_of(pair, "block.dense").startswith("✖")


@settings(max_examples=40)
@given(width=st.integers(38, 220), expanded=st.booleans())
def test_a_line_is_exactly_as_wide_as_the_screen(pair: Pair, width: int, expanded: bool) -> None:
    for index in range(len(pair)):
        line = compare_rows.row(pair, index, expanded, width)
        assert cell_len("".join(text for text, _ in line)) == width
    assert cell_len("".join(text for text, _ in compare_rows.heading(width))) == width


def test_columns_go_in_a_fixed_order_and_both_leaks_stay_longest() -> None:
    seen = [tuple(name for name, _ in compare_rows.layout(width)[1]) for width in range(220, 0, -1)]
    assert list(dict.fromkeys(seen)) == [("a", "b", "difference", "bar"), ("a", "b", "difference"), ("a", "b"), ("a",)]
    assert [name for name, _ in compare_rows.layout(38)[1]] == ["a", "b"], "forty cells show both"


def test_the_headlines_say_both_runs_and_where_they_part(pair: Pair, traces: tuple[Trace, Trace]) -> None:
    first = replace(traces[0].run, method="captum", variant="as shipped")
    second = replace(traces[1].run, method="exact", variant="", versions=traces[1].run.versions | {"torch": "2.9"})
    lines = text_of(compare_rows.headline_lines(pair, first, second, None, 160, short=False)).splitlines()
    assert lines[0].startswith("A ✖ delta +3.5 ") and "175 %" in lines[0] and "captum / as shipped" in lines[0]
    assert lines[1].startswith("B ✖ delta -729.5 ") and "exact" in lines[1] and "torch 2.9" in lines[1]
    words = " ".join(lines[2:])
    assert "3 of 6 calls leak differently." in words and (
        "Worst: block/matmul." in words or "and the worst: block/matmul." in words
    )
    assert f"1 call only in A ({ONLY_A}). 2 calls only in B ({ONLY_B})." in words
    assert len(compare_rows.headline_lines(pair, first, second, None, 38, short=True)) == 2


def test_a_run_that_holds_has_a_tick(pair: Pair, traces: tuple[Trace, Trace]) -> None:
    fine = replace(traces[0].run, delta=np.array([1e-9]))
    line = text_of(compare_rows.headline_lines(pair, fine, fine, None, 100, short=True))
    assert line.startswith("A ✔ delta +1e-09")
    unfinished = replace(fine, status="recording")
    assert "▲" in text_of(compare_rows.headline_lines(pair, unfinished, fine, None, 100, short=True)).splitlines()[0]


def test_the_selected_call_is_shown_as_both_have_it(pair: Pair, traces: tuple[Trace, Trace]) -> None:
    def lines(path: str) -> str:
        index = list(pair.figures.paths).index(path)
        a, b = int(pair.a[index]), int(pair.b[index])
        nodes = (traces[0].nodes[a] if a >= 0 else None, traces[1].nodes[b] if b >= 0 else None)
        return text_of(compare_rows.call_lines(pair, index, nodes, 100))

    assert "no such call" in lines("block/matmul") and "-770.0" in lines("block/matmul")
    both = lines("block.dense")
    for part in ("+0.5000", "×1.000", "autograd", "m.py:2", "dense module"):
        assert both.count(part) >= 2, part


@pytest.mark.parametrize("width", [24, 38, 60, 100, 160])
def test_everything_keeps_within_its_width_and_is_printable(width: int, tmp_path: Path) -> None:
    names = {"": 0.0, "block": 0.0, EVIL * 3: math.inf, "界" * 40: -1e300}
    trace = traced(tmp_path / "e.dltrace", names, math.nan)
    run = replace(trace.run, method=EVIL, variant=EVIL, model=EVIL * 9, text=EVIL)
    pair = compare_rows.pair(compare(trace, trace), trace, trace)
    lines = compare_rows.headline_lines(pair, run, trace.run, 0, width, short=False)
    for index in range(len(pair)):
        lines += compare_rows.call_lines(pair, index, (trace.nodes[index], trace.nodes[index]), width)
    check_within(lines, width)
