"""Where NaN or infinity first appears in a run: from there it spreads to everything after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tracer.diagnosis.evidence import Evidence
from tracer.diagnosis.fault import fault
from tracer.diagnosis.phrases import number
from tracer.records import Edge, Finding
from tracer.text import clean

# Differences, not values: a mask puts the same −inf into both runs, which is not a fault.
_FIGURES = ("difference_nonfinite", "value_nonfinite", "multiplier_nonfinite")
_SUMS = ", ".join(f"TOTAL(CASE direction WHEN '{way}' THEN {name} END)" for name in _FIGURES for way in ("in", "out"))
_ANY = " + ".join(f"TOTAL({name})" for name in _FIGURES)
_QUERY = f"SELECT node, {_SUMS} FROM edge GROUP BY node HAVING {_ANY} > 0 ORDER BY node"
_FINITE = "use method exact, whose slopes stay finite between two finite values, or keep its inputs off that place"


class _Counts(NamedTuple):
    """How many numbers of a call are NaN or infinite: of what it takes ("in") and of what it gives ("out")."""

    node: int
    difference_in: float
    difference_out: float
    value_in: float
    value_out: float
    multiplier_in: float
    multiplier_out: float


@fault("non-finite")
def nonfinite(evidence: Evidence) -> Iterator[Finding]:
    """The model's input, or the call in which NaN or infinity first appears, where the delta or a leak is not finite.

    What a call gives counts before what its rule sends back: the forward pass comes first.
    """
    if not _shows(evidence):
        return
    columns = evidence.columns
    calls = [_Counts(*row) for row in evidence.trace.query(_QUERY) if evidence.is_call(row[0])]
    leaves = [call for call in calls if columns.end[call.node] == call.node + 1 and columns.kinds[call.node] != "lost"]
    if any(call.difference_in or call.value_in for call in calls if call.node == 0):
        yield from _in_inputs(evidence)
        return
    made = [(call.node, call.difference_out) for call in leaves if call.difference_out and not call.difference_in]
    if made:
        node, count = made[0]
        yield _finding(
            evidence,
            node,
            f"makes {_numbers(count)} NaN or infinite out of {_taken(evidence, leaves, node)}, in one run or in both",
            "check its parameters, and what it takes: a logarithm or a root of a negative number, a division by 0, or "
            f"more than {_largest(evidence, node)} can hold",
            count,
        )
        return
    sent = [(call.node, call.multiplier_in) for call in leaves if call.multiplier_in and not call.multiplier_out]
    if sent:
        node, count = sent[-1]  # the last call is the first in the backward pass
        if evidence.rules[node] == "captum" and _dtype(evidence, node) == "float16":
            return  # its eps is 0 there, which has a finding of its own
        yield _finding(
            evidence,
            node,
            f"sends back {_numbers(count)} NaN or infinite where finite multipliers arrived: its slope is infinite",
            _FINITE if evidence.trace.run.method != "exact" else "keep its inputs off that place",
            count,
        )


def _taken(evidence: Evidence, leaves: Sequence[_Counts], node: int) -> str:
    """What kind of numbers a call takes: finite ones, or infinities that were the same in both runs, as in masks."""
    if not next(call.value_in for call in leaves if call.node == node):
        return "finite ones"
    first = next((call.node for call in leaves if call.value_out and not call.value_in), node)
    return "infinite ones" + (f", which {clean(evidence.columns.paths[first])} makes first" if first < node else "")


def _shows(evidence: Evidence) -> bool:
    """Whether the delta, an output or a leak of the examples shown is NaN or infinite."""
    run = evidence.trace.run
    if run.status != "complete":
        return False
    figures = [evidence.shown(values) for values in (run.delta, run.output, run.output_reference)]
    return not all(bool(np.isfinite(each).all()) for each in (*figures, evidence.self_leak))


def _in_inputs(evidence: Evidence) -> Iterator[Finding]:
    """The finding for an input or a reference that is NaN or infinite itself."""
    edges = evidence.edges(0, "in")
    found = [
        (what, count)
        for what, name in (("the input", "value_statistics"), ("the reference", "reference_statistics"))
        if (count := sum(_count(edge, name) for edge in edges))
    ]
    said = " and ".join(f"{_numbers(count)} of {what}" for what, count in found)
    total = sum(count for _what, count in found)
    verb = "is" if total == 1 else "are"
    yield evidence.finding(
        "non-finite", [0], f"{said} {verb} NaN or infinite, and so is what the model makes of it",
        "give finite numbers",
        evidence=[("non-finite numbers", float(total))], leaks=False,
    )  # fmt: skip


def _count(edge: Edge, name: str) -> int:
    figures = getattr(edge, name)
    return 0 if figures is None else int(figures.nonfinite)


def _finding(evidence: Evidence, node: int, message: str, advice: str, count: float) -> Finding:
    call = evidence.node(node)
    return evidence.finding(
        "non-finite", [node], f"{clean(call.path) or 'the model'} ({clean(call.type, 60)}) {message}", advice,
        evidence=[("non-finite numbers", count)], leaks=False,
    )  # fmt: skip


def _numbers(count: float) -> str:
    return f"{number(count)} number{'s' if count != 1 else ''}"


def _dtype(evidence: Evidence, node: int) -> str:
    return next((edge.dtype for edge in evidence.trace.edges(node)), "")


def _largest(evidence: Evidence, node: int) -> str:
    """The dtype of a call's output, with the largest number that it can hold."""
    known = {"float16": "float16 (65504)", "bfloat16": "bfloat16 (3.4e38)", "float32": "float32 (3.4e38)"}
    made = evidence.edges(node, "out")
    return known.get(made[0].dtype if made else "", "its dtype")
