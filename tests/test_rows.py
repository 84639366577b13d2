"""What is written into a trace file is what is read from it, for every kind of record."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.synthetic import synthetic_run
from tracer.records import (
    Counterfactual,
    Edge,
    Finding,
    HookReport,
    Node,
    Note,
    Panel,
    Ranking,
    Run,
    Statistics,
    TensorRef,
)
from tracer.tracefile.amend import amend
from tracer.tracefile.cells import storable
from tracer.tracefile.rows import refs_from_json, refs_to_json
from tracer.tracefile.trace import Trace
from tracer.tracefile.writer import TraceWriter

PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

numbers = st.floats(allow_nan=True, allow_infinity=True, width=64)
names = st.text(st.characters(codec=None, exclude_categories=()), max_size=12)
counts = st.integers(0, 2**53)
shapes = st.lists(st.integers(0, 3), max_size=4).map(tuple)
figures = st.builds(Statistics, counts, counts, numbers, numbers, numbers, numbers)
texts = names.map(storable)
places = st.integers(0, 9)


def same(one: Any, other: Any) -> bool:
    """Equality of records in which NaN equals NaN and arrays are compared by value."""
    if dataclasses.is_dataclass(one) and not isinstance(one, type):
        fields = [field.name for field in dataclasses.fields(one)]
        return type(one) is type(other) and all(same(getattr(one, f), getattr(other, f)) for f in fields)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return bool(one == other)


def arrays(examples: int) -> st.SearchStrategy[Any]:
    return st.lists(numbers, min_size=examples, max_size=examples).map(np.array)


def node(index: int = 0, **changes: Any) -> Node:
    base = Node(
        id=index, parent=None if index == 0 else 0, end=index + 1, depth=min(index, 1), path=f"p{index}", call=0,
        kind="module", type="T", source=None, rule="autograd", leak=np.zeros(1), self_leak=np.zeros(1), gain=1.0,
        relative_leak=0.0, largest_secant=math.nan, small_differences=0, dropped_differences=0, nonfinite=0,
        seconds=0.0,
    )  # fmt: skip
    return replace(base, **changes)


@st.composite
def runs(draw: st.DrawFn) -> Run:
    examples = draw(st.integers(0, 3))
    words = st.lists(names, max_size=3).map(tuple)
    rankings = st.builds(
        Ranking, names, st.lists(numbers, max_size=3).map(tuple), st.none() | numbers, st.none() | numbers, names
    )
    hooks = st.builds(
        HookReport, names, names, st.dictionaries(names, counts, max_size=2), st.dictionaries(names, counts, max_size=2)
    )
    values = st.lists(numbers, max_size=2).map(tuple)
    rows = st.lists(words, max_size=2).map(tuple)
    panels = st.builds(Panel, values, values, words, st.lists(rankings, max_size=2).map(tuple), st.none() | hooks)
    return Run(
        model=draw(texts), method=draw(texts), variant=draw(texts), status="complete", message=draw(texts), started="",
        seconds=draw(numbers), capture="tensors", rulebook=draw(texts),
        versions=draw(st.dictionaries(names, names, max_size=2)), target=draw(texts),
        text=draw(texts), reference=draw(texts), tokens=draw(rows), reference_tokens=draw(rows),
        output=draw(arrays(examples)), output_reference=draw(arrays(examples)), delta=draw(arrays(examples)),
        panel=draw(panels), command=draw(texts),
    )  # fmt: skip


@PROPERTY
@given(run=runs())
def test_a_run_is_read_as_it_was_written(run: Run) -> None:
    with TraceWriter(None) as writer:
        writer.begin(run)
        writer.finish(run)
        assert same(writer.trace().run, run)


@PROPERTY
@given(data=st.data(), name=texts, type_=texts, source=st.none() | texts, shape=shapes, gain=numbers, count=counts)
def test_nodes_and_edges_are_read_as_they_were_written(
    data: st.DataObject, name: str, type_: str, source: str | None, shape: tuple[int, ...], gain: float, count: int
) -> None:
    examples = data.draw(st.integers(0, 2))
    leak, own, flow = (data.draw(arrays(examples)) for _ in range(3))
    root = node(end=2, children=(1,), leak=leak, self_leak=own)
    child = node(
        1, path=f"p/{name}", call=count, kind="lost", type=type_, source=source, leak=leak, self_leak=own, gain=gain,
        relative_leak=gain, largest_secant=gain, small_differences=count,
        dropped_differences=data.draw(counts), nonfinite=data.draw(counts), seconds=gain,
    )  # fmt: skip
    with TraceWriter(None) as writer:
        run = replace(synthetic_run(), output=leak, output_reference=leak, delta=leak)
        writer.begin(run)
        raw = np.arange(math.prod(shape), dtype=np.float32)
        ref = writer.put_tensor(raw.tobytes(), "float32", shape)
        edges = (
            Edge("in", 0, name, shape, "float32", flow, data.draw(st.none() | figures), value=ref),
            Edge("in", 1, "", shape, "float16", flow, reference=TensorRef(None, "float16", shape, elided=True)),
            Edge("out", 0, "", (), "bool", flow, multiplier_statistics=data.draw(figures), multiplier=ref),
        )
        writer.add(child, edges)  # the order of adding is free
        writer.add(root, ())
        writer.finish(run)
        trace = writer.trace()
        assert same(tuple(trace.nodes), (root, child))
        assert same(trace.edges(1), edges)
        assert same(trace.find(f"p/{name}", count), child)
        assert same(trace.tensor(1, "input"), raw.reshape(shape))
        assert same(trace.columns.gain, np.array([1.0, gain]))
        assert trace.columns.paths == ["p0", f"p/{name}"] and trace.columns.types == ["T", type_]


def trace_with(write: Callable[[TraceWriter], None] = lambda writer: None) -> Trace:
    """A trace in memory of a run without examples and of one call."""
    empty = np.zeros(0)
    run = replace(synthetic_run(), output=empty, output_reference=empty, delta=empty)
    writer = TraceWriter(None)
    writer.begin(run)
    writer.add(node(leak=empty, self_leak=empty), ())
    write(writer)
    writer.finish(run)
    return writer.trace()


@PROPERTY
@given(notes=st.lists(st.builds(Note, texts, texts, st.none() | counts, texts, numbers, st.none() | texts), max_size=3))
def test_notes_are_read_as_they_were_written(notes: list[Note]) -> None:
    with trace_with(lambda writer: writer.add_notes(notes)) as trace:
        assert same(trace.notes, tuple(notes))


findings = st.builds(
    Finding, kind=texts, node=st.none() | places, path=texts, call=counts, source=st.none() | texts, share=numbers,
    message=texts, advice=texts, issues=st.lists(counts, max_size=2).map(tuple),
    nodes=st.lists(places, max_size=3).map(tuple),
    evidence=st.lists(st.tuples(names, numbers), max_size=2).map(tuple), caused_by=texts,
    delta_after=st.none() | numbers,
)  # fmt: skip


@PROPERTY
@given(found=st.lists(findings, max_size=3))
def test_findings_are_read_as_they_were_written(found: list[Finding]) -> None:
    with trace_with() as trace:
        amend(trace, findings=found)
        assert same(trace.findings, tuple(found))


@PROPERTY
@given(data=st.data(), change=texts, pattern=texts, rules=st.lists(names, max_size=2).map(tuple), seconds=numbers)
def test_counterfactuals_are_read_as_they_were_written(
    data: st.DataObject, change: str, pattern: str, rules: tuple[str, ...], seconds: float
) -> None:
    self_leak = data.draw(st.just(np.zeros(0)) | arrays(1))
    runs = tuple(Counterfactual(step, change, pattern, rules, np.zeros(0), self_leak, seconds) for step in range(2))
    with trace_with() as trace:
        amend(trace, counterfactuals=runs)
        assert same(trace.counterfactuals, runs)


@given(refs=st.lists(st.builds(TensorRef, st.binary(min_size=16, max_size=16), names, shapes), max_size=3))
def test_references_are_read_as_they_were_written(refs: list[TensorRef]) -> None:
    left_out = TensorRef(None, "float8_e4m3fn", (2, 0), elided=True)
    assert refs_from_json(refs_to_json([*refs, left_out])) == (*refs, left_out)


@pytest.mark.parametrize("value", [None, 0.0, math.nan, math.inf, -math.inf])
def test_a_delta_that_was_not_measured_is_told_from_one_that_is_no_number(value: float | None) -> None:
    one = Finding("unseen-op", None, "", 0, None, math.nan, "", "", delta_after=value)
    with trace_with() as trace:
        amend(trace, findings=[one])
        assert same(trace.findings, (one,))
