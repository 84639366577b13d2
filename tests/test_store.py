"""One content is stored once; one file is left, whatever happens."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.synthetic import synthetic_run, write_synthetic
from tests.test_rows import node, same
from tracer.errors import TraceFileError
from tracer.records import TensorRef
from tracer.tracefile.cells import ITEM_TYPES
from tracer.tracefile.trace import open_trace
from tracer.tracefile.writer import TraceWriter, _empty


def test_every_dtype_is_read_as_it_was_written() -> None:
    with TraceWriter(None) as writer:
        writer.begin(synthetic_run())
        refs, expected = [], []
        for dtype, item in ITEM_TYPES.items():
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
    assert file.read_bytes() == before  # what was begun was not a run after all
    write_synthetic(file, layers=2, force=True)
    assert file.read_bytes() != before
    assert list(tmp_path.iterdir()) == [file]
