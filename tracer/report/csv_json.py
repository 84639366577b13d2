"""A trace's head, calls and edges as strict JSON takes them, and its ledger as CSV. Pure: a trace in, lines out."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tracer.records import Edge, Floats, Node, Statistics
from tracer.report.data import report_data
from tracer.text import json_figure, total
from tracer.tracefile.trace import Trace

LEDGER = (
    "id", "parent", "depth", "path", "call", "kind", "type", "source", "rule", "leak", "self_leak", "share", "gain",
    "relative_leak", "largest_secant", "small_differences", "dropped_differences", "nonfinite", "seconds",
)  # fmt: skip
"""The columns of the ledger as CSV: figures summed over the examples, `share` = |self leak| / Σ|self leak|."""
# A spreadsheet reads a cell that begins so as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def run_data(trace: Trace) -> dict[str, Any]:
    """The head of the run, its sanity panel excepted."""
    run = trace.run
    names = (
        "model", "method", "variant", "status", "message", "started", "capture", "rulebook", "versions", "target",
        "text", "reference", "tokens", "reference_tokens",
    )  # fmt: skip
    return {
        **{name: getattr(run, name) for name in names},
        "seconds": json_figure(run.seconds),
        "output": _floats(run.output),
        "output_reference": _floats(run.output_reference),
        "delta": _floats(run.delta),
    }


def node_data(node: Node) -> dict[str, Any]:
    """A call with all its figures; leaks are lists, one number an example."""
    names = (
        "id", "parent", "end", "depth", "path", "call", "kind", "type", "source", "rule", "small_differences",
        "dropped_differences", "nonfinite",
    )  # fmt: skip
    figures = ("gain", "relative_leak", "largest_secant", "seconds")
    return {
        **{name: getattr(node, name) for name in names},
        "leak": _floats(node.leak),
        "self_leak": _floats(node.self_leak),
        **{name: json_figure(getattr(node, name)) for name in figures},
    }


def edge_data(edge: Edge) -> dict[str, Any]:
    """A tensor into or out of a call: its flow, one number an example, and the figures of what was recorded."""
    return {
        "direction": edge.direction,
        "slot": edge.slot,
        "name": edge.name,
        "shape": list(edge.shape),
        "dtype": edge.dtype,
        "flow": _floats(edge.flow),
        "value": _statistics(edge.value_statistics),
        "reference": _statistics(edge.reference_statistics),
        "difference": _statistics(edge.difference_statistics),
        "multiplier": _statistics(edge.multiplier_statistics),
    }


def json_lines(trace: Trace) -> Iterator[str]:
    """The lines of one JSON object: the report, its `nodes` in execution order with all figures and their `edges`."""
    report = report_data(trace, top=1)
    report["run"] = run_data(trace)
    report["notes"] = [
        {
            "what": note.kind,
            "path": note.path,
            "call": note.call,
            "detail": note.detail,
            "amount": json_figure(note.amount),
            "source": note.source,
        }
        for note in trace.notes
    ]
    del report["nodes"]
    yield "{\n"
    for key, value in report.items():
        yield f" {json.dumps(key)}: {json.dumps(value, allow_nan=False)},\n"
    yield ' "nodes": ['
    for index, node in enumerate(trace.nodes):
        data = {**node_data(node), "edges": [edge_data(edge) for edge in trace.edges(node)]}
        yield f"{',' * (index > 0)}\n  {json.dumps(data, allow_nan=False)}"
    yield "\n ]\n}\n"


def csv_lines(trace: Trace) -> Iterator[str]:
    """The ledger as CSV: a head, then a line a call in execution order. NaN is empty.

    A text that a spreadsheet would take for a formula has an apostrophe before it.
    """
    whole = total(np.abs(trace.columns.self_leak))
    yield _csv_line(LEDGER)
    for node in trace.nodes:
        leak, self_leak = total(node.leak), total(node.self_leak)
        share = abs(self_leak) / whole if whole and math.isfinite(whole) else math.nan
        cells = {"leak": leak, "self_leak": self_leak, "share": share}
        yield _csv_line([_cell(cells[name] if name in cells else getattr(node, name)) for name in LEDGER])


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value


def _csv_line(cells: Any) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()


def _floats(values: Floats) -> list[float | str | None]:
    return [json_figure(value) for value in values.tolist()]


def _statistics(figures: Statistics | None) -> dict[str, Any] | None:
    if figures is None:
        return None
    names = ("minimum", "maximum", "mean", "norm")
    values = {name: json_figure(getattr(figures, name)) for name in names}
    return {"count": figures.count, "nonfinite": figures.nonfinite, **values}
