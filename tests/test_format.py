"""FORMAT.md describes the trace file as it is: each table with all its columns, and nothing that is not there."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import tracer.tracefile
from tracer.tracefile.layout import APPLICATION_ID, SCHEMA, SCHEMAS, VERSION

TEXT = (Path(tracer.tracefile.__file__).parent / "FORMAT.md").read_text(encoding="utf-8")


def described(text: str) -> dict[str, set[str]]:
    """The names in the first column of each section's table, by the table that the section is named after."""
    found = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        name = re.match(r"`(\w+)`:", section)
        if name is not None:
            rows = re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)
            # The view has a sentence in the place of a table.
            found[name[1]] = set(re.findall(r"`(\w+)`", " ".join(rows) or section.partition("\n\n")[2]))
    return found


def columns() -> dict[str, set[str]]:
    """The columns of each table and view of this version, as SQLite has them."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for sql in SCHEMA.values():
            connection.execute(sql)
        return {name: {row[1] for row in connection.execute(f"PRAGMA table_info({name})")} for name in SCHEMA}


def test_every_table_and_column_is_described() -> None:
    found = described(TEXT)
    found["ledger"] -= {"node"}  # what it is a view of
    assert found == columns()


def test_a_column_that_is_missing_or_too_much_is_found() -> None:
    assert described(TEXT.replace("`gain`", "`gian`"))["node"] != columns()["node"]
    assert "note" not in described(TEXT.replace("## `note`", "## `notes`"))
    assert "node" in columns()["edge"] and "share" in columns()["ledger"]


def test_every_version_is_described() -> None:
    section = TEXT.partition("## Versions")[2]
    assert [int(row) for row in re.findall(r"^\| (\d+) \|", section, flags=re.MULTILINE)] == list(SCHEMAS)
    assert f"the version of this layout, {VERSION}." in TEXT
    assert f"{APPLICATION_ID:#x}" in TEXT.lower()
