"""The comparison of two traces as strict JSON takes it. Pure: two traces and their comparison in, a dict out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tracer.analysis.compare import Comparison
from tracer.records import Floats
from tracer.report.comparison import headline
from tracer.report.contents import TraceReport
from tracer.text import json_figure, relative
from tracer.tracefile.columns import worst_first
from tracer.tracefile.trace import Trace

SCHEMA = 1


def diff_data(
    a: Trace, b: Trace, comparison: Comparison, top: int | None = None, example: int | None = None
) -> dict[str, Any]:
    """The comparison as strict JSON takes it; `rows` are worst first, at most `top` of them."""
    heads = [_head_data(trace, example) for trace in (a, b)]
    gaps = comparison.difference
    names = ("first", "worst", "first_value", "first_reference", "last_gain")
    found = {name: _row_data(a, b, comparison, gaps, getattr(comparison, name)) for name in names}
    return {
        "schema": SCHEMA,
        "headline": headline(a, b, comparison, example),
        "a": heads[0],
        "b": heads[1],
        "differing": [key for key in heads[0] if not _equal(heads[0][key], heads[1][key])],
        "calls": len(comparison.a),
        "aligned": comparison.aligned,
        "only_a": int(np.count_nonzero(comparison.b < 0)),
        "only_b": int(np.count_nonzero(comparison.a < 0)),
        "diverging": int(np.count_nonzero(comparison.diverging)),
        "tolerance": json_figure(comparison.tolerance),
        "first_divergence": found["first"],
        "worst_divergence": found["worst"],
        "first_value_difference": found["first_value"],
        "first_reference_difference": found["first_reference"],
        "nearest_to_output": found["last_gain"],
        "rows": [_row_data(a, b, comparison, gaps, row) for row in worst_first(gaps)[:top].tolist()],
    }


def _head_data(trace: Trace, example: int | None) -> dict[str, Any]:
    run, report = trace.run, TraceReport(trace, example)
    return {
        "file": None if trace.path is None else str(trace.path),
        "status": run.status,
        "model": run.model,
        "method": run.method,
        "variant": run.variant,
        "rulebook": run.rulebook,
        "versions": run.versions,
        "target": run.target,
        "text": run.text,
        "reference": run.reference,
        "examples": run.examples,
        "calls": len(trace.columns.parent),
        "output": json_figure(report.figure(run.output)),
        "output_reference": json_figure(report.figure(run.output_reference)),
        "delta": json_figure(report.delta) if report.complete else None,
        "relative_delta": json_figure(relative(report.delta, report.change)) if report.complete else None,
    }


def _equal(one: Any, other: Any) -> bool:
    """Whether two entries of the heads say the same; the same number may be rounded differently."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6)
    return bool(one == other)


def _row_data(a: Trace, b: Trace, comparison: Comparison, gaps: Floats, row: int | None) -> dict[str, Any] | None:
    if row is None:
        return None
    ids = (int(comparison.a[row]), int(comparison.b[row]))
    trace, node = (a, ids[0]) if ids[0] >= 0 else (b, ids[1])
    types = [None if index < 0 else side.columns.types[index] for side, index in zip((a, b), ids, strict=True)]
    gains = [None if index < 0 else float(side.columns.gain[index]) for side, index in zip((a, b), ids, strict=True)]
    return {
        "path": trace.columns.paths[node],
        "call": int(trace.columns.call[node]),
        "in": "both" if min(ids) >= 0 else "a" if ids[0] >= 0 else "b",
        "type_a": types[0],
        "type_b": types[1],
        "self_leak_a": json_figure(float(comparison.self_leak_a[row])),
        "self_leak_b": json_figure(float(comparison.self_leak_b[row])),
        "difference": json_figure(float(gaps[row])),
        "gain_a": json_figure(gains[0]),
        "gain_b": json_figure(gains[1]),
        "diverging": bool(comparison.diverging[row]),
    }
