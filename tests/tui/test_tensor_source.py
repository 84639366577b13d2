"""Recorded tensors read as matrices: quantities, slices, what is missing, export, and the words around a heatmap."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.synthetic import synthetic_run
from tests.tui.builders import EVIL, node, write
from tracer.analysis.difference import difference
from tracer.records import Edge, TensorRef
from tracer.tracefile.trace import Trace, open_trace
from tracer.tracefile.writer import TraceWriter
from tui.lines.tensor import Reading, histogram_line, quantity_line, reading_line, summary_lines, tensor_title
from tui.looks.roles import Line
from tui.model.axis_labels import axis_labels, row_and_column_labels
from tui.model.tensor_figures import Summary
from tui.model.tensor_source import KEPT_ELEMENTS, QUANTITIES, TensorSource, place_of
from tui.terminal.tensor_files import export
from tui.widgets.jump import indices_of

Tensors = dict[str, np.ndarray | TensorRef | None]


def recorded(path: Path, *edges: Tensors, **run: Any) -> Trace:
    """A trace of one call with these edges: "value", "reference" and "multiplier" of each, "out" where it is one."""
    head = replace(synthetic_run(), capture="tensors", **run)
    with TraceWriter(path) as writer:
        writer.begin(head)
        made = []
        for slot, given in enumerate(edges):
            tensors = dict(given)
            out = tensors.pop("out", False)
            refs = {}
            for name, array in tensors.items():
                if isinstance(array, np.ndarray):
                    refs[name] = writer.put_tensor(array.tobytes(), str(array.dtype), array.shape)
                else:
                    refs[name] = array
            shape = next((ref.shape for ref in refs.values() if ref is not None), (1,))
            made.append(Edge("out" if out else "in", slot, "x", shape, "float32", np.zeros(1), **refs))
        nothing = np.zeros(head.examples)
        made = [replace(edge, flow=nothing) for edge in made]
        call = replace(node(0, None, 1, 0, "layer/op", 0.0), leak=nothing, self_leak=nothing)
        writer.add(call, made)
        writer.finish(head)
    return open_trace(path)


def source_of(trace: Trace, quantity: str = "value", slot: int = 0) -> TensorSource:
    edge = next(edge for edge in trace.edges(0) if edge.slot == slot)
    return TensorSource(trace, 0, edge, quantity)


def whole(source: TensorSource, number: int = 0) -> np.ndarray:
    return np.concatenate(list(source.blocks(number, 0, source.rows)))


def text_of(line: Line) -> str:
    return "".join(text for text, _ in line)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 3, 4), (2, 3, 4, 5), (1, 2, 1, 2, 3)])
def test_every_quantity_and_slice_is_what_was_recorded(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x, y, m = (random(*shape, seed=seed) for seed in range(3))
    trace = recorded(tmp_path / "t", {"value": x, "reference": y, "multiplier": m})
    expected = {"value": x, "reference": y, "difference": x - y, "multiplier": m, "product": m * (x - y)}
    for quantity in QUANTITIES:
        source = source_of(trace, quantity)
        assert source.problem == "" and source.shape == shape
        matrices = expected[quantity].reshape(-1, source.rows, source.columns)
        assert len(matrices) == source.slices
        for number, matrix in enumerate(matrices):
            np.testing.assert_array_equal(whole(source, number), matrix)
            index = source.index_of(number)
            assert source.number_of(index) == number
            np.testing.assert_array_equal(expected[quantity][index].reshape(matrix.shape), matrix)


def test_a_large_slice_is_read_in_blocks_and_not_kept(tmp_path: Path) -> None:
    rows = 2 * KEPT_ELEMENTS // 1000
    x, y, m = (random(2, rows, 1000, seed=seed) for seed in range(3))
    trace = recorded(tmp_path / "t", {"value": x, "reference": y, "multiplier": m})
    source = source_of(trace, "product")
    list(source.blocks(0, 0, 1))
    expected = (m * (x - y))[1]
    tracemalloc.start()
    count, right = 0, True
    for block in source.blocks(1, 5, rows - 3):
        right &= bool((block == expected[5 + count : 5 + count + len(block)]).all())
        count += len(block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == rows - 8 and right
    assert peak < x[0].nbytes, "block by block: less than one of the three slices"


def test_masks_have_no_difference() -> None:
    masked = np.array([-np.inf, 1.0, np.inf, 2.0], dtype=np.float32)
    np.testing.assert_array_equal(difference(masked, masked), np.zeros(4))
    np.testing.assert_array_equal(difference(np.array([True, False]), np.array([False, False])), [1.0, 0.0])
    np.testing.assert_array_equal(difference(np.array([1], dtype=np.uint8), np.array([2], dtype=np.uint8)), [-1.0])


def test_what_is_not_there_is_said_in_words(tmp_path: Path) -> None:
    x = random(2, 3)
    elided = TensorRef(None, "float32", (2, 3), elided=True)
    trace = recorded(
        tmp_path / "t",
        {"value": x, "reference": None, "multiplier": None},
        {"value": elided, "reference": x, "multiplier": x},
        {"value": x, "reference": x[:1], "multiplier": x},
        {"value": x[:0], "reference": x[:0], "multiplier": x[:0]},
    )
    for slot, quantity, words in (
        (0, "reference", "reference run's tensor is not known"),
        (0, "difference", "reference run's tensor is not known"),
        (0, "multiplier", "No multiplier came back"),
        (1, "value", "left out to save room"),
        (1, "product", "left out to save room"),
        (2, "difference", "different shapes (2×3, 1×3)"),
        (3, "value", "no elements (0×3)"),
    ):
        assert words in source_of(trace, quantity, slot).problem, (slot, quantity)
    assert source_of(trace, "reference", 1).problem == ""


def test_a_trace_of_figures_says_how_to_record_tensors(tmp_path: Path) -> None:
    edge = Edge("in", 0, "x", (2, 3), "float32", np.zeros(1))
    trace = write(tmp_path / "t", [node(0, None, 1, 0, "", 0.0)], [edge])
    assert "--capture tensors" in source_of(trace).problem


def test_a_name_is_a_place() -> None:
    assert place_of("input") == ("in", "value") and place_of("multiplier_out") == ("out", "multiplier")
    with pytest.raises(ValueError, match="none of input"):
        place_of("gradient")  # type: ignore[arg-type]


def test_an_index_out_of_its_axis_is_refused(tmp_path: Path) -> None:
    source = source_of(recorded(tmp_path / "t", {"value": random(2, 3, 4, 5)}))
    with pytest.raises(ValueError, match="axis 1 has the indices 0 to 2, not 3"):
        source.number_of((0, 3))


def test_jumps() -> None:
    shape = (2, 3, 4, 5)
    assert indices_of("3,4", shape, (1, 2)) == (1, 2, 3, 4)
    assert indices_of(" [0, 1, 2, 3] ", shape, (1, 2)) == (0, 1, 2, 3)
    assert indices_of("-1 -1", shape, (0, 0)) == (0, 0, 3, 4)
    assert indices_of("7", (8,), ()) == (7,)
    assert indices_of("", (), ()) == ()
    for text, words in (("4,0", "axis 2 has 0 to 3"), ("1", "2 or 4 indices"), ("a,b", "not a whole number")):
        with pytest.raises(ValueError, match=words):
            indices_of(text, shape, (0, 0))


def test_tokens_name_the_axes_of_their_length() -> None:
    run = replace(
        synthetic_run(examples=2),
        tokens=(("a", "b", EVIL), ("c", "d")),
        reference_tokens=(("[PAD]",) * 3, ("[UNK]",) * 2),
    )
    assert axis_labels(run, (2, 4, 3, 3), -1, (1, 0)) == ["c", "d", ""]
    rows, columns = row_and_column_labels(run, (2, 3, 8), (0,))
    assert rows[:2] == ["a", "b"] and "\x1b" not in rows[2] and columns == []
    assert axis_labels(run, (2, 3, 8), -2, (1,), reference=True) == ["[UNK]", "[UNK]", ""]
    assert axis_labels(run, (2, 8), -2, ()) == []
    three = replace(run, tokens=(("a", "b"), ("c", "d")))
    assert axis_labels(three, (2, 8), -2, ()) == [], "two examples, which happen to have two tokens"
    assert axis_labels(replace(run, tokens=()), (2, 3, 8), -2, (0,)) == []
    assert axis_labels(run, (), -1, ()) == [] and axis_labels(run, (3,), -2, ()) == []


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "bool", "complex64"])
def test_an_exported_slice_is_read_back(tmp_path: Path, dtype: str) -> None:
    array = (random(2, 3, 4, 5) * 3).astype(dtype)
    source = source_of(recorded(tmp_path / "t", {"value": array}))
    number = source.number_of((1, 2))
    file = export(source, number, "layer.0/../mat mul", tmp_path, "npy")
    assert file.name == "layer.0_.._mat_mul-in0-value-1-2.npy"
    found = np.load(file, allow_pickle=False)
    np.testing.assert_array_equal(found, array[1, 2])
    assert found.dtype == array.dtype
    again = export(source, number, "layer.0/../mat mul", tmp_path, "npy")
    assert again.name == "layer.0_.._mat_mul-in0-value-1-2-2.npy" and file.exists(), "nothing is overwritten"
    table = export(source, number, "x", tmp_path, "csv")
    if dtype != "complex64":
        read = np.loadtxt(table, delimiter=",").astype(dtype)
        np.testing.assert_array_equal(read, array[1, 2])


@pytest.mark.parametrize("shape", [(), (7,)])
def test_fewer_axes_are_exported_as_they_are(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = random(*shape)
    source = source_of(recorded(tmp_path / "t", {"value": array}))
    np.testing.assert_array_equal(np.load(export(source, 0, "", tmp_path, "npy")), array)


def test_a_large_slice_is_exported_in_blocks(tmp_path: Path) -> None:
    array = random(KEPT_ELEMENTS // 500 + 3, 500)
    source = source_of(recorded(tmp_path / "t", {"value": array}))
    np.testing.assert_array_equal(np.load(export(source, 0, "m", tmp_path, "npy")), array)


def test_the_words_around_a_heatmap(tmp_path: Path) -> None:
    source = source_of(recorded(tmp_path / "t", {"value": random(2, 12, 31, 31)}))
    title = text_of(tensor_title("bert.layer.0/" + EVIL, source, 0, 3, 120))
    assert "in 0 x   2×12×31×31 float32" in title and "tensor 1 of 3" in title and "\x1b" not in title
    line = text_of(quantity_line(source.edge, "product", source, source.number_of((1, 7)), 100))
    assert line == " input  reference  Δ  multiplier [m·Δ]   slice [1, 7] of 2×12"
    assert text_of(quantity_line(source.edge, "value", source, 0, 34)) == "[input]   slice [0, 0] of 2×12"
    reading = Reading(3, 4, -0.5, (3, 3), (4, 4), (3, 4), -0.5)
    assert text_of(reading_line(reading, (1, 7), ["t"] * 31, ["s"] * 31, False, 80)) == "[1, 7, 3, 4] -0.5   t × s"
    cell = Reading(3, 4, 1.0, (2, 3), (4, 7), (2, 6), -9.0)
    assert text_of(reading_line(cell, (), [], [], False, 80)) == (
        "[3, 4] +1   in its cell -9 at [2, 6], largest of rows 2–3, columns 4–7"
    )
    vector = Reading(0, 4, 3, (0, 0), (4, 5), (0, 4), 3)
    assert text_of(reading_line(vector, (), [], [], True, 80)) == "[4] 3   largest of columns 4–5"
    assert text_of(reading_line(Reading(0, 0, True, (0, 0), (0, 0), (0, 0), True), (), [], [], True, 80)) == "[0] True"


def test_figures_and_histogram_in_words() -> None:
    summary = Summary()
    summary.add(np.array([[-1.0, 0.0, 3.0, np.nan]]))
    text = text_of(summary_lines(summary, True, 200)[0])
    assert "min -1.000" in text and "max +3.000" in text and "NaN 1" in text and "inf 0" in text
    assert "colours ±3.000 over four decades" in text
    assert len(summary_lines(summary, True, 30)) > 2
    counts = np.array([1, 0, 5])
    assert text_of(histogram_line(counts, summary, 40, ascii_only=False)) == "-1.000 ▄ █ +3.000"
    ascii_line = text_of(histogram_line(counts, summary, 40, ascii_only=True))
    assert ascii_line.isascii() and ascii_line != text_of(histogram_line(np.array([5, 0, 1]), summary, 40, True))
    nothing = Summary()
    nothing.add(np.array([np.nan]))
    assert "No element is a number" in text_of(histogram_line(None, nothing, 40, False))
