"""Reads the evidence of a trace from its file: a few queries, each over all calls at once."""

from __future__ import annotations

import numpy as np

from tracer.diagnosis.evidence import Evidence
from tracer.diagnosis.query_columns import query_columns
from tracer.text import require_example
from tracer.tracefile.cells import MISSHAPEN, unpack
from tracer.tracefile.columns import Columns
from tracer.tracefile.opening import damaged
from tracer.tracefile.trace import Trace

# A leak up to this multiple of `rounding` is no fault; exact runs of 30 models in four precisions stay under 0.6.
_MARGIN = 3.0
_EPSILON = (
    "CASE dtype WHEN 'float64' THEN 2.3e-16 WHEN 'float16' THEN 9.8e-4 WHEN 'bfloat16' THEN 7.9e-3 ELSE 1.2e-7 END"
)
# ‖x‖ + ‖x'‖ without the elements that an attention mask puts far below all others: no multiplier reaches them.
_MAGNITUDE = """CASE WHEN value_minimum < -1e3 * (abs(value_maximum) + difference_norm)
    THEN 4 * difference_norm ELSE value_norm + reference_norm END"""
_EDGES_QUERY = f"""SELECT node,
    TOTAL({_EPSILON} * multiplier_norm * {_MAGNITUDE}) AS rounding,
    TOTAL(CASE direction WHEN 'out' THEN multiplier_norm * difference_norm END) AS traffic,
    TOTAL(direction = 'in') + TOTAL(direction = 'in' AND instr(name, ', ') > 0) AS operands,
    TOTAL(CASE direction WHEN 'in' THEN value_count END) AS elements
FROM edge GROUP BY node"""
_NODES_QUERY = "SELECT rule, largest_secant, small_differences, dropped_differences FROM node ORDER BY id"
_LEAKS_QUERY = "SELECT self_leak_examples FROM node ORDER BY id LIMIT ?"


def gather(trace: Trace, example: int | None = None) -> Evidence:
    """The evidence in a trace: of one example, or over all; TraceFileError where the file is damaged."""
    run, columns = trace.run, trace.columns
    if example is not None:
        require_example(example, run.examples)
    count = len(columns.parent)
    try:
        return _gather(trace, example, columns, count)
    except MISSHAPEN as error:
        raise damaged(trace.path, error) from error


def _gather(trace: Trace, example: int | None, columns: Columns, count: int) -> Evidence:
    run = trace.run
    leaks = columns.self_leak[:, None]
    if run.examples > 1 and run.status == "complete":
        blobs = [cell for (cell,) in trace.query(_LEAKS_QUERY, (count,))]
        leaks = unpack(b"".join(blobs)).reshape(count, run.examples)
        leaks = leaks if example is None else leaks[:, example : example + 1]
    change = np.abs(run.output - run.output_reference)
    figures = np.zeros((4, count))
    nodes, *cells = query_columns(trace, ("node", "rounding", "traffic", "operands", "elements"), _EDGES_QUERY)
    places = np.array(nodes, dtype=np.int64)
    known = (places >= 0) & (places < count)
    figures[:, places[known]] = np.array(cells, dtype=np.float64)[:, known]
    names = ("rule", "largest_secant", "small_differences", "dropped_differences")
    rules, secants, small, dropped = (column[:count] for column in query_columns(trace, names, _NODES_QUERY))
    if not len(rules) == len(leaks) == count:
        raise ValueError("its tables differ in length")
    allowed = _MARGIN * figures[0]
    allowed[:1] += figures[0].sum()
    with np.errstate(invalid="ignore"):
        size, signed = np.abs(leaks).sum(axis=1), leaks.sum(axis=1)
    return Evidence(
        trace=trace,
        example=example,
        columns=columns,
        self_leak=signed,
        size=size,
        rounding=figures[0],
        traffic=figures[1],
        operands=figures[2].astype(np.int64),
        elements=figures[3] / (run.examples if example is not None else 1),
        rules=list(map(str, rules)),
        largest_secant=np.array(secants, dtype=np.float64),
        small=np.array(small, dtype=np.int64),
        dropped=np.array(dropped, dtype=np.int64),
        allowed=allowed,
        change=float(change.sum() if example is None else change[example]),
        total=float(size[np.isfinite(size)].sum()),
    )
