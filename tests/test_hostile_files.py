"""Files, and what lies beside them, that are made to have something run, written, waited for or allocated."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import socket
import sqlite3
import struct
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.fuzzing.reading import FORMS, read_everything
from tests.synthetic import write_synthetic
from tests.test_hostile import endless, small_pages
from tests.test_trace import changed
from tracer.cli import main
from tracer.errors import TraceFileError
from tracer.tracefile import bounds
from tracer.tracefile.layout import SCHEMA
from tracer.tracefile.trace import Trace, open_trace


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("traces") / "run.dltrace"
    write_synthetic(path, layers=3, examples=2, tensors=True)
    return small_pages(path)


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    """A second of this processor's time is the most that a test may take: a hang fails in the first place."""
    start = time.process_time()
    yield
    assert time.process_time() - start < 5


def refused(path: Path) -> str:
    """Why the trace does not open: one clear line, at once."""
    start = time.thread_time()
    with pytest.raises(TraceFileError) as error:
        open_trace(path)
    assert time.thread_time() - start < 1
    assert str(error.value).isprintable() and len(str(error.value)) < 600
    return str(error.value)


# What SQLite would run.

LAYOUT = {
    "trigger": "CREATE TRIGGER t AFTER DELETE ON finding BEGIN DELETE FROM node; END",
    "trigger on the view": "CREATE TRIGGER t INSTEAD OF UPDATE ON ledger BEGIN DELETE FROM node; END",
    "virtual table": "CREATE VIRTUAL TABLE t USING fts5(x)",
    "another": "CREATE VIRTUAL TABLE t USING rtree(a, b, c)",
    "view": "CREATE VIEW t AS SELECT * FROM node",
    "view in our view's place": "DROP VIEW ledger; CREATE VIEW ledger AS SELECT writefile('x', 'y') AS path",
    "view in a table's place": "DROP TABLE finding; CREATE VIEW finding AS SELECT load_extension('x') AS id",
    "table": "CREATE TABLE t (x)",
    "generated column": "ALTER TABLE node ADD COLUMN t AS (abs(id))",
    "default": "ALTER TABLE node ADD COLUMN t DEFAULT 7",
    "index": "CREATE INDEX t ON node (type)",
    "partial index": "CREATE INDEX t ON node (id) WHERE abs(leak) > 0",
    "index of an expression": "CREATE INDEX t ON node (abs(leak))",
    "SQLite's own tables": "ANALYZE",
    "sequence": "CREATE TABLE t (x INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO t VALUES (1); DROP TABLE t",
}
BY_HAND = {
    "check": "sql = replace(sql, 'CHECK (id = 1)', 'CHECK (load_extension(''x''))')",
    "generated": "sql = replace(sql, 'seconds REAL', 'seconds REAL AS (abs(id))')",
    "collation": "sql = replace(sql, 'path TEXT NOT NULL', 'path TEXT NOT NULL COLLATE x')",
    "case": "name = upper(name)",
    "name of another": "name = 'node', tbl_name = 'node' WHERE name = 'edge'",
    "view for a table": "type = 'view', rootpage = 0 WHERE name = 'finding'",
    "table for a view": "type = 'table', rootpage = 3 WHERE name = 'ledger'",
    "trigger for a table": "type = 'trigger' WHERE name = 'finding'",
    "no SQL": "sql = NULL WHERE name = 'finding'",
    "no SQL, no root": "sql = NULL, rootpage = NULL WHERE name = 'finding'",
    "SQL as bytes": "sql = CAST(sql AS BLOB) WHERE name = 'finding'",
    "two statements": "sql = sql || '; DROP TABLE node'",
    "comment": "sql = sql || ' -- more'",
}
ROOTS = ("edge", "node", "run", "tensor")


@pytest.mark.parametrize("statement", LAYOUT.values(), ids=LAYOUT)
def test_a_part_more_is_refused(file: Path, tmp_path: Path, statement: str) -> None:
    reason = refused(changed(file, tmp_path / "bad.dltrace", statement))
    assert "has an unknown part" in reason or "has a changed layout" in reason
    assert "record it again" in reason


@pytest.mark.parametrize("change", BY_HAND.values(), ids=BY_HAND)
def test_a_layout_written_by_hand_is_refused(file: Path, tmp_path: Path, change: str) -> None:
    refused(by_hand(file, tmp_path / "bad.dltrace", f"UPDATE sqlite_schema SET {change}"))


def by_hand(file: Path, target: Path, statement: str) -> Path:
    target.write_bytes(file.read_bytes())
    with closing(sqlite3.connect(target)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(statement)
        connection.commit()
    return target


@pytest.mark.parametrize("table", ROOTS)
@pytest.mark.parametrize("other", [*ROOTS, "sqlite_autoindex_node_1"])
def test_a_table_that_lies_on_the_pages_of_another_harms_nothing(
    file: Path, tmp_path: Path, table: str, other: str
) -> None:
    root = f"(SELECT rootpage FROM sqlite_schema WHERE name = '{other}')"
    path = by_hand(file, tmp_path / "a", f"UPDATE sqlite_schema SET rootpage = {root} WHERE name = '{table}'")
    assert read_everything(path, list(FORMS)).longest < 1


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_nothing_is_unpickled(file: Path, tmp_path: Path, protocol: int) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "boom"), protocol)
    for table, column in (
        ("tensor", "data"), ("tensor", "dtype"), ("tensor", "shape"), ("run", "panel"), ("run", "command"),
        ("run", "delta"), ("run", "attributions"), ("run", "tokens"), ("node", "figures"), ("node", "leak_examples"),
        ("edge", "flow_examples"), ("edge", "shape"), ("edge", "value_hash"),
    ):  # fmt: skip
        path = tmp_path / "bad.dltrace"
        path.write_bytes(file.read_bytes())
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"UPDATE {table} SET {column} = ?", (bomb,))
            if (table, column) == ("tensor", "data"):
                connection.execute("UPDATE tensor SET dtype = 'object', shape = '[1]'")
            connection.commit()
        reading = read_everything(path, list(FORMS))
        assert reading.refused, column
    pickle.loads(bomb)
    assert (tmp_path / "boom").is_dir()  # it would have been seen


# What lies beside the file.


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "device", "dangling"])
@pytest.mark.parametrize("log", [False, True])
def test_what_is_no_plain_file_beside_it_is_refused(
    file: Path, tmp_path: Path, ending: str, kind: str, log: bool
) -> None:
    path, victim = tmp_path / "run.dltrace", tmp_path / "victim"
    content = bytearray(file.read_bytes())
    content[18:20] = b"\2\2" if log else b"\1\1"
    path.write_bytes(content)
    victim.write_bytes(b"mine" * 10_000)
    beside = Path(f"{path}{ending}")
    match kind:
        case "pipe":
            os.mkfifo(beside)
        case "folder":
            beside.mkdir()
        case "link":
            beside.symlink_to(victim)
        case "device":
            beside.symlink_to("/dev/zero")
        case _:
            beside.symlink_to(tmp_path / "none")
    assert f"{beside} beside the trace is not a plain file" in refused(path)
    assert main(["repair", str(path)]) == 2
    assert victim.read_bytes() == b"mine" * 10_000 and not (tmp_path / "none").exists()


def logged(file: Path, folder: Path, *statements: str) -> Path:
    """A copy of a trace whose log has what somebody ran."""
    path, work = folder / "run.dltrace", folder / "work"
    work.write_bytes(file.read_bytes())
    with closing(sqlite3.connect(work, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        for statement in statements:
            connection.execute(statement)
        for ending in ("", "-wal"):
            shutil.copy(f"{work}{ending}", f"{path}{ending}")
    for ending in ("", "-wal", "-shm"):
        Path(f"{work}{ending}").unlink(missing_ok=True)
    return path


@pytest.mark.parametrize("statement", LAYOUT.values(), ids=LAYOUT)
def test_a_log_that_brings_a_part_is_refused(file: Path, tmp_path: Path, statement: str) -> None:
    path = (
        logged(file, tmp_path, *statement.split("; "))
        if "BEGIN" not in statement
        else logged(file, tmp_path, statement)
    )
    assert "record it again" in refused(path)


def test_a_log_of_another_trace_is_refused_or_read(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_synthetic(other, layers=9, seed=5)
    (tmp_path / "a").mkdir()
    log = Path(f"{logged(other, tmp_path / 'a', 'UPDATE node SET leak = 0')}-wal").read_bytes()
    path = logged(file, tmp_path, "UPDATE run SET model = 'x'")
    rng = random.Random(0)
    for content in (
        log, log[:32], log[:40], log + log, bytes(len(log)), rng.randbytes(100_000), b"", log[:32] + bytes(50_000),
        b"\x37\x7f\x06\x82" + rng.randbytes(9_000), log[:8] + struct.pack(">I", 65_536) + log[12:],
    ):  # fmt: skip
        Path(f"{path}-wal").write_bytes(content)
        assert read_everything(path, ["text"]).longest < 1


def test_a_link_to_a_trace_shows_what_its_log_holds(file: Path, tmp_path: Path) -> None:
    path = logged(file, tmp_path, "UPDATE run SET model = 'from the log'")
    link = tmp_path / "link.dltrace"
    link.symlink_to(path)
    with open_trace(link) as trace:
        assert trace.run.model == "from the log"
        assert trace._reader.queries._files[1] == Path(f"{path.resolve()}-wal")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert "cannot read" in refused(loop)
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    assert "does not exist" in refused(tmp_path / "dangling")
    for device in ("/dev/zero", "/dev/null", "/dev/random"):
        assert "is a device or a pipe" in refused(Path(device))
        (tmp_path / device[5:]).symlink_to(device)
        assert "is a device or a pipe" in refused(tmp_path / device[5:])
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        assert "is a device or a pipe" in refused(tmp_path / "s")
    assert "Is a directory" in refused(tmp_path)
    assert "File name too long" in refused(tmp_path / ("x" * 300))


# Sizes.


@pytest.mark.parametrize("pages", [2**31 - 1, 2**32 - 1, 2**20])
@pytest.mark.parametrize("log", [False, True])
def test_a_page_count_is_only_a_claim(file: Path, tmp_path: Path, pages: int, log: bool) -> None:
    path = tmp_path / "bad.dltrace"
    content = bytearray(file.read_bytes())
    content[28:32] = struct.pack(">I", pages)
    path.write_bytes(content)
    if not log:
        assert "damaged or cut short" in refused(path)
        return
    Path(f"{path}-wal").write_bytes(b"")
    assert read_everything(path, ["text"]).longest < 1


@pytest.mark.parametrize("spots", [0, 1_000])
def test_holes_are_no_content(file: Path, tmp_path: Path, spots: int) -> None:
    path = endless(file, tmp_path / "bad.dltrace")
    size = path.stat().st_size
    with path.open("r+b") as sparse:
        for spot in range(spots):
            sparse.seek(2**30 * (spot + 1))
            sparse.write(b"x")
        sparse.truncate(2**42)
    if 512 * path.stat().st_blocks > 2**30:
        pytest.skip("this file system keeps no holes")
    assert size + 512 * spots <= bounds._held(path) < size + 2**16 * (spots + 1)
    with open_trace(path) as trace:
        start = time.thread_time()
        for read in (lambda: trace.columns, lambda: trace.query("SELECT * FROM node")):
            with pytest.raises(TraceFileError, match=r"claims more than it can hold|interrupted"):
                read()
        assert time.thread_time() - start < 3


def test_a_whole_file_is_all_content(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x" * (bounds._SPARSE + 1))
    assert bounds._held(path) == bounds._SPARSE + 1


def test_the_schema_has_one_view_and_no_trigger() -> None:
    kinds = [sql.split()[1] for sql in SCHEMA.values()]
    assert kinds.count("VIEW") == 1 and set(kinds) <= {"TABLE", "VIEW", "INDEX"}


def test_a_reading_connection_neither_trusts_nor_writes(file: Path) -> None:
    with open_trace(file) as trace:
        assert isinstance(trace, Trace)
        for pragma, value in (("trusted_schema", 0), ("query_only", 1), ("cell_size_check", 1)):
            assert trace.query(f"PRAGMA {pragma}") == [(value,)]
        for statement in ("DELETE FROM node", "CREATE TABLE t (x)", "SELECT load_extension('x')"):
            with pytest.raises(TraceFileError):
                trace.query(statement)
