"""The layout of a trace file: one SQLite database, its tables, its view, and how a run's head becomes a row and back.

NaN is stored as NULL in number columns, as SQLite itself does; in JSON columns "nan", "inf" and "-inf" are strings, so
that any strict JSON reader takes them. Number arrays are little-endian float64 blobs, one number an example. In an edge
the hash of a tensor is NULL where there is none and empty where it was elided.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np
import xxhash

from tracer.records import Floats, HookReport, Panel, Ranking, Run, Statistics, TensorRef

# What decoding a cell that is not what it must be raises; a trace file is nobody's friend.
MISSHAPEN = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError)

APPLICATION_ID = 0x444C5452  # "DLTR"
VERSION = 2

LONGEST_JSON = 1 << 26
"""Bytes of JSON in the row of a run; decoded they take up to twenty times as many."""

# What sqlite3 takes and gives for one cell.
Cell: TypeAlias = Any

ITEM_TYPES = {
    "bool": "?", "uint8": "u1", "int8": "i1", "int16": "<i2", "int32": "<i4", "int64": "<i8", "uint16": "<u2",
    "uint32": "<u4", "uint64": "<u8", "float16": "<f2", "float32": "<f4", "float64": "<f8", "complex64": "<c8",
    "complex128": "<c16", "bfloat16": "<u2",
}  # fmt: skip
"""numpy's code for the stored bytes of each tensor dtype; bfloat16 is read as its 16 bits and widened."""

STATISTICS = ("value", "reference", "difference", "multiplier")
FIGURES = ("count", "nonfinite", "minimum", "maximum", "mean", "norm")
STORED = ("value", "reference", "multiplier")
_figures = attrgetter(*FIGURES)
_NO_FIGURES = (None,) * len(FIGURES)

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
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, path TEXT, call INTEGER, source TEXT, share REAL, message TEXT NOT NULL,
    advice TEXT NOT NULL, caused_by TEXT NOT NULL, delta_after REAL
)""",
    "ledger": """CREATE VIEW ledger AS SELECT
    path, call, kind, type, leak, self_leak, gain,
    abs(self_leak) / (SELECT sum(abs(self_leak)) FROM node) AS share
FROM node""",
}
"""Name → SQL of everything in a trace file; a file with anything more, less or else is refused."""

_FIRST_SCHEMA = {
    **{name: sql for name, sql in SCHEMA.items() if name not in ("note", "counterfactual")},
    "run": SCHEMA["run"].replace(", command TEXT NOT NULL DEFAULT ''", ""),
    "finding": """CREATE TABLE finding (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, path TEXT, call INTEGER, share REAL, message TEXT NOT NULL,
    advice TEXT NOT NULL
)""",
}
SCHEMAS = {1: _FIRST_SCHEMA, VERSION: SCHEMA}
"""The layout of each version; version 1 had no notes, no counterfactuals and no `command`."""


def insertion(table: str, columns: Sequence[str]) -> str:
    """The INSERT statement with one placeholder a column."""
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def run_row(run: Run) -> tuple[Cell, ...]:
    """The cells of `run` in the order of RUN_COLUMNS."""
    texts = (run.model, run.method, run.variant, run.status, run.message, run.started)
    return (
        1,
        *map(storable, texts),
        run.seconds,
        run.capture,
        storable(run.rulebook),
        json.dumps(run.versions),
        *map(storable, (run.target, run.text, run.reference)),
        json.dumps(run.tokens),
        json.dumps(run.reference_tokens),
        pack(run.output),
        pack(run.output_reference),
        pack(run.delta),
        json.dumps(_panel_to_json(run.panel), allow_nan=False),
        storable(run.command),
    )


def run_from_row(row: Sequence[Cell]) -> Run:
    """The run of a row with RUN_COLUMNS; ValueError, TypeError or KeyError where a cell is not what it must be."""
    cells = dict(zip(RUN_COLUMNS, row, strict=True))
    status = cells["status"]
    if status not in ("recording", "complete", "failed"):
        raise ValueError(f"unknown status {status!r}")
    size = sum(len(cells[name]) for name in ("versions", "tokens", "reference_tokens", "panel"))
    if size > LONGEST_JSON:
        raise ValueError(f"{size} bytes of tokens and rankings")
    output, output_reference, delta = (unpack(cells[name]) for name in ("output", "output_reference", "delta"))
    if not len(output) == len(output_reference) == len(delta):
        raise ValueError(f"outputs of {len(output)} and {len(output_reference)} examples, a delta of {len(delta)}")
    names = (
        "model", "method", "variant", "message", "started", "capture", "rulebook", "target", "text", "reference",
        "command",
    )  # fmt: skip
    return Run(
        **{name: text(cells[name]) for name in names},
        status=status,
        seconds=number(cells["seconds"]),
        versions={text(key): text(value) for key, value in json.loads(cells["versions"]).items()},
        tokens=_token_rows(cells["tokens"]),
        reference_tokens=_token_rows(cells["reference_tokens"]),
        output=output,
        output_reference=output_reference,
        delta=delta,
        panel=_panel_from_json(json.loads(cells["panel"])),
    )


def refs_to_json(refs: Sequence[TensorRef]) -> str:
    """The attributions' references as a JSON list of [hash in hex or null, dtype, shape]."""
    return json.dumps([[ref.hash.hex() if ref.hash else None, ref.dtype, list(ref.shape)] for ref in refs])


def refs_from_json(value: str) -> tuple[TensorRef, ...]:
    """What `refs_to_json` wrote."""
    refs = []
    for digest, dtype, shape in json.loads(value):
        stored = None if digest is None else bytes.fromhex(digest)
        refs.append(TensorRef(stored, text(dtype), parse_shape(shape), elided=stored is None))
    return tuple(refs)


def statistics_cells(statistics: Statistics | None) -> tuple[Cell, ...]:
    """The cells of one tensor's figures in the order of FIGURES; all NULL where there are none."""
    cells: tuple[Cell, ...] = _NO_FIGURES if statistics is None else _figures(statistics)
    return cells


def statistics_from_cells(cells: Sequence[Cell]) -> Statistics | None:
    """What `statistics_cells` wrote."""
    count, nonfinite, *figures = cells
    return None if count is None else Statistics(int(count), int(nonfinite), *map(number, figures))


def pack(numbers: Floats) -> bytes:
    """One float64 an example as little-endian bytes."""
    return np.ascontiguousarray(numbers, dtype="<f8").tobytes()


def unpack(blob: Cell) -> Floats:
    """What `pack` wrote, as an own array."""
    if not isinstance(blob, bytes):
        raise TypeError("numbers are not a blob")
    return np.frombuffer(blob, dtype="<f8").astype(np.float64)


def total(numbers: Floats) -> float:
    """The sum over the examples; NaN, without a warning, where ∞ meets −∞."""
    return float(sum(numbers.tolist()))


@lru_cache(maxsize=1024)
def shape_text(shape: tuple[int, ...]) -> str:
    """A shape as its column has it, "[2, 3]"."""
    return str(list(shape))


def content_hash(data: memoryview | bytes, dtype: str, shape: tuple[int, ...], version: int = VERSION) -> bytes:
    """16 bytes that name a tensor by its dtype, shape and elements.

    XXH3 since version 2: hashing with blake2b took longer than anything else in recording a trace.
    """
    head = f"{dtype}{list(shape)}".encode()
    digest = hashlib.blake2b(head, digest_size=16) if version == 1 else xxhash.xxh3_128(head)
    digest.update(data)
    return digest.digest()


def parse_shape(value: object) -> tuple[int, ...]:
    """A shape from decoded JSON, one that an array can have: at most 64 sizes, none negative, no absurd product."""
    if not isinstance(value, list) or len(value) > 64 or not all(type(size) is int and size >= 0 for size in value):
        raise ValueError("a shape is no list of sizes")
    if math.prod(size for size in value if size) > 2**48:  # numpy refuses such a shape even where a 0 makes it empty
        raise ValueError("a shape is too large")
    return tuple(value)


def storable(value: str) -> str:
    """`value` without lone surrogates, which an odd byte on the command line leaves and UTF-8 cannot hold."""
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode("utf-8")


def text(value: object) -> str:
    """`value`, which must be a string."""
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where text must be")
    return value


def number(value: Cell) -> float:
    """A float from a cell (NULL: NaN) or from JSON (a number, "nan", "inf" or "-inf")."""
    return math.nan if value is None else float(value)


def json_number(value: float) -> float | str:
    """`value` as strict JSON takes it: itself, or "nan", "inf" or "-inf"."""
    return float(value) if math.isfinite(value) else str(float(value))


def _token_rows(value: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(text(token) for token in row) for row in json.loads(value))


def _panel_to_json(panel: Panel) -> dict[str, Any]:
    hooks = panel.hooks
    return {
        "output": [json_number(value) for value in panel.output],
        "output_reference": [json_number(value) for value in panel.output_reference],
        "labels": list(panel.labels),
        "rankings": [
            {
                "name": ranking.name,
                "scores": [json_number(score) for score in ranking.scores],
                "delta": None if ranking.delta is None else json_number(ranking.delta),
                "relative_delta": None if ranking.relative_delta is None else json_number(ranking.relative_delta),
                "note": ranking.note,
            }
            for ranking in panel.rankings
        ],
        "hooks": hooks
        and {"version": hooks.version, "path": hooks.path, "hooked": hooks.hooked, "unhooked": hooks.unhooked},
    }


def _panel_from_json(data: Any) -> Panel:
    hooks = data["hooks"]
    return Panel(
        output=tuple(map(number, data["output"])),
        output_reference=tuple(map(number, data["output_reference"])),
        labels=tuple(map(text, data["labels"])),
        rankings=tuple(
            Ranking(
                name=text(item["name"]),
                scores=tuple(map(number, item["scores"])),
                delta=None if item["delta"] is None else number(item["delta"]),
                relative_delta=None if item["relative_delta"] is None else number(item["relative_delta"]),
                note=text(item["note"]),
            )
            for item in data["rankings"]
        ),
        hooks=None
        if hooks is None
        else HookReport(
            version=text(hooks["version"]),
            path=text(hooks["path"]),
            hooked={text(key): int(value) for key, value in hooks["hooked"].items()},
            unhooked={text(key): int(value) for key, value in hooks["unhooked"].items()},
        ),
    )
