"""Reads the evidence of a trace from its file: a few queries, each over all calls at once."""

from __future__ import annotations

import numpy as np

from tracer.analysis.verdict import changes
from tracer.diagnosis.evidence import Evidence
from tracer.diagnosis.handed_on import HandedOn, net_leaks
from tracer.diagnosis.query_columns import query_columns
from tracer.records import Floats
from tracer.text import require_example
from tracer.tracefile.cells import MISSHAPEN, unpack
from tracer.tracefile.columns import Columns
from tracer.tracefile.opening import damaged
from tracer.tracefile.trace import Trace

# A leak up to this multiple of `rounding` is not a fault; exact runs of 30 models stay under 0.6 of the bound for any
# rounding, and under 0.8 of the estimate for half precision, but for one call at 4.
_MARGIN, _MARGIN_OF_HALF = 3.0, 5.0
_EPSILON = (
    "CASE dtype WHEN 'float64' THEN 2.3e-16 WHEN 'float16' THEN 9.8e-4 WHEN 'bfloat16' THEN 7.9e-3 ELSE 1.2e-7 END"
)
_HALF = 9e-4  # eps from which a dtype is half precision
# Half the distance of the smallest numbers above 0, which small multipliers and values are rounded to.
_STEP = "CASE dtype WHEN 'float16' THEN 6e-8 ELSE 0 END"
# ‖x‖ + ‖x'‖ without the elements that an attention mask puts far below all others: no multiplier reaches them.
_MAGNITUDE = """CASE WHEN value_minimum < -1e3 * (abs(value_maximum) + difference_norm)
    THEN 4 * difference_norm ELSE value_norm + reference_norm END"""
_EDGES_QUERY = f"""SELECT node,
    TOTAL({_EPSILON} * multiplier_norm * {_MAGNITUDE}) AS bound,
    MAX({_EPSILON}) AS eps,
    TOTAL(multiplier_norm * multiplier_norm * {_MAGNITUDE} * {_MAGNITUDE} / max(value_count, 1) + flow * flow)
        AS products,
    TOTAL({_STEP} * {_STEP} * (difference_norm * difference_norm + multiplier_norm * multiplier_norm)) AS steps,
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
    leaks = leaks.copy()
    change = np.abs(changes(run))
    figures = np.zeros((7, count))
    asked = ("node", "traffic", "operands", "elements", "bound", "eps", "products", "steps")
    nodes, *cells = query_columns(trace, asked, _EDGES_QUERY)
    places = np.array(nodes, dtype=np.float64)
    # An edge in an untrusted file may be of no call.
    known = (places >= 0) & (places < count) & (places == np.floor(places))
    figures[:, places[known].astype(np.int64)] = np.array(cells, dtype=np.float64)[:, known]
    names = ("rule", "largest_secant", "small_differences", "dropped_differences")
    rules, secants, small, dropped = (column[:count] for column in query_columns(trace, names, _NODES_QUERY))
    if not len(rules) == len(leaks) == count:
        raise ValueError("its tables differ in length")
    traffic, operands, elements, *precision = figures
    rounding, allowed = _rounding(*precision)
    handed_on = HandedOn(trace, columns)
    with np.errstate(invalid="ignore"):
        unread = net_leaks(leaks, allowed, columns.kinds, handed_on)
        size, signed = np.abs(leaks).sum(axis=1), leaks.sum(axis=1)
    return Evidence(
        trace=trace,
        example=example,
        columns=columns,
        leaks_by_example=leaks,
        self_leak=signed,
        size=size,
        rounding=rounding,
        traffic=traffic,
        operands=operands.astype(np.int64),
        elements=elements / (run.examples if example is not None else 1),
        rules=list(map(str, rules)),
        largest_secant=np.array(secants, dtype=np.float64),
        small=np.array(small, dtype=np.int64),
        dropped=np.array(dropped, dtype=np.int64),
        allowed=allowed,
        handed_to=handed_on.to,
        unread=unread,
        change=float(change.sum() if example is None else change[example]),
        total=float(size[np.isfinite(size)].sum()),
    )


def _rounding(bound: Floats, eps: Floats, products: Floats, steps: Floats) -> tuple[Floats, Floats]:
    """What precision can cost each call, and the leak that is allowed for it, both (N,).

    In single and double precision the bound that holds for any rounding: it is small anyway. In half precision that
    bound would allow half of the change. There each element's error is taken for independent, as rounding is: the root
    of Σ (eps·m·x)², with ‖m‖²·‖x‖² / n for Σ m²·x², the flow where few elements carry it, and the step of the smallest
    numbers. A call counts at the coarsest of its dtypes, as under autocast.
    """
    half = eps >= _HALF
    rounding = np.where(half, np.sqrt(eps**2 * products + steps), bound)
    allowed = np.where(half, _MARGIN_OF_HALF, _MARGIN) * rounding
    allowed[:1] += rounding.sum()
    return rounding, allowed
