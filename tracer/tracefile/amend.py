"""Writes into a finished trace: measured counterfactuals, findings."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tracer.errors import TraceFileError
from tracer.records import Counterfactual, Finding
from tracer.tracefile import rows
from tracer.tracefile.layout import COUNTERFACTUAL_COLUMNS, FINDING_COLUMNS, SECOND_FINDING_COLUMNS, insertion
from tracer.tracefile.reservation import fold_log
from tracer.tracefile.trace import Trace


def amend(
    trace: Trace,
    *,
    counterfactuals: Sequence[Counterfactual] | None = None,
    findings: Sequence[Finding] | None = None,
) -> None:
    """Write measured counterfactuals, findings, or both into a finished trace, in the place of those it has.

    Whoever has the trace open sees them when it asks next. TraceFileError for a trace of version 1, for one that is
    still being recorded, and where the file cannot be written; the file is then as it was.
    """
    name = trace.path or "the trace in memory"
    if trace.version == 1:
        raise TraceFileError(f"{name} has the layout of an older version: record it again")
    if trace.run.status == "recording":
        raise TraceFileError(f"{name} is still being recorded, or its recording was killed: nothing is added to it")
    finding_columns = SECOND_FINDING_COLUMNS if trace.version == 2 else FINDING_COLUMNS
    try:
        with writing(trace) as connection:
            if counterfactuals is not None:
                connection.execute("DELETE FROM counterfactual")
                insert = insertion("counterfactual", COUNTERFACTUAL_COLUMNS)
                connection.executemany(insert, map(rows.counterfactual_row, counterfactuals))
            if findings is not None:
                connection.execute("DELETE FROM finding")
                insert = insertion("finding", finding_columns)
                connection.executemany(insert, (rows.finding_row(one)[: len(finding_columns)] for one in findings))
    except sqlite3.Error as error:
        raise TraceFileError(f"cannot write {name} ({error}): look at its rights and at the free space") from error


@contextmanager
def writing(trace: Trace) -> Iterator[sqlite3.Connection]:
    """A connection that may change the trace, in one transaction: all of it or, after an error, nothing."""
    if trace.path is None:
        connection = trace._reader.connection
    else:
        address = f"{trace.path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(address, uri=True, isolation_level=None)
    try:
        if trace.path is not None:
            # Into a log: a process that is killed while it changes the file itself leaves a journal that must be rolled
            # back, which a reader has no right to do. Not synchronous, the change of modes takes microseconds.
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA journal_mode = WAL")
        if connection.in_transaction:  # a trace in memory stays in the writer's
            connection.execute("COMMIT")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    finally:
        if trace.path is not None:
            fold_log(connection)
            connection.close()
