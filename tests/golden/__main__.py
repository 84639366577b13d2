"""Makes the golden trace of this version out of the one before: `python -m tests.golden`.

The run stays the same, so that one test holds all of them: a matmul, a softmax and a ReLU of captum's own, recorded
with tensors, two examples of three tokens.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from tracer.diagnosis.faults import diagnose
from tracer.tracefile.amend import amend
from tracer.tracefile.layout import VERSION
from tracer.tracefile.rows import refs_from_json
from tracer.tracefile.trace import Trace, open_trace
from tracer.tracefile.writer import TraceWriter

FOLDER = Path(__file__).parent


def copy(old: Trace, path: Path) -> None:
    """Write everything in `old` into a new file, in the layout of this version."""
    with TraceWriter(path) as writer:
        writer.begin(old.run)
        for digest, row, dtype, shape, _, _ in old.stored_tensors():
            sizes = tuple(int(size) for size in shape.strip("[]").split(", ") if size)
            assert writer.put_tensor(old.content(row, "it"), dtype, sizes).hash == digest
        for node in old.nodes:
            source = node.source and node.source.rpartition("/")[2]
            writer.add(replace(node, source=source), old.edges(node))
        ((attributions,),) = old.query("SELECT attributions FROM run")
        writer.set_attributions(refs_from_json(attributions))
        writer.add_notes(old.notes)
        writer.finish(old.run)
    with open_trace(path) as new:
        amend(new, counterfactuals=old.counterfactuals)
        amend(new, findings=diagnose(new))
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA page_size = 4096; VACUUM")


if __name__ == "__main__":
    with open_trace(FOLDER / f"schema-{VERSION - 1}.dltrace") as trace:
        copy(trace, FOLDER / f"schema-{VERSION}.dltrace")
