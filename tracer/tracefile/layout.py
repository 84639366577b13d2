"""The layout of a trace file, an SQLite database: its tables, its view and its versions; FORMAT.md describes them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

APPLICATION_ID = 0x444C5452  # "DLTR"
VERSION = 3

STATISTICS = ("value", "reference", "difference", "multiplier")
FIGURES = ("count", "nonfinite", "minimum", "maximum", "mean", "norm")
STORED = ("value", "reference", "multiplier")

RUN_COLUMNS = (
    "id", "model", "method", "variant", "status", "message", "started", "seconds", "capture", "rulebook", "versions",
    "target", "text", "reference", "tokens", "reference_tokens", "output", "output_reference", "delta", "panel",
    "command",
)  # fmt: skip

# The blobs stand last: those of many examples lie on further pages, which a scan of the figures never reads.
NODE_COLUMNS = (
    "id", "parent", "subtree_end", "depth", "call", "kind", "leak", "self_leak", "gain", "relative_leak", "seconds",
    "type", "path", "source", "rule", "largest_secant", "small_differences", "dropped_differences", "nonfinite",
    "figures", "leak_examples", "self_leak_examples",
)  # fmt: skip

# A node's numbers once more, in one cell: 100 000 cells are read in 0.1 s, 1 000 000 are not.
NODE_FIGURES = struct.Struct("<5q5d")
NODE_FIGURE_NAMES = (
    "id", "parent", "end", "depth", "call", "leak", "self_leak", "gain", "relative_leak", "seconds",
)  # fmt: skip

EDGE_COLUMNS = (
    "node", "direction", "slot", "name", "shape", "dtype", "flow", "flow_examples",
    *(f"{tensor}_{figure}" for tensor in STATISTICS for figure in FIGURES),
    *(f"{tensor}_hash" for tensor in STORED),
)  # fmt: skip

NOTE_COLUMNS = ("what", "path", "call", "detail", "amount", "source")

COUNTERFACTUAL_COLUMNS = (
    "step", "change", "pattern", "rules", "delta", "delta_examples", "self_leak", "seconds",
)  # fmt: skip

FINDING_COLUMNS = (
    "kind", "path", "call", "source", "share", "message", "advice", "caused_by", "delta_after", "node", "nodes",
    "issues", "evidence",
)  # fmt: skip
SECOND_FINDING_COLUMNS = FINDING_COLUMNS[: FINDING_COLUMNS.index("node")]
"""Those of version 2."""

_STATISTIC_COLUMNS = ",\n    ".join(
    f"{tensor}_{figure} {'INTEGER' if figure in ('count', 'nonfinite') else 'REAL'}"
    for tensor in STATISTICS
    for figure in FIGURES
)

SCHEMA = {
    "run": """CREATE TABLE run (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    model TEXT NOT NULL, method TEXT NOT NULL, variant TEXT NOT NULL, status TEXT NOT NULL, message TEXT NOT NULL,
    started TEXT NOT NULL, seconds REAL, capture TEXT NOT NULL, rulebook TEXT NOT NULL, versions TEXT NOT NULL,
    target TEXT NOT NULL, text TEXT NOT NULL, reference TEXT NOT NULL, tokens TEXT NOT NULL,
    reference_tokens TEXT NOT NULL, output BLOB NOT NULL, output_reference BLOB NOT NULL, delta BLOB NOT NULL,
    panel TEXT NOT NULL, attributions TEXT NOT NULL DEFAULT '[]', command TEXT NOT NULL DEFAULT ''
)""",
    "node": """CREATE TABLE node (
    id INTEGER PRIMARY KEY, parent INTEGER, subtree_end INTEGER NOT NULL, depth INTEGER NOT NULL,
    call INTEGER NOT NULL, kind TEXT NOT NULL, leak REAL, self_leak REAL, gain REAL, relative_leak REAL, seconds REAL,
    type TEXT NOT NULL, path TEXT NOT NULL, source TEXT, rule TEXT NOT NULL, largest_secant REAL,
    small_differences INTEGER NOT NULL, dropped_differences INTEGER NOT NULL, nonfinite INTEGER NOT NULL,
    figures BLOB NOT NULL, leak_examples BLOB NOT NULL, self_leak_examples BLOB NOT NULL,
    UNIQUE (path, call)
)""",
    "edge": f"""CREATE TABLE edge (
    node INTEGER NOT NULL, direction TEXT NOT NULL, slot INTEGER NOT NULL, name TEXT NOT NULL, shape TEXT NOT NULL,
    dtype TEXT NOT NULL, flow REAL, flow_examples BLOB NOT NULL,
    {_STATISTIC_COLUMNS},
    value_hash BLOB, reference_hash BLOB, multiplier_hash BLOB,
    PRIMARY KEY (node, direction, slot)
) WITHOUT ROWID""",
    "tensor": """CREATE TABLE tensor (
    id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, dtype TEXT NOT NULL, shape TEXT NOT NULL, data BLOB NOT NULL
)""",
    "note": """CREATE TABLE note (
    id INTEGER PRIMARY KEY, what TEXT NOT NULL, path TEXT NOT NULL, call INTEGER, detail TEXT NOT NULL, amount REAL,
    source TEXT
)""",
    "counterfactual": """CREATE TABLE counterfactual (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL, change TEXT NOT NULL, pattern TEXT NOT NULL, rules TEXT NOT NULL,
    delta REAL, delta_examples BLOB NOT NULL, self_leak BLOB NOT NULL, seconds REAL
)""",
    "finding": """CREATE TABLE finding (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, path TEXT NOT NULL, call INTEGER NOT NULL, source TEXT, share REAL,
    message TEXT NOT NULL, advice TEXT NOT NULL, caused_by TEXT NOT NULL, delta_after REAL, node INTEGER,
    nodes TEXT NOT NULL, issues TEXT NOT NULL, evidence TEXT NOT NULL
)""",
    "ledger": """CREATE VIEW ledger AS SELECT
    path, call, kind, type, leak, self_leak, gain,
    abs(self_leak) / (SELECT sum(abs(self_leak)) FROM node) AS share
FROM node""",
}
"""Name → SQL of everything in a trace file; a file with anything more, less or else is refused."""

_SECOND_SCHEMA = {
    **SCHEMA,
    "finding": """CREATE TABLE finding (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, path TEXT, call INTEGER, source TEXT, share REAL, message TEXT NOT NULL,
    advice TEXT NOT NULL, caused_by TEXT NOT NULL, delta_after REAL
)""",
}
_FIRST_SCHEMA = {
    **{name: sql for name, sql in SCHEMA.items() if name not in ("note", "counterfactual")},
    "run": SCHEMA["run"].replace(", command TEXT NOT NULL DEFAULT ''", ""),
    "finding": """CREATE TABLE finding (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, path TEXT, call INTEGER, share REAL, message TEXT NOT NULL,
    advice TEXT NOT NULL
)""",
}
SCHEMAS = {1: _FIRST_SCHEMA, 2: _SECOND_SCHEMA, VERSION: SCHEMA}
"""The layout of each version. Version 2 brought notes, counterfactuals and `command`; version 3 the rest of a finding,
and was the first that recordings write findings into."""


def insertion(table: str, columns: Sequence[str]) -> str:
    """The INSERT statement with one placeholder a column."""
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
