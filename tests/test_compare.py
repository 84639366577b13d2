"""Two traces are aligned call by call, whatever either of them lacks, and it is found where they part."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from tests.synthetic import synthetic_run, write_synthetic
from tests.test_rows import node
from tracer.analysis.alignment import align
from tracer.analysis.compare import Comparison, compare, difference
from tracer.errors import InputError, TraceFileError
from tracer.model.explicit import explicit
from tracer.recording.record import record
from tracer.records import Edge, Statistics
from tracer.tracefile.columns import Columns
from tracer.tracefile.trace import Trace, open_trace
from tracer.tracefile.writer import TraceWriter

# A tree as nested tuples: (name, children). Names may repeat: the second call of a path is call 1.
Tree = tuple[str, tuple[Any, ...]]


def made(tree: Tree, leaks: dict[tuple[str, int], float] | None = None, **changes: Any) -> Trace:
    """A trace with a call for each name; `leaks` are self leaks by (path, call)."""
    nodes: list[Any] = []
    seen: dict[str, int] = {}

    def walk(part: Tree, parent: int | None, depth: int, path: str) -> None:
        index, (name, children) = len(nodes), part
        path = "" if parent is None else f"{path}{'' if name.startswith('/') or not path else '.'}{name}"
        call = seen.setdefault(path, 0)
        seen[path] += 1
        own = np.array([(leaks or {}).get((path, call), 0.0)])
        kind = "op" if "/" in path else "module"
        nodes.append(
            node(index, parent=parent, depth=depth, path=path, call=call, kind=kind, self_leak=own,
                 type=name.strip("/").rstrip("_1"), **changes)
        )  # fmt: skip
        for child in children:
            walk(child, index, depth + 1, path)
        nodes[index] = replace(nodes[index], end=len(nodes))

    walk(tree, None, 0, "")
    run = replace(synthetic_run(), output=np.array([2.0]), output_reference=np.zeros(1))
    with TraceWriter(None) as writer:
        writer.begin(run)
        for one in nodes:
            writer.add(one, ())
        writer.finish(run)
        return writer.trace()


def leaf(name: str) -> Tree:
    return (name, ())


def told(a: Trace, b: Trace) -> list[str]:
    """Each row of the alignment, indented: the path, with − where only A has it, + where only B has it."""
    rows = align(a.columns, b.columns)
    lines = []
    for row in range(len(rows.a)):
        trace, index = (a, rows.a[row]) if rows.a[row] >= 0 else (b, rows.b[row])
        sign = "" if min(rows.a[row], rows.b[row]) >= 0 else "-" if rows.a[row] >= 0 else "+"
        call = f"#{trace.columns.call[index]}" if trace.columns.call[index] else ""
        lines.append(f"{'  ' * rows.depth[row]}{sign}{trace.columns.paths[index]}{call}")
    return lines


def test_calls_of_the_same_path_and_number_are_one_row() -> None:
    a = made(("m", (leaf("x"), leaf("y"), leaf("x"))))
    b = made(("m", (leaf("x"), leaf("z"), leaf("y"))))
    assert told(a, b) == ["", "  x", "  +z", "  y", "  -x#1"]
    assert told(b, a) == ["", "  x", "  -z", "  y", "  +x#1"]


def test_what_only_one_has_keeps_its_place_and_its_subtree() -> None:
    a = made(("m", (("p", (leaf("q"),)), leaf("r"))))
    b = made(("m", (("n", (leaf("o"), leaf("o"))), ("p", (leaf("q"), ("s", (leaf("t"),)))), leaf("u"))))
    assert told(a, b) == [
        "", "  +n", "    +n.o", "    +n.o#1", "  p", "    p.q", "    +p.s", "      +p.s.t", "  +u", "  -r",
    ]  # fmt: skip


def test_a_child_of_a_leaf_stands_before_its_next_sibling() -> None:
    a = made(("m", (leaf("p"), leaf("z"))))
    b = made(("m", (("p", (leaf("c"),)), leaf("q"), leaf("z"))))
    assert told(a, b) == ["", "  p", "    +p.c", "  +q", "  z"]


def test_a_namesake_under_another_parent_is_another_call() -> None:
    a = made(("m", (("p", ()), ("q", ()))))
    b = made(("m", (("p", ()), ("q", ()))))
    moved = replace_parent(b)
    assert told(a, moved) == ["", "  p", "    +q", "  -q"]


def replace_parent(trace: Trace) -> Trace:
    """The trace with its last call inside the one before it, under the same path."""
    first, second, third = trace.nodes
    run = trace.run
    with TraceWriter(None) as writer:
        writer.begin(run)
        writer.add(first, ())
        writer.add(replace(second, end=3), ())
        writer.add(replace(third, parent=1, depth=2), ())
        writer.finish(run)
        return writer.trace()


def test_an_op_and_the_module_made_of_it_are_one_row() -> None:
    a = made(("m", (("attention", (leaf("/matmul"), leaf("/softmax"), leaf("/matmul"))), leaf("layer_norm"))))
    b = made(("m", (("attention", (leaf("/matmul"), leaf("softmax"), leaf("/matmul"))), leaf("/layernorm"))))
    assert told(a, b) == [
        "", "  attention", "    attention/matmul", "    attention/softmax", "    attention/matmul#1", "  layer_norm",
    ]  # fmt: skip
    two = made(("m", (("attention", (leaf("softmax"), leaf("softmax_1"))),)))
    one = made(("m", (("attention", (leaf("/softmax"),)),)))
    assert told(one, two)[2:] == ["    +attention.softmax", "    +attention.softmax_1", "    -attention/softmax"]
    both = made(("m", (("attention", (leaf("/softmax"), leaf("/softmax"))),)))
    assert told(both, two)[2:] == ["    attention/softmax", "    attention/softmax#1"]


trees = st.recursive(
    st.sampled_from("abc").map(leaf),
    lambda inner: st.tuples(st.sampled_from("abc"), st.lists(inner, max_size=4).map(tuple)),
    max_leaves=14,
)


def is_tree(parent: Sequence[int], end: Sequence[int], depth: Sequence[int]) -> bool:
    """Whether the arrays describe one preorder tree, said slowly."""
    for row in range(len(parent)):
        inside = [other for other in range(len(parent)) if other != row and _within(parent, other, row)]
        if inside != list(range(row + 1, end[row])) or depth[row] != (0 if row == 0 else depth[parent[row]] + 1):
            return False
    return True


def _within(parent: Sequence[int], row: int, above: int) -> bool:
    while row >= 0:
        row = parent[row]
        if row == above:
            return True
    return False


def columns_of(tree: Tree) -> Columns:
    """The columns of `made(tree)`, as far as alignment reads them."""
    parent, end, depth, call, paths = [], [], [], [], []

    def walk(part: Tree, above: int, level: int, path: str) -> None:
        index, path = len(paths), "" if above < 0 else f"{path}.{part[0]}".strip(".")
        parent.append(above)
        depth.append(level)
        call.append(paths.count(path))
        paths.append(path)
        end.append(0)
        for child in part[1]:
            walk(child, index, level + 1, path)
        end[index] = len(paths)

    walk(tree, -1, 0, "")
    ints = (np.array(values, dtype=np.int64) for values in (parent, end, depth, call))
    none = np.zeros(len(paths))
    return Columns(*ints, *(none,) * 5, ["module"] * len(paths), ["T"] * len(paths), paths)


@given(trees, trees)
def test_any_two_trees_make_one_that_holds_both(first: Tree, second: Tree) -> None:
    a, b = columns_of(first), columns_of(second)
    rows = align(a, b)
    assert is_tree(rows.parent.tolist(), rows.end.tolist(), rows.depth.tolist())
    assert rows.a[rows.a >= 0].tolist() == list(range(len(a.paths)))
    assert sorted(rows.b[rows.b >= 0].tolist()) == list(range(len(b.paths)))
    for columns, ids in ((a, rows.a), (b, rows.b)):  # a row's parent is the row of its call's parent
        row_of = {int(node): row for row, node in enumerate(ids) if node >= 0}
        for index, row in row_of.items():
            above = int(columns.parent[index])
            assert rows.parent[row] == (-1 if above < 0 else row_of[above])
    both = (rows.a >= 0) & (rows.b >= 0)
    names = [[(c.paths[i], int(c.call[i])) for i in ids[both]] for c, ids in ((a, rows.a), (b, rows.b))]
    assert names[0] == names[1]
    # Nothing that could be one row is two: of one path and number, under one parent.
    left = [
        [(c.paths[i], int(c.call[i]), int(rows.parent[row])) for row, i in enumerate(ids) if i >= 0 and not both[row]]
        for c, ids in ((a, rows.a), (b, rows.b))
    ]
    assert not set(left[0]) & set(left[1])


def test_rows_that_leak_differently_diverge_and_the_rest_does_not() -> None:
    tree: Tree = ("m", (leaf("x"), leaf("y"), leaf("z"), leaf("w")))
    a = made(tree, {("x", 0): 1.0, ("y", 0): 5.0, ("z", 0): 3.0})
    b = made(tree, {("x", 0): 1.0019, ("y", 0): 5.1, ("z", 0): -3.0})
    found = compare(a, b)
    assert found.tolerance == pytest.approx(2e-3)  # a thousandth of f(x) − f(x') = 2
    assert found.diverging.tolist() == [False, False, True, True, False]
    assert (found.first, found.worst, found.aligned) == (2, 3, 5)
    assert found.difference == pytest.approx([0, 0.0019, 0.1, -6, 0])
    assert found.self_leak_a.tolist() == [0, 1, 5, 3, 0]


def test_leaks_of_millions_may_differ_by_rounding() -> None:
    tree: Tree = ("m", (leaf("x"), leaf("y"), leaf("z")))
    a = made(tree, {("x", 0): 3e6, ("y", 0): -7e6})
    assert compare(a, made(tree, {("x", 0): 3e6 + 9, ("y", 0): -7e6})).first is None
    assert compare(a, made(tree, {("x", 0): 3e6 + 11, ("y", 0): -7e6})).first == 1
    # The larger trace's rounding counts, whichever of the two it is.
    quiet = made(tree, {("z", 0): 9.0})
    assert compare(a, quiet).diverging.tolist() == compare(quiet, a).diverging.tolist() == [False, True, True, False]


def test_a_call_that_only_one_has_diverges_if_it_leaks() -> None:
    a = made(("m", (leaf("x"), leaf("y"))), {("y", 0): 4.0})
    b = made(("m", (leaf("x"), leaf("z"))), {("x", 0): 0.0})
    found = compare(a, b)
    assert found.diverging.tolist() == [False, False, False, True] and found.worst == found.first == 3
    assert np.isnan(found.self_leak_b[3]) and np.isnan(found.self_leak_a[2])
    assert found.difference[3] == -4.0


def test_no_number_differs_from_a_number_and_not_from_itself() -> None:
    nan, inf = math.nan, math.inf
    gap = difference(np.array([nan, nan, inf, inf, 1.0]), np.array([nan, 1.0, inf, -inf, nan]))
    assert gap.tolist() == [0.0, inf, 0.0, -inf, inf]
    tree: Tree = ("m", (leaf("x"), leaf("y")))
    broken = made(tree, {("x", 0): nan, ("y", 0): 1.0})
    assert compare(broken, broken).first is None
    assert compare(broken, made(tree, {("y", 0): 1.0})).worst == 1


def with_outputs(
    norms: Sequence[float],
    references: Sequence[float],
    gains: Sequence[float] = (1, 1, 1),
    mean: float = 1e-3,
    count: int = 100,
    second: float | None = None,
    leak: float = 0.0,
) -> Trace:
    """The model, which holds x, which holds y, with the norms of their outputs in the input and the reference run.

    `mean` is that of y, in its norm; `second` the norm of a second output of y, `leak` what y leaks.
    """
    run = synthetic_run()

    def figures(norm: float, share: float = 1e-3) -> Statistics:
        return Statistics(count, 0, -1.0, 1.0, norm * share, norm)

    with TraceWriter(None) as writer:
        writer.begin(run)
        for index, path in enumerate(("", "x", "x.y")):
            value = figures(norms[index], mean if path == "x.y" else 1e-3)
            edge = Edge("out", 0, "a", (10, 10), "float32", np.zeros(1), value, figures(references[index]))
            other = None if second is None else replace(edge, slot=1, value_statistics=figures(second))
            one = node(index, parent=index - 1 if index else None, end=3, depth=index, path=path, gain=gains[index],
                       self_leak=np.array([leak * (path == "x.y")]))  # fmt: skip
            writer.add(one, (edge,) if other is None else (edge, other))
        writer.finish(run)
        return writer.trace()


def test_values_differ_first_where_a_call_first_ends() -> None:
    a = with_outputs((1, 2, 3), (4, 5, 6))
    assert compare(a, a).first_value is None and compare(a, a).first_reference is None
    # x ends after y, which it holds, though it begins before: y is the first whose output is known.
    changed = compare(a, with_outputs((1.1, 2.1, 3.1), (4, 5, 6)))
    assert (changed.first_value, changed.first_reference) == (2, None)
    assert compare(a, with_outputs((1.1, 2.1, 3), (4, 5, 6))).first_value == 1
    assert compare(a, with_outputs((1, 2, 3), (4, 5.1, 6))).first_reference == 1
    assert compare(a, with_outputs((1, 2, 3 * (1 + 5e-5)), (4, 5, 6))).first_value is None  # rounding
    assert compare(a, with_outputs((1, 2, 3 * (1 + 2e-4)), (4, 5, 6))).first_value == 2


def test_values_of_one_norm_differ_in_mean_or_size_and_further_outputs_do_not_count() -> None:
    a = with_outputs((1, 2, 3), (4, 5, 6))
    assert compare(a, with_outputs((1, 2, 3), (4, 5, 6), mean=1e-3 + 2e-5)).first_value == 2  # norm / √100 is 0.3
    assert compare(a, with_outputs((1, 2, 3), (4, 5, 6), mean=1e-3 + 5e-6)).first_value is None
    assert compare(a, with_outputs((1, 2, 3), (4, 5, 6), count=99)).first_value == 2
    # Attention gives its probabilities beside its output, or does not: that is not a difference of values.
    assert compare(a, with_outputs((1, 2, 3), (4, 5, 6), second=9.0)).first_value is None


def test_the_last_gain_that_differs_is_the_nearest_to_the_output() -> None:
    a = with_outputs((1, 2, 3), (4, 5, 6), (1, 2, 3))
    assert compare(a, a).last_gain is None
    assert compare(a, with_outputs((1, 2, 3), (4, 5, 6), (1.1, 2.1, 3))).last_gain == 1
    assert compare(a, with_outputs((1, 2, 3), (4, 5, 6), (1, 2, 3.002))).last_gain is None
    assert compare(a, with_outputs((1, 2, 3), (4, 5, 6), (1, 2, math.nan))).last_gain == 2


class Attention(nn.Module):
    """Functional softmax and GELU, and a last linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.gelu(self.first(x))
        return self.last((h @ h.transpose(1, 2)).softmax(-1) @ h)[:, 0]


@pytest.fixture(scope="module")
def runs() -> dict[str, Trace]:
    torch.manual_seed(3)
    model = Attention().double()
    x, reference = torch.randn(2, 2, 5, 4, dtype=torch.float64)
    found = {
        method: record(model, x, reference, target=1, method=method) for method in ("captum", "exact", "gradient")  # type: ignore[arg-type]
    }  # fmt: skip
    found["other text"] = record(model, x + 1, reference, target=1, method="captum")
    found["other reference"] = record(model, x, reference * 2, target=1, method="captum")
    with explicit(model, ("softmax", "gelu"), (x,)):
        found["explicit"] = record(model, x, reference, target=1, method="captum")
    with torch.no_grad():
        model.last.weight[1, 2] += 0.5
    found["other weights"] = record(model, x, reference, target=1, method="captum")
    return found


def path_of(runs: dict[str, Trace], other: str, found: Comparison, row: int | None) -> str | None:
    if row is None:
        return None
    trace, index = (runs["captum"], found.a[row]) if found.a[row] >= 0 else (runs[other], found.b[row])
    return trace.columns.paths[index]


def test_two_methods_on_one_model_compute_the_same_and_part_at_the_ops(runs: dict[str, Trace]) -> None:
    found = compare(runs["captum"], runs["exact"])
    assert found.aligned == len(found.a) and found.first_value is None and found.first_reference is None
    assert path_of(runs, "exact", found, found.first) == "/gelu"
    # The last product is the first that the multipliers reach and that captum takes for linear.
    assert path_of(runs, "exact", found, found.last_gain) == "/matmul"
    assert found.last_gain is not None and runs["captum"].columns.call[found.a[found.last_gain]] == 1


def test_explicit_modules_align_with_the_ops_that_they_were(runs: dict[str, Trace]) -> None:
    found = compare(runs["captum"], runs["explicit"])
    assert found.aligned == len(runs["captum"].nodes)
    pairs = {
        (runs["captum"].columns.types[i], runs["explicit"].columns.types[j])
        for i, j in zip(found.a.tolist(), found.b.tolist(), strict=True)
        if min(i, j) >= 0
    }
    assert ("softmax", "Softmax") in pairs and ("gelu", "GELU") in pairs
    assert found.first_value is None


@pytest.mark.parametrize(
    ("other", "value", "reference"),
    [("other text", "first", None), ("other reference", None, "first"), ("other weights", "last", "last")],
)
def test_the_first_value_that_differs_is_found(
    runs: dict[str, Trace], other: str, value: str | None, reference: str | None
) -> None:
    found = compare(runs["captum"], runs[other])
    assert path_of(runs, other, found, found.first_value) == value
    assert path_of(runs, other, found, found.first_reference) == reference


def test_one_example_is_compared_by_its_own_leaks(runs: dict[str, Trace]) -> None:
    parts = [compare(runs["captum"], runs["exact"], example).difference for example in range(2)]
    assert sum(parts) == pytest.approx(compare(runs["captum"], runs["exact"]).difference, abs=1e-12)
    run = runs["captum"].run
    changes = np.abs(run.output - run.output_reference)
    tolerances = [compare(runs["captum"], runs["exact"], example).tolerance for example in (0, 1, None)]
    assert tolerances == pytest.approx([*(1e-3 * changes), 1e-3 * changes.sum()])
    with pytest.raises(InputError, match="no example 2"):
        compare(runs["captum"], runs["exact"], 2)


def test_what_cannot_be_compared_is_said() -> None:
    a, b = made(("m", (leaf("a"), leaf("b")))), made(("m", (leaf("c"), leaf("d"))))
    with pytest.raises(
        InputError, match="no call of synthetic has the path of a call of synthetic: compare two traces"
    ):
        compare(a, b)
    assert compare(made(leaf("m")), b).aligned == 1  # a model of one call has nothing else to align
    with TraceWriter(None) as writer:
        writer.begin(synthetic_run())
        writer.finish(synthetic_run())
        empty = writer.trace()
    with pytest.raises(InputError, match="the second trace holds no call"):
        compare(a, empty)


def test_a_damaged_figure_is_said(tmp_path: Path) -> None:
    path = tmp_path / "run.dltrace"
    write_synthetic(path, layers=1)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE edge SET value_norm = 'x' WHERE node = 1")
    with open_trace(path) as trace, pytest.raises(TraceFileError, match="is damaged or cut short"):
        compare(trace, trace)
