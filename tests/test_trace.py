"""Reading is lazy, exact, and safe from any file: a bad one is one clear line, never a traceback of SQLite's."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.synthetic import write_synthetic
from tracer.errors import InputError, TraceFileError
from tracer.tracefile.columns import _is_preorder, worst_first
from tracer.tracefile.trace import Trace, open_trace

Change = tuple[str, ...]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("traces") / "run.dltrace"
    write_synthetic(path, layers=3, examples=2, tensors=True)
    return path


@pytest.fixture(scope="module")
def trace(file: Path) -> Trace:
    return open_trace(file)


def changed(file: Path, target: Path, *statements: str) -> Path:
    """A copy of `file` on which somebody ran SQL."""
    target.write_bytes(file.read_bytes())
    connection = sqlite3.connect(target)
    connection.executescript(";".join(statements))
    connection.close()
    return target


def read_all(path: Path) -> None:
    """Read everything there is to read."""
    with open_trace(path) as trace:
        for node in trace.nodes:
            trace.edges(node)
            trace.tensor_rows(node, "input", 0, 2)
            trace.tensor(node, "input")
        assert trace.attributions and trace.leaks(0)


def test_the_columns_are_those_of_the_nodes(trace: Trace) -> None:
    columns = trace.columns
    for index, node in enumerate(trace.nodes):
        assert node.id == index
        assert (columns.parent[index] if node.parent is not None else None) == node.parent
        assert (columns.end[index], columns.depth[index], columns.call[index]) == (node.end, node.depth, node.call)
        assert (columns.kinds[index], columns.types[index], columns.paths[index]) == (node.kind, node.type, node.path)
        assert columns.leak[index] == node.leak.sum() and columns.self_leak[index] == node.self_leak.sum()
        assert [trace.nodes[child].parent for child in node.children] == [index] * len(node.children)
        own = node.leak - sum((trace.nodes[child].leak for child in node.children), start=np.zeros(2))
        np.testing.assert_allclose(own, node.self_leak, atol=1e-9)


def test_the_self_leaks_of_each_example_sum_to_its_delta(trace: Trace) -> None:
    for example in range(2):
        assert trace.leaks(example)[1].sum() == pytest.approx(trace.delta[example], rel=1e-12)
        assert np.array_equal(trace.leaks(example)[0], [node.leak[example] for node in trace.nodes])
    assert trace.leaks()[1].sum() == pytest.approx(trace.delta.sum(), rel=1e-12)
    with pytest.raises(InputError, match="there is no example 2: the trace holds 2, 0 to 1"):
        trace.leaks(2)


def test_nodes_are_a_sequence(trace: Trace) -> None:
    everything = [node.path for node in trace.nodes]
    assert [node.path for node in trace.nodes[2:5]] == everything[2:5]
    assert [node.path for node in trace.nodes[::-7]] == everything[::-7]
    assert trace.nodes[-1].path == everything[-1]
    assert trace.nodes[5:2] == []
    with pytest.raises(IndexError):
        trace.nodes[len(everything)]


def test_the_nodes_of_a_trace_that_nobody_keeps_are_read(file: Path) -> None:
    nodes = open_trace(file).nodes
    assert len([node.path for node in nodes]) == len(nodes) > 3


def test_worst_is_by_size_and_a_nan_is_worst(trace: Trace) -> None:
    assert trace.worst(2)[0].path == "encoder.layer.0.block.0/softmax_1"
    assert worst_first(np.array([1.0, -3.0, np.nan, 2.0, -np.inf, 3.0])).tolist() == [2, 4, 1, 5, 3, 0]


def test_rows_of_a_tensor_are_those_of_the_whole(trace: Trace) -> None:
    node = trace.nodes[4]
    whole = trace.tensor(node, "multiplier_out").reshape(-1, 8)
    assert np.array_equal(trace.tensor_rows(node, "multiplier_out", 3, 9), whole[3:9])
    assert np.array_equal(trace.tensor_rows(node, "multiplier_out", 20, 99), whole[20:])
    assert trace.tensor_rows(node, "multiplier_out", 9, 3).shape == (0, 8)


def test_asking_for_what_is_not_there_says_so(trace: Trace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the trace has no call 1 of 'encoder'"):
        trace.find("encoder", 1)
    with pytest.raises(TraceFileError, match=r"the trace has no input 7 of encoder.layer.0: see trace.edges"):
        trace.tensor(1, "input", 7)
    with pytest.raises(ValueError, match="'logits' is none of input, reference"):
        trace.tensor(1, "logits")  # type: ignore[arg-type]
    write_synthetic(tmp_path / "summary.dltrace", tensors=False)
    with pytest.raises(
        TraceFileError, match=r"figures only, not output 0 of the model: record it with --capture tensors"
    ):
        open_trace(tmp_path / "summary.dltrace").tensor(0, "output")


def test_a_trace_in_memory_reads_as_one_in_a_file(trace: Trace) -> None:
    memory = write_synthetic(None, layers=3, examples=2, tensors=True).trace()
    assert memory.path is None
    assert memory.columns.paths == trace.columns.paths and np.array_equal(memory.columns.leak, trace.columns.leak)


def test_opening_reads_the_head_only(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "run.dltrace", layers=20, ops_per_layer=500)
    start = time.perf_counter()
    with open_trace(tmp_path / "run.dltrace") as trace:
        assert time.perf_counter() - start < 0.1
        assert "columns" not in trace.__dict__
        assert len(trace.nodes) == 1 + 20 + 100 + 10_000


# What no trace is.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "bad.dltrace is empty, so it is not a trace: give a file that 'deeplift-tracer trace' or 'demo' wrote"),
        (b"hello, world", "bad.dltrace is not a trace: give a file that 'deeplift-tracer trace' or 'demo' wrote"),
        (b"S", r"bad.dltrace is damaged or cut short (1 bytes): record it again"),
        (b"\0" * 4096, "bad.dltrace is not a trace: give a file that 'deeplift-tracer trace' or 'demo' wrote"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.dltrace").write_bytes(content)
    with pytest.raises(TraceFileError, match=re.escape(message)):
        open_trace(tmp_path / "bad.dltrace")


def test_a_missing_file_a_folder_and_another_database_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceFileError, match=r"none\.dltrace does not exist: give a file that"):
        open_trace(tmp_path / "none.dltrace")
    with pytest.raises(TraceFileError, match="Is a directory"):
        open_trace(tmp_path)
    with pytest.raises(TraceFileError, match="null byte"):
        open_trace("a\0b")
    sqlite3.connect(tmp_path / "other.db").executescript("CREATE TABLE t (x)")
    with pytest.raises(TraceFileError, match=r"other.db is an SQLite database but not a trace"):
        open_trace(tmp_path / "other.db")


def test_odd_file_names_open(file: Path, tmp_path: Path) -> None:
    for name in ("a?mode=rwc.dltrace", "50%25 #1.dltrace", "é ü.dltrace"):
        (tmp_path / name).write_bytes(file.read_bytes())
        assert open_trace(tmp_path / name).run.model == "synthetic"


def test_a_newer_trace_asks_for_an_upgrade(file: Path, tmp_path: Path) -> None:
    path = changed(file, tmp_path / "new.dltrace", "PRAGMA user_version = 7")
    message = "new.dltrace was written by a newer version (schema 7, this one reads up to 3): upgrade deeplift-tracer"
    with pytest.raises(TraceFileError, match=re.escape(message)):
        open_trace(path)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_cut_file_is_one_clear_line(file: Path, tmp_path: Path, part: float) -> None:
    content = file.read_bytes()
    cut = tmp_path / "cut.dltrace"
    cut.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(
        TraceFileError, match=r"cut\.dltrace is (damaged or cut short \(.*\): record it again|empty)"
    ) as error:
        open_trace(cut)
    assert "\n" not in str(error.value)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_file_reads_or_is_one_clear_line(file: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 30))):
        place = data.draw(st.integers(0, 8191) | st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.dltrace"
    path.write_bytes(content)
    try:
        read_all(path)
    except TraceFileError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("CREATE TRIGGER t AFTER INSERT ON run BEGIN DELETE FROM node; END", "has an unknown part 't'"),
        ("CREATE TABLE more (x)", "has an unknown part 'more'"),
        ("CREATE INDEX i ON node (type)", "has an unknown part 'i'"),
        ("CREATE VIRTUAL TABLE words USING fts5(x)", "has an unknown part 'words'"),
        ("DROP VIEW ledger", "has a changed layout"),
        ("DROP VIEW ledger; CREATE VIEW ledger AS SELECT load_extension('x')", "has a changed layout"),
        ("ALTER TABLE node ADD COLUMN x", "has a changed layout"),
    ],
)
def test_a_changed_schema_is_refused(file: Path, tmp_path: Path, statement: str, message: str) -> None:
    with pytest.raises(TraceFileError, match=message):
        open_trace(changed(file, tmp_path / "bad.dltrace", statement))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE run SET status = 'fine'",
        "UPDATE run SET panel = '[]'",
        "UPDATE run SET panel = '" + "[" * 100_000 + "'",
        "UPDATE run SET tokens = '[[1]]'",
        "UPDATE run SET delta = x'00'",
        "UPDATE run SET delta = 'x'",
        "UPDATE run SET model = x'ff'",
        "UPDATE run SET model = CAST(x'ff' AS TEXT)",
        "UPDATE run SET versions = '[]'",
        "UPDATE run SET seconds = 'long'",
        'UPDATE run SET attributions = \'[["00", "float32", [1]]]\'',
        "UPDATE run SET attributions = '7'",
        "UPDATE node SET figures = x'00' WHERE id = 3",
        "UPDATE node SET figures = 'x'",
        "UPDATE node SET figures = (SELECT figures FROM node WHERE id = 2) WHERE id = 3",
        "DELETE FROM node WHERE id = 3",
        "UPDATE node SET path = x'ff' WHERE id = 3",
        "UPDATE node SET kind = 'virus' WHERE id = 3",
        "UPDATE node SET leak_examples = x'' WHERE id = 3",
        "UPDATE node SET leak_examples = x'00' WHERE id = 3",
        "UPDATE node SET nonfinite = 'many' WHERE id = 3",
        "UPDATE edge SET shape = '[-1]' WHERE node = 3",
        "UPDATE edge SET shape = '{}' WHERE node = 3",
        "UPDATE edge SET value_count = 'x' WHERE node = 3",
        "UPDATE edge SET flow_examples = NULL || 'x', flow_examples = 'x' WHERE node = 3",
        "UPDATE tensor SET shape = '[1000000000000, 1000000]'",
        "UPDATE tensor SET shape = '[0, 4611686018427387904, 4611686018427387904]', data = x''",
        "UPDATE tensor SET shape = '[" + "1, " * 70 + "1]'",
        "UPDATE tensor SET dtype = 'object'",
        "UPDATE tensor SET data = zeroblob(length(data))",
        "UPDATE tensor SET data = x'00'",
        "UPDATE tensor SET data = 'text'",
        "DELETE FROM tensor",
    ],
)
def test_lying_content_is_one_clear_line(file: Path, tmp_path: Path, statement: str) -> None:
    path = changed(file, tmp_path / "bad.dltrace", statement)
    with pytest.raises(TraceFileError, match=r"bad\.dltrace is damaged or cut short \(.*\): record it again") as error:
        read_all(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_nothing_can_be_written_through_a_trace(file: Path, tmp_path: Path) -> None:
    trace = open_trace(changed(file, tmp_path / "run.dltrace"))
    with pytest.raises(sqlite3.OperationalError, match=r"readonly"):
        trace._reader.connection.execute("DELETE FROM node")
    pragmas = [
        trace._reader.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("query_only", "trusted_schema")
    ]
    assert pragmas == [1, 0]


@pytest.mark.parametrize(
    ("parent", "end", "depth", "good"),
    [
        ([-1, 0, 1, 0], [4, 3, 3, 4], [0, 1, 2, 1], True),
        ([-1, -1], [1, 2], [0, 0], True),
        ([-1, 0, 0, 0], [4, 3, 3, 4], [0, 1, 1, 1], False),  # 2 lies in the subtree of 1, whose child it is not
        ([-1, 0, 1, 1], [4, 3, 3, 4], [0, 1, 2, 2], False),  # 3 says it is a child of 1, whose subtree has ended
        ([-1, 0, 1], [3, 2, 3], [0, 1, 2], False),
        ([-1, 0], [2, 3], [0, 1], False),
        ([-1, 0], [2, 1], [0, 1], False),
        ([-1, 0], [2, 2], [0, 2], False),
        ([-1, 1], [2, 2], [0, 1], False),
        ([-2], [1], [0], False),
    ],
)
def test_only_a_tree_in_preorder_is_a_tree(parent: list[int], end: list[int], depth: list[int], good: bool) -> None:
    arrays = (np.array(column) for column in (range(len(parent)), parent, end, depth))
    assert _is_preorder(*arrays) is good


def test_a_gap_in_an_unfinished_trace_hides_what_follows(file: Path, tmp_path: Path) -> None:
    path = changed(file, tmp_path / "r.dltrace", "UPDATE run SET status = 'recording'", "DELETE FROM node WHERE id = 9")
    with open_trace(path) as trace:
        assert len(trace.nodes) == 9 and trace.nodes[0].end == 9
        assert trace.nodes[2].children == tuple(range(3, 9))


def test_a_file_without_a_run_says_so(file: Path, tmp_path: Path) -> None:
    path = changed(file, tmp_path / "bad.dltrace", "DELETE FROM run")
    with pytest.raises(
        TraceFileError, match=r"bad\.dltrace holds no run yet: its recording has not begun, or was killed"
    ):
        open_trace(path)


def test_a_closed_trace_says_so(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "run.dltrace", tensors=True).close()
    trace = open_trace(tmp_path / "run.dltrace")
    trace.close()
    with pytest.raises(TraceFileError, match=r"run\.dltrace was closed: open it again"):
        trace.tensor(3, "input")


def test_a_file_is_read_from_several_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite asks Python now and then whether a query takes too long, which must not stop both."""
    monkeypatch.setattr("tracer.tracefile.bounds._STEPS", 10)
    write_synthetic(tmp_path / "run.dltrace", layers=20).close()
    done: list[int] = []
    with open_trace(tmp_path / "run.dltrace") as trace:

        def read(which: int) -> None:
            for _ in range(60):
                trace.sources(0, len(trace.nodes)) if which else [trace.edges(node) for node in range(40)]
            done.append(which)

        threads = [threading.Thread(target=read, args=(which,), daemon=True) for which in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(done) == [0, 1]
