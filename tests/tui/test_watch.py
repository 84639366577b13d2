"""A trace that is being recorded, seen from outside: each new state once, and nothing that cannot be read yet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.synthetic import synthetic_run, write_synthetic
from tests.tui.builders import node
from tracer.records import Node
from tracer.tracefile.trace import Trace, open_trace
from tracer.tracefile.writer import TraceWriter
from tui.live import watch
from tui.live.watch import Watch, stamp_of

NAN = float("nan")


def calls(leaks: Sequence[float]) -> list[Node]:
    """A model and a call in it for each leak."""
    size = len(leaks) + 1
    inner = [node(index, 0, index + 1, 1, f"layer.{index}", leak) for index, leak in enumerate(leaks, 1)]
    own = np.array([NAN if np.isnan(leaks).any() else 0.0])
    return [node(0, None, size, 0, "", float(np.sum(leaks)), self_leak=own, type="Model"), *inner]


def begun(path: Path) -> TraceWriter:
    writer = TraceWriter(path, force=True)
    unknown = np.array([NAN])
    writer.begin(replace(synthetic_run(), output=unknown, output_reference=unknown, delta=unknown))
    return writer


def test_each_state_is_seen_once(tmp_path: Path) -> None:
    path = tmp_path / "t.dltrace"
    watching = Watch(path)
    assert watching.look() is None, "there is no file"
    path.touch()
    assert watching.look() is None, "it has no head"
    path.unlink()
    writer = begun(path)
    first = watching.look()
    assert first is not None and first.run.status == "recording" and len(first.columns.parent) == 0
    assert watching.look() is None
    writer.note_progress("forward pass: 3 calls so far", calls([NAN, NAN]))
    second = watching.look()
    assert second is not None and len(second.columns.parent) == 3
    assert second.run.message == "forward pass: 3 calls so far" and np.isnan(second.columns.leak).all()
    assert watching.look() is None
    for each in calls([1.0, -3.0, 0.5]):
        writer.add(each, [])
    assert watching.look() is None, "nothing is committed before the end"
    writer.finish(synthetic_run())
    writer.close()
    last = watching.look()
    assert last is not None and last.run.status == "complete"
    assert last.columns.leak.tolist() == [-1.5, 1.0, -3.0, 0.5]
    assert watching.look() is None


def test_an_unchanged_file_is_not_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = begun(tmp_path / "t")
    watching = Watch(tmp_path / "t", open_trace(tmp_path / "t"))
    assert watching.look() is not None, "whatever came since it was opened"
    opened: list[Path] = []
    monkeypatch.setattr(watch, "open_trace", lambda path: opened.append(path) or open_trace(path))
    for _ in range(5):
        assert watching.look() is None
    assert opened == []
    writer.note_progress("more", calls([NAN]))
    assert watching.look() is not None and len(opened) == 1


def test_a_run_that_ends_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = begun(tmp_path / "t")
    watching = Watch(tmp_path / "t")

    def open_and_finish(path: Path) -> Trace:
        trace = open_trace(path)
        for each in calls([1.0]):
            writer.add(each, [])
        writer.finish(synthetic_run())
        monkeypatch.undo()
        return trace

    monkeypatch.setattr(watch, "open_trace", open_and_finish)
    looks = [watching.look() for _ in range(3)]
    assert [look and look.run.status for look in looks] == [None, "complete", None]


def test_a_file_that_another_run_left_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "t.dltrace"
    write_synthetic(path, layers=1)
    watching = Watch(path, stale=stamp_of(path))
    assert watching.look() is None
    begun(path).close()
    trace = watching.look()
    assert trace is not None and trace.run.status == "failed"


def test_a_file_that_is_replaced_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "t.dltrace"
    writer = begun(path)
    watching = Watch(path)
    assert watching.look() is not None
    write_synthetic(tmp_path / "other", layers=1)
    os.replace(tmp_path / "other", path)
    (tmp_path / "t.dltrace-wal").unlink()
    (tmp_path / "t.dltrace-shm").unlink()
    trace = watching.look()
    assert trace is not None and trace.run.status == "complete" and len(trace.columns.parent) > 10
    path.unlink()
    assert watching.look() is None, "it is gone: what was read stays"
    writer.close()
