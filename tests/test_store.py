"""What is written is what is read; one content is stored once; one file is left, whatever happens."""

from __future__ import annotations

import dataclasses
import math
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.synthetic import synthetic_run, write_synthetic
from tracer.errors import TraceFileError
from tracer.records import Edge, HookReport, Node, Panel, Ranking, Run, Statistics, TensorRef
from tracer.tracefile import layout as schema
from tracer.tracefile.trace import open_trace
from tracer.tracefile.writer import TraceWriter, _empty

numbers = st.floats(allow_nan=True, allow_infinity=True, width=64)
names = st.text(st.characters(codec=None, exclude_categories=()), max_size=12)
counts = st.integers(0, 2**53)
shapes = st.lists(st.integers(0, 3), max_size=4).map(tuple)
figures = st.builds(Statistics, counts, counts, numbers, numbers, numbers, numbers)


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
    examples = draw(st.integers(1, 3))
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
    text = names.map(schema.storable)
    return Run(
        model=draw(text), method=draw(text), variant=draw(text), status="complete", message=draw(text), started="",
        seconds=draw(numbers), capture="tensors", rulebook=draw(text),
        versions=draw(st.dictionaries(names, names, max_size=2)), target=draw(text),
        text=draw(text), reference=draw(text), tokens=draw(rows), reference_tokens=draw(rows),
        output=draw(arrays(examples)), output_reference=draw(arrays(examples)), delta=draw(arrays(examples)),
        panel=draw(panels),
    )  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(run=runs())
def test_a_run_is_read_as_it_was_written(run: Run) -> None:
    with TraceWriter(None) as writer:
        writer.begin(run)
        writer.finish(run)
        assert same(writer.trace().run, run)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), name=names, type_=names, source=st.none() | names, shape=shapes, gain=numbers, count=counts)
def test_nodes_and_edges_are_read_as_they_were_written(
    data: st.DataObject, name: str, type_: str, source: str | None, shape: tuple[int, ...], gain: float, count: int
) -> None:
    name, type_ = schema.storable(name), schema.storable(type_)
    source = None if source is None else schema.storable(source)
    leak, own, flow = (data.draw(arrays(1)) for _ in range(3))
    root = node(end=2, children=(1,), leak=leak)
    child = node(
        1, path=f"p/{name}", call=count, kind="lost", type=type_, source=source, leak=leak, self_leak=own, gain=gain,
        relative_leak=gain, largest_secant=gain, small_differences=count, nonfinite=count, seconds=gain,
    )  # fmt: skip
    with TraceWriter(None) as writer:
        run = replace(synthetic_run(), delta=leak)
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


def test_every_dtype_is_read_as_it_was_written() -> None:
    with TraceWriter(None) as writer:
        writer.begin(synthetic_run())
        refs, expected = [], []
        for dtype, item in schema.ITEM_TYPES.items():
            if dtype != "bfloat16":
                values = np.array([0, 1, 1], dtype=item)
                refs.append(writer.put_tensor(values.tobytes(), dtype, (3, 1)))
                expected.append(values.reshape(3, 1))
        half = np.array([1.5, -2.0, np.inf], dtype=np.float32)
        refs.append(writer.put_tensor((half.view(np.uint32) >> 16).astype("<u2").tobytes(), "bfloat16", (3,)))
        writer.set_attributions(refs)
        writer.finish(synthetic_run())
        assert same(writer.trace().attributions, (*expected, half))


def test_one_content_is_stored_once(tmp_path: Path) -> None:
    file = tmp_path / "run.dltrace"
    with TraceWriter(file) as writer:
        writer.begin(synthetic_run())
        raw = np.ones(6, dtype=np.float32).tobytes()
        assert writer.put_tensor(raw, "float32", (2, 3)) == writer.put_tensor(memoryview(raw), "float32", (2, 3))
        assert writer.stored_bytes == 24
        assert writer.put_tensor(raw, "float32", (3, 2)).hash != writer.put_tensor(raw, "float32", (2, 3)).hash
        assert writer.put_tensor(raw, "int32", (2, 3)).hash != writer.put_tensor(raw, "float32", (2, 3)).hash
        writer.finish(synthetic_run())
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT count(*) FROM tensor").fetchone() == (3,)


def test_what_a_cell_cannot_hold_is_elided_and_wrong_sizes_are_refused() -> None:
    with TraceWriter(None) as writer:
        assert writer.put_tensor(b"1234", "float8_e4m3fn", (4,)) == TensorRef(None, "float8_e4m3fn", (4,), elided=True)
        writer._largest = 3
        assert writer.put_tensor(b"1234", "uint8", (4,)).elided
        with pytest.raises(ValueError, match="3 bytes do not make a uint8 tensor"):
            writer.put_tensor(b"123", "uint8", (4,))


def test_one_file_is_left(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "run.dltrace")
    assert [file.name for file in tmp_path.iterdir()] == ["run.dltrace"]
    # Byte 18 of an SQLite file is 1 where no log is used: it then opens from a folder that nobody can write.
    assert (tmp_path / "run.dltrace").read_bytes()[18] == 1


def test_a_run_is_recording_until_it_is_finished(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / "run.dltrace")
    writer.begin(synthetic_run(status="complete"))
    assert open_trace(tmp_path / "run.dltrace").run.status == "recording"
    writer.finish(synthetic_run(status="complete"))
    assert writer.trace().run.status == "complete"
    writer.close()


def test_odd_bytes_of_a_command_line_become_text() -> None:
    odd = "caf\udce9"
    with TraceWriter(None) as writer:
        writer.begin(replace(synthetic_run(), text=odd, tokens=((odd,),)))
        writer.add(node(path=odd), ())
        writer.finish(replace(synthetic_run(), text=odd, tokens=((odd,),)))
        trace = writer.trace()
    assert trace.run.text == trace.nodes[0].path == "caf\\udce9"
    assert trace.run.tokens == ((odd,),)
    assert trace.find(odd).id == 0


def test_any_sqlite_client_can_ask_the_ledger(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "run.dltrace")
    query = "SELECT path, self_leak, share FROM ledger ORDER BY abs(self_leak) DESC LIMIT 1"
    with sqlite3.connect(tmp_path / "run.dltrace") as connection:
        ((path, self_leak, share),) = connection.execute(query).fetchall()
    assert path == "encoder.layer.0.block.0/softmax_1"
    assert self_leak == pytest.approx(-770, abs=0.1) and 0.99 < share < 1


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    file = tmp_path / "run.dltrace"
    file.write_text("mine")
    with pytest.raises(
        TraceFileError, match=r"run.dltrace already exists: give another file, or overwrite it with --force"
    ):
        TraceWriter(file)
    assert file.read_text() == "mine"
    write_synthetic(file, force=True)
    assert open_trace(file).run.status == "complete"
    with pytest.raises(TraceFileError, match="already exists as a folder: give a file in it"):
        TraceWriter(tmp_path, force=True)
    with pytest.raises(TraceFileError, match="No such file or directory"):
        TraceWriter(tmp_path / "nowhere" / "run.dltrace")


@pytest.mark.parametrize(
    ("error", "message"), [(ValueError("boom"), "ValueError: boom"), (KeyboardInterrupt(), "interrupted")]
)
def test_an_error_leaves_a_failed_trace_with_the_reason(tmp_path: Path, error: BaseException, message: str) -> None:
    file = tmp_path / "run.dltrace"
    with pytest.raises(type(error)), TraceWriter(file) as writer:
        writer.begin(synthetic_run())
        writer.add(node(), ())
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["run.dltrace"]
    trace = open_trace(file)
    assert (trace.run.status, trace.run.message, len(trace.nodes)) == ("failed", message, 1)


def test_an_error_before_the_beginning_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError), TraceWriter(tmp_path / "run.dltrace"):
        raise ValueError
    assert list(tmp_path.iterdir()) == []


def test_a_trace_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    writer = write_synthetic(tmp_path / "run.dltrace", status="recording")
    with open_trace(tmp_path / "run.dltrace") as trace:
        assert trace.run.status == "recording" and len(trace.nodes) == 1 + 6 * (1 + 2 + 16)
    writer.close()
    with open_trace(tmp_path / "run.dltrace") as trace:
        assert trace.run.message == "the recording ended before it was finished"


def test_many_tensors_are_committed_on_the_way_and_the_log_stays_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracer.tracefile.writer._COMMIT_SECONDS", math.inf)
    path, size = tmp_path / "run.dltrace", 2**22
    writer = TraceWriter(path)
    writer.begin(synthetic_run())
    for number in range(22):
        raw = np.full(size // 4, number, np.float32).tobytes()
        writer.put_tensor(raw, "float32", (size // 4,))
    other = sqlite3.connect(path)
    (seen,) = other.execute("SELECT count(*) FROM tensor").fetchone()
    other.close()
    assert seen == 20  # those of the last 16 MB wait
    assert Path(f"{path}-wal").stat().st_size < 25e6  # moved into the file at each commit
    writer.discard()


def test_a_killed_process_leaves_a_trace_that_opens(tmp_path: Path) -> None:
    file = tmp_path / "run.dltrace"
    code = (
        "import os, signal; from tests.synthetic import write_synthetic;"
        f"writer = write_synthetic({str(file)!r}, tensors=True, status='recording');"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parent.parent)
    with open_trace(file) as trace:
        assert trace.run.status == "recording"
        assert trace.tensor(trace.nodes[3], "input").shape == (1, 12, 8)
    # Copied without its log the file still opens or says in one line that it cannot.
    alone = tmp_path / "alone" / "run.dltrace"
    alone.parent.mkdir()
    alone.write_bytes(file.read_bytes())
    with (
        pytest.raises(TraceFileError, match=r"damaged or cut short|holds no run yet")
        if alone.stat().st_size == len(_empty(log=True))  # all that was written is in the log
        else open_trace(alone)
    ):
        open_trace(alone)


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / "run.dltrace")
    writer.begin(synthetic_run())
    writer._connection.execute("PRAGMA max_page_count = 20")
    with pytest.raises(
        TraceFileError, match=r"cannot write .*run.dltrace \(database or disk is full\): look at the free"
    ):
        for value in range(100):
            writer.put_tensor(bytes([value]) * 100_000, "uint8", (100_000,))
    writer.close()


def test_force_keeps_the_old_file_until_there_is_a_new_one(tmp_path: Path) -> None:
    file = tmp_path / "run.dltrace"
    write_synthetic(file)
    before = file.read_bytes()
    with TraceWriter(file, force=True):
        assert file.read_bytes() != before
    assert file.read_bytes() == before  # nothing was begun
    writer = TraceWriter(file, force=True)
    writer.begin(synthetic_run())
    writer.discard()
    assert file.read_bytes() == before  # what was begun was no run after all
    write_synthetic(file, layers=2, force=True)
    assert file.read_bytes() != before
    assert list(tmp_path.iterdir()) == [file]
