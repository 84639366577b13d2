"""The traces that are mutated: the golden ones, and synthetic ones that together hold all that a trace can hold."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np

from tests.fuzzing.sample import Sample
from tests.synthetic import write_synthetic
from tracer.records import Counterfactual, Finding, Note
from tracer.tracefile.amend import amend, writing
from tracer.tracefile.trace import open_trace

_COMMAND = '{"model": "owner/classifier", "text": "a film", "rules": ["softmax=exact"], "explicit": ["gelu"]}'
_GOLDEN = Path(__file__).parent.parent / "golden"


def seeds() -> list[Sample]:
    """All seeds, the same in every process."""
    found = [Sample.read(path.stem, path) for path in sorted(_GOLDEN.glob("*.dltrace"))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed.dltrace"
        for name, options in {
            "one": {"layers": 2, "ops_per_layer": 4, "tensors": True},
            "many": {"layers": 1, "ops_per_layer": 4, "examples": 300},
            "large": {"layers": 3, "ops_per_layer": 16},
            "failed": {"layers": 2, "ops_per_layer": 4, "examples": 3, "status": "failed"},
        }.items():
            write_synthetic(path, force=True, **options)  # type: ignore[arg-type]
            if name != "failed":
                _attach(path)
            if name in ("one", "many"):  # small pages as well as those of the writer
                with closing(sqlite3.connect(path)) as connection:
                    connection.executescript("PRAGMA page_size = 4096; VACUUM")
            found.append(Sample.read(name, path))
        Sample.remove(path)
        found += _recording(path)
    return found


def _attach(path: Path) -> None:
    """Give the trace counterfactuals and a finding, as `repair` does, and the command that made it."""
    with open_trace(path) as trace:
        nodes, examples = len(trace.nodes), trace.run.examples
        runs = [
            Counterfactual(step, "softmax exact (1 call)", "softmax", ("softmax=exact",), np.ones(examples), leak, 0.1)
            for step, leak in enumerate((np.zeros(0), np.arange(float(nodes))))
        ]
        found = Finding("softmax-normalised", 4, "encoder", 0, "net.py:3", 0.9, "it leaks", "make it exact")
        amend(trace, counterfactuals=runs, findings=[found])
        with writing(trace) as connection:
            connection.execute("UPDATE run SET command = ?", (_COMMAND,))


def _recording(path: Path) -> list[Sample]:
    """A trace whose writer was killed: with its log, and copied without it."""
    notes = [Note("training mode"), Note("pool", "net.pool", 1, "kernel_size=4", 0.25, "net.py:3 forward")]
    writer = write_synthetic(path, layers=2, ops_per_layer=4, examples=2, tensors=True, status="recording")
    writer.add_notes(notes)
    writer.commit()
    copy = path.with_name("copy.dltrace")
    for ending in ("", "-wal"):
        shutil.copy(f"{path}{ending}", f"{copy}{ending}")
    writer.close()
    log = Sample.read("recording", copy)
    with_notes = Sample.read("notes", path)
    return [log, Sample("alone", log.file), with_notes]
