"""A trace in memory keeps its tensors beside its database, and they read as those of a file do."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import tracer
from tracer.errors import TraceFileError
from tracer.report.safetensors import write_safetensors
from tracer.tracefile.trace import Trace

from .models import Attention


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trace, Trace]:
    """One run in memory and in a file."""
    torch.manual_seed(0)
    model, x = Attention().eval(), torch.randn(2, 8)
    path: Path = tmp_path_factory.mktemp("run") / "run.dltrace"
    return tracer.record(model, x, target=0), tracer.record(model, x, target=0, path=path)


def test_a_trace_in_memory_reads_as_its_file_does(traces: tuple[Trace, Trace]) -> None:
    memory, file = traces
    assert len(memory.nodes) == len(file.nodes) > 4
    for node in memory.nodes:
        for mine, theirs in zip(memory.edges(node.id), file.edges(node.id), strict=True):
            assert (mine.value, mine.multiplier) == (theirs.value, theirs.multiplier)
            name = "input" if mine.direction == "in" else "output"
            whole = memory.tensor(node, name, mine.slot)
            np.testing.assert_array_equal(whole, file.tensor(node, name, mine.slot))
            rows = memory.tensor_rows(node, name, 1, 3, mine.slot)
            np.testing.assert_array_equal(rows, file.tensor_rows(node, name, 1, 3, mine.slot))
            parts = list(memory.tensor_blocks(node, name, 0, 7, mine.slot, rows=2))
            np.testing.assert_array_equal(np.concatenate(parts), whole.reshape(-1, whole.shape[-1])[:7])
            assert all(len(part) <= 2 for part in parts)
    np.testing.assert_array_equal(memory.attributions[0], file.attributions[0])


def test_stored_tensors_and_exports_are_those_of_the_file(traces: tuple[Trace, Trace]) -> None:
    found = [sorted(trace.stored_tensors(), key=lambda row: row[0]) for trace in traces]
    assert [(row[0], *row[2:]) for row in found[0]] == [(row[0], *row[2:]) for row in found[1]]
    assert len(found[0]) > 4
    for trace, rows in zip(traces, found, strict=True):
        assert [len(trace.content(row[1], "it")) for row in rows] == [row[4] for row in rows]
    exported = [io.BytesIO(), io.BytesIO()]
    for trace, file in zip(traces, exported, strict=True):
        write_safetensors(trace, file)
    start = [int.from_bytes(file.getvalue()[:8], "little") + 8 for file in exported]
    contents = [file.getvalue()[begin:] for file, begin in zip(exported, start, strict=True)]
    assert len(contents[0]) > sum(row[4] for row in found[0])
    assert contents[0] == contents[1]


def test_a_trace_in_memory_is_read_from_several_threads(traces: tuple[Trace, Trace]) -> None:
    """A Python function in the database would wait for the interpreter while another thread waits for the database."""
    trace = traces[0]
    expected, done = trace.tensor(1, "output"), []

    def read(work: Callable[[], object]) -> None:
        for _ in range(2_000):
            work()
        done.append(work)

    reading = [lambda: trace.tensor(1, "output"), lambda: trace.edges(1), lambda: trace.tensor_rows(1, "output", 0, 1)]
    threads = [threading.Thread(target=read, args=(work,), daemon=True) for work in reading]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 3
    np.testing.assert_array_equal(trace.tensor(1, "output"), expected)


def test_a_closed_trace_in_memory_says_so() -> None:
    torch.manual_seed(0)
    trace = tracer.record(Attention().eval(), torch.randn(1, 8), target=0)
    contents = trace._reader.contents
    assert contents
    trace.close()
    assert not contents  # its memory is free again
    with pytest.raises(TraceFileError, match="was closed"):
        trace.tensor_rows(1, "input", 0, 1)
