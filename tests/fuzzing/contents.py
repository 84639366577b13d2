"""Mutations of what a trace says, made with SQL on a copy in memory: cells, rows, tensors, and the layout itself."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from random import Random
from typing import Any

from tests.fuzzing.sample import Sample
from tracer.tracefile.cells import ITEM_TYPES, content_hash
from tracer.tracefile.layout import SCHEMA, STORED

Change = Callable[[Random, sqlite3.Connection], None]

NAMES = (
    "\x1b[2J\x1b]0;x\a", "../../etc/passwd", "\u202egnp.exe", "a\nb\r\tc", "\0", "<script>", "|`*_[x](y)",
    "e\u0301" * 99,
)  # fmt: skip
NUMBERS = (
    None, 0, -1, 1, 2, 3, 5, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63), 0.5, -0.0, 1e308, -1e308, 5e-324, float("inf"),
    float("-inf"),
)  # fmt: skip
_LONG = 200_000
JSONS = (
    "", "null", "0", "[]", "{}", "[[]]", '""', "[null]", "NaN", "[NaN]", "[Infinity]", "[1e999]", "[-1]", "[true]",
    '["\\ud800"]', '[["\\u001b[2J", "\\u202e"]]', "9" * 5000, "[" * _LONG, '{"a":' * _LONG,
    "[" + "1," * 60 + "1]", "[0, 4611686018427387904, 4611686018427387904]", "[1099511627776]", "[1.0, 2.0]",
    "[281474976710656, 0]", "[" + "[]," * _LONG + "[]]", '[["' + "x" * _LONG + '"]]', '["' + "\\u0001" * _LONG + '"]',
)  # fmt: skip
BLOBS = (
    b"", b"\0", b"\xff" * 8, struct.pack("<d", float("nan")), bytes(80), b"\xff" * 80, bytes(8 * 301), bytes(_LONG),
)  # fmt: skip
TEXTS = ("", "x", "1", "nan", "inf", " 7 ", "complete", "recording", "failed", "x" * _LONG, *NAMES)

LAYOUT = (
    "CREATE TRIGGER t AFTER INSERT ON run BEGIN DELETE FROM node; END",
    "CREATE TRIGGER t INSTEAD OF UPDATE ON ledger BEGIN DELETE FROM node; END",
    "CREATE TABLE more (x)",
    "CREATE TABLE node2 AS SELECT * FROM node",
    "CREATE INDEX i ON node (type)",
    "CREATE UNIQUE INDEX i ON node (id) WHERE leak > 0",
    "CREATE INDEX i ON node (abs(leak))",
    "CREATE VIRTUAL TABLE words USING fts5(x)",
    "CREATE VIRTUAL TABLE r USING rtree(a, b, c)",
    "CREATE VIEW v AS SELECT load_extension('x')",
    "CREATE VIEW v AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x FROM c) SELECT x FROM c",
    "DROP VIEW ledger; CREATE VIEW ledger AS SELECT writefile('x', 'y')",
    "DROP TABLE node; CREATE VIEW node AS SELECT * FROM edge",
    "DROP TABLE finding",
    "ALTER TABLE node ADD COLUMN x",
    "ALTER TABLE node ADD COLUMN x AS (abs(leak))",
    "ALTER TABLE edge RENAME TO edges",
    "PRAGMA user_version = 0",
    "PRAGMA user_version = 1",
    "PRAGMA user_version = 2",
    "PRAGMA user_version = -1",
    "PRAGMA application_id = 1",
    "PRAGMA encoding = 'UTF-16'; VACUUM",
    "PRAGMA page_size = 512; VACUUM",
    "PRAGMA page_size = 65536; VACUUM",
    "PRAGMA auto_vacuum = 1; VACUUM",
)
_STEPS = 300  # × 10 000 instructions of SQLite's for one change: a mutant of a mutant may have no end


def with_sql(change: Change) -> Callable[[Random, Sample], Sample]:
    """`change` as a mutation of a file; the file as it is where SQLite refuses."""

    def mutation(rng: Random, sample: Sample) -> Sample:
        file = bytearray(sample.file)
        file[18:20] = b"\1\1"  # a copy in memory has no log
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            try:
                connection.deserialize(bytes(file))
                left = iter(range(_STEPS))
                connection.set_progress_handler(lambda: next(left, None) is None, 10_000)
                change(rng, connection)
                return replace(sample, file=connection.serialize(), log=None)
            except (sqlite3.Error, OverflowError, UnicodeError, MemoryError, AttributeError, TypeError, ValueError):
                return sample

    mutation.__name__ = change.__name__
    return mutation


def cell_value(rng: Random, connection: sqlite3.Connection) -> None:
    """A wild value in some cells of one column; the layout's own constraints do not hinder it."""
    table, column = _column(rng, connection)
    values: tuple[Any, ...] = rng.choice((NUMBERS, NUMBERS, JSONS, BLOBS, TEXTS))
    value = rng.choice(values)
    cast = rng.random() < 0.1 and isinstance(value, bytes)
    _unhindered(connection, f"UPDATE {table} SET {column} = {'CAST(? AS TEXT)' if cast else '?'}{_some(rng)}", (value,))


def json_value(rng: Random, connection: sqlite3.Connection) -> None:
    """A wild value somewhere inside a JSON cell that is there."""
    columns = {
        "run": ("panel", "panel", "tokens", "reference_tokens", "versions", "attributions", "command"),
        "edge": ("shape",), "tensor": ("shape",), "counterfactual": ("rules",),
    }  # fmt: skip
    table = rng.choice(("run", "run", "run", "edge", "tensor", "counterfactual"))
    column = rng.choice(columns[table])
    (text,) = connection.execute(f"SELECT {column} FROM {table} LIMIT 1").fetchone() or ("[]",)
    try:
        document = _changed(rng, json.loads(text))
    except (ValueError, TypeError, RecursionError):  # a mutant's
        return
    _unhindered(connection, f"UPDATE {table} SET {column} = ?{_some(rng)}", (json.dumps(document),))


def blob_value(rng: Random, connection: sqlite3.Connection) -> None:
    """Some numbers of a blob wild, or the blob longer or shorter."""
    table, column = rng.choice(
        (("node", "figures"), ("node", "figures"), ("node", "leak_examples"), ("node", "self_leak_examples"),
         ("edge", "flow_examples"), ("run", "delta"), ("run", "output"), ("counterfactual", "self_leak"))
    )  # fmt: skip
    rows = connection.execute(f"SELECT {column} FROM {table}").fetchall() or [(bytes(8),)]
    blob = bytearray(row) if isinstance(row := rng.choice(rows)[0], bytes) else bytearray()
    for _ in range(rng.choice((1, 3))):
        place = 8 * rng.randrange(max(len(blob) // 8, 1))
        wild = (float("nan"), float("inf"), float("-inf"), 1e308, -1e308)
        whole = struct.pack("<q", rng.choice((0, -1, 1, 2**40, 2**63 - 1, -(2**63))))
        blob[place : place + 8] = struct.pack("<d", rng.choice(wild)) if rng.random() < 0.5 else whole
    if rng.random() < 0.3:
        blob = rng.choice((blob[:-8], blob + bytes(8), blob[:-1], blob * 3, bytearray()))
    _unhindered(connection, f"UPDATE {table} SET {column} = ?{_some(rng)}", (bytes(blob),))


def tensor_claim(rng: Random, connection: sqlite3.Connection) -> None:
    """A tensor of another shape, dtype or content, under a hash that is right for it."""
    rows = connection.execute("SELECT id, dtype, shape, data FROM tensor").fetchall()
    if not rows:
        return
    rowid, dtype, shape, data = rng.choice(rows)
    if rng.random() < 0.5:
        dtype = rng.choice((*ITEM_TYPES, "object", "O", "|V8", "S", "float32\0"))
    if rng.random() < 0.5:
        sizes = ([len(data)], [0], [0, 2**47], [2**47, 0], [1] * 40, [2**40], [], [0] * 64, [3, -1], [1, 0, 2**31])
        shape = json.dumps(rng.choice(sizes))
    if rng.random() < 0.4:
        data = rng.choice((b"", bytes(8), bytes(len(data)), b"\xff" * len(data), data[:-1]))
    try:
        digest = content_hash(data, dtype, tuple(json.loads(shape)))
    except (TypeError, ValueError):  # a mutant's
        return
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 1:
        digest = content_hash(data, dtype, tuple(json.loads(shape)), 1)
    old = connection.execute("SELECT hash FROM tensor WHERE id = ?", (rowid,)).fetchone()[0]
    _unhindered(
        connection,
        "UPDATE tensor SET hash = ?, dtype = ?, shape = ?, data = ? WHERE id = ?", (digest, dtype, shape, data, rowid),
    )  # fmt: skip
    for name in STORED:
        connection.execute(f"UPDATE edge SET {name}_hash = ? WHERE {name}_hash = ?", (digest, old))
    ((references,),) = connection.execute("SELECT attributions FROM run").fetchall()
    connection.execute("UPDATE run SET attributions = ?", (references.replace(old.hex(), digest.hex()),))


def rows(rng: Random, connection: sqlite3.Connection) -> None:
    """Rows gone, doubled, renumbered, or very many."""
    table = rng.choice(("node", "node", "edge", "tensor", "run", "note", "counterfactual"))
    match rng.randrange(4):
        case 0:
            _unhindered(connection, f"DELETE FROM {table}{_some(rng)}")
        case 1:
            place = "node" if table == "edge" else "id"
            shift = rng.choice((1, -1, 1000, 2**40, -(2**40)))
            _unhindered(connection, f"UPDATE OR REPLACE {table} SET {place} = {place} + {shift}{_some(rng)}")
        case 2:
            connection.execute("UPDATE run SET status = ?", (rng.choice(("recording", "failed", "complete")),))
            connection.execute(f"DELETE FROM {rng.choice(('node', 'edge', 'tensor'))}{_some(rng)}")
        case _:
            many = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 20000)"
            connection.execute(f"{many} INSERT INTO finding (kind, message, advice) SELECT x, '', '' FROM c")
            connection.execute(f"{many} INSERT INTO note (what, path, detail) SELECT x, '', '' FROM c")


def layout(rng: Random, connection: sqlite3.Connection) -> None:
    """Something more, less or else in the layout, made by SQL that SQLite itself takes."""
    connection.executescript(rng.choice(LAYOUT))


def layout_rows(rng: Random, connection: sqlite3.Connection) -> None:
    """A row of the layout's own table changed, doubled or added by hand."""
    connection.execute("PRAGMA writable_schema = ON")
    column = rng.choice(("type", "name", "tbl_name", "rootpage", "rootpage", "rootpage", "sql"))
    found = [row[0] for row in connection.execute(f"SELECT {column} FROM sqlite_schema")]
    values = (None, "", 0, 1, 2, 3, 5, 7, 9, -1, 2**31, "table", "view", "index", "trigger", b"run", *NAMES, *found)
    match rng.randrange(3):
        case 0:
            connection.execute(f"UPDATE sqlite_schema SET {column} = ?{_some(rng)}", (rng.choice(values),))
        case 1:
            connection.execute(f"INSERT INTO sqlite_schema SELECT * FROM sqlite_schema{_some(rng)}")
        case _:
            cells = [rng.choice((*values, *LAYOUT, *SCHEMA.values())) for _ in range(5)]
            connection.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", cells)


CONTENTS = tuple(
    map(with_sql, (cell_value, cell_value, json_value, json_value, blob_value, tensor_claim, rows, layout, layout_rows))
)


def _column(rng: Random, connection: sqlite3.Connection) -> tuple[str, str]:
    table = rng.choice(("run", "run", "node", "node", "edge", "edge", "tensor", "note", "counterfactual"))
    names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    return table, rng.choice(names or ["id"])


def _some(rng: Random) -> str:
    return rng.choice(("", f" WHERE rowid % {rng.choice((2, 3, 7))} = 1", " WHERE rowid = 3", " WHERE 1"))


def _unhindered(connection: sqlite3.Connection, sql: str, values: tuple[Any, ...] = ()) -> None:
    """Run `sql` with no NOT NULL, CHECK or UNIQUE in its way, and leave the layout as it was."""
    if " FROM edge" in sql or " edge SET" in sql:  # it has no rowid
        sql = sql.replace("rowid", "node")
    before = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    connection.execute("PRAGMA writable_schema = ON")
    loosened = "replace(replace(sql, ' NOT NULL', ''), 'CHECK (id = 1)', '')"
    connection.execute(f"UPDATE sqlite_schema SET sql = {loosened} WHERE type = 'table'")
    file = connection.serialize()
    connection.deserialize(file)
    connection.execute(sql, values)
    connection.execute("PRAGMA writable_schema = ON")
    connection.executemany("UPDATE sqlite_schema SET sql = ? WHERE name = ?", [(text, name) for name, text in before])


def _changed(rng: Random, document: Any) -> Any:
    """`document` with one value in it wild, gone or doubled."""
    wild = (None, True, 0, -1, 2**63, 10**30, 0.5, 1e308, "", "nan", "x", [], {}, [[]], [None], *NAMES)
    if not isinstance(document, dict | list) or not document or rng.random() < 0.15:
        return rng.choice(wild)
    if isinstance(document, dict):
        key = rng.choice(list(document))
        if rng.random() < 0.2:
            return {name: value for name, value in document.items() if name != key}
        return {**document, key: _changed(rng, document[key])}
    place = rng.randrange(len(document))
    if rng.random() < 0.2:
        return rng.choice((document[:place], document * rng.choice((2, 3, 1000)), [*document, rng.choice(wild)]))
    return [*document[:place], _changed(rng, document[place]), *document[place + 1 :]]
