"""The comparison of two traces in words. Pure: two traces and their comparison in, text out."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterator

import numpy as np

from tracer.analysis.compare import Comparison
from tracer.report.contents import TraceReport
from tracer.text import clean, ending, figure, multiple, of_example, relative, shorten
from tracer.tracefile.columns import worst_first
from tracer.tracefile.trace import Trace

_LIKE = 0.5
"""With fewer calls aligned than this share of the larger trace's, the models are called different."""
_NAME = 14
_GROUPS = 5
_WIDE = 75
"""From this width on the difference of each pair of leaks has a column too."""


def diff_text(
    a: Trace, b: Trace, comparison: Comparison, top: int = 10, example: int | None = None, width: int = 100
) -> str:
    """The comparison for a terminal of `width` columns: the conclusion, the two runs, where they part, the calls."""
    lines = [*textwrap.wrap(headline(a, b, comparison, example), width), ""]
    lines += _heads(a, b, example, width)
    lines += _parting(a, b, comparison, width)
    lines += _calls(a, b, comparison, top, width)
    lines += _one_sided(a, b, comparison, width)
    return "\n".join(lines) + "\n"


def headline(a: Trace, b: Trace, comparison: Comparison, example: int | None = None) -> str:
    """The conclusion of the comparison, and both deltas."""
    delta_a, delta_b = (
        figure(of_example(trace.run.delta, example), signed=True) if trace.run.status == "complete" else "not known"
        for trace in (a, b)
    )
    return f"{outcome(a, b, comparison)} The delta is {delta_a} in A and {delta_b} in B."


def outcome(a: Trace, b: Trace, comparison: Comparison) -> str:
    """The conclusion of the comparison in one sentence."""
    counts = (len(a.columns.parent), len(b.columns.parent))
    if comparison.aligned < _LIKE * max(counts):
        return (
            f"A and B look like different models: only {comparison.aligned} of their {counts[0]} and {counts[1]} calls "
            "align."
        )
    if a.run.target != b.run.target:
        targets = f"{clean(a.run.target) or 'one'} and {clean(b.run.target) or 'another'}"
        return f"A and B explain different targets, {targets}: no call need be at fault where they part."
    if comparison.first_value is not None:
        two_texts = a.run.text and b.run.text and a.run.text != b.run.text
        what = "are of two texts" if two_texts else "compute different values for the same input"
        return f"A and B {what}: their outputs differ from {_name(a, b, comparison, comparison.first_value)} on."
    if comparison.first_reference is not None:
        where = _name(a, b, comparison, comparison.first_reference)
        return f"A and B have different references: the reference's outputs differ from {where} on."
    if comparison.first is None:
        return "A and B agree: they compute the same values, and no call's self leak differs."
    return (
        "A and B compute the same values and attribute them differently: "
        f"{int(np.count_nonzero(comparison.diverging))} of {len(comparison.a)} calls leak differently."
    )


def _name(a: Trace, b: Trace, comparison: Comparison, row: int) -> str:
    """The call of a row as text."""
    trace, node = (a, int(comparison.a[row])) if comparison.a[row] >= 0 else (b, int(comparison.b[row]))
    path, call = clean(trace.columns.paths[node]) or "the model", int(trace.columns.call[node])
    return f"{path} call {call}" if call else path


def _type(a: Trace, b: Trace, comparison: Comparison, row: int) -> str:
    """The type of a row's call, both where they differ: "softmax → Softmax"."""
    pairs = ((a, int(comparison.a[row])), (b, int(comparison.b[row])))
    return " → ".join(dict.fromkeys(clean(trace.columns.types[node], 60) for trace, node in pairs if node >= 0))


def _heads(a: Trace, b: Trace, example: int | None, width: int) -> Iterator[str]:
    """The heads of both traces: once where they agree, side by side where they do not."""
    one, other = (_head_lines(trace, example) for trace in (a, b))
    versions = (a.run.versions, b.run.versions)
    kept = [f"{clean(name)} {clean(value)}" for name, value in versions[0].items() if versions[1].get(name) == value]
    yield "the same in both"
    for name, value in one.items():
        if value == other[name] != "":
            yield f"  {name:<{_NAME}}{shorten(value, width - _NAME - 2)}"
    if kept:
        yield from _wrapped("versions", ", ".join(sorted(kept)), width)
    pairs = [(name, value, other[name]) for name, value in one.items() if value != other[name]]
    for name in sorted({*versions[0], *versions[1]}):
        if versions[0].get(name) != versions[1].get(name):
            value, second = (clean(side.get(name, ""), 60) for side in versions)
            pairs.append((clean(name), value, second))
    room = (width - _NAME - 4) // 2
    yield ""
    yield f"  {'different':<{_NAME}}{'A':<{room}}  B"
    for name, value, second in pairs:
        cells = [shorten(cell or "–", room) for cell in (value, second)]
        yield f"  {shorten(name, _NAME - 1):<{_NAME}}{cells[0]:<{room}}  {cells[1]}"


def _wrapped(name: str, told: str, width: int) -> list[str]:
    return textwrap.wrap(f"  {name:<{_NAME}}{told}", width, subsequent_indent=" " * (_NAME + 2))


def _head_lines(trace: Trace, example: int | None) -> dict[str, str]:
    """What ran on what and what came out, by name; "" for what is not known of a run that is not complete."""
    run, report = trace.run, TraceReport(trace, example)

    def known(value: float, signed: bool = False) -> str:
        return figure(value, signed) if report.complete or not math.isnan(value) else ""

    return {
        "file": clean(str(trace.path or "in memory")),
        "status": "" if run.status == "complete" else run.status,
        "model": clean(run.model),
        "method": clean(run.method),
        "variant": clean(run.variant),
        "rulebook": clean(run.rulebook),
        "target": clean(run.target),
        "text": clean(run.text),
        "reference": clean(run.reference),
        "examples": str(run.examples),
        "calls": str(len(trace.columns.parent)),
        "f(x)": known(report.figure(run.output)),
        "f(x')": known(report.figure(run.output_reference)),
        "f(x) - f(x')": known(report.change, signed=True),
        "delta": f"{figure(report.delta, signed=True)}  ({multiple(relative(report.delta, report.change))})"
        if report.complete
        else "",
    }


def _parting(a: Trace, b: Trace, comparison: Comparison, width: int) -> Iterator[str]:
    """Where the two begin to differ, in sentences."""
    rows = comparison
    yield ""
    yield "where they part"
    for what, row in (("values", rows.first_value), ("reference", rows.first_reference)):
        told = "the same in every call that both have"
        yield from _wrapped(what, told if row is None else f"differ from {_name(a, b, rows, row)} on", width)
    if rows.first is None or rows.worst is None:
        yield from _wrapped("leaks", f"no call's self leak differs by more than {figure(rows.tolerance)}", width)
        return
    for what, row in (("first call", rows.first), ("worst call", rows.worst)):
        yield from _wrapped(what, f"{_name(a, b, rows, row)}: {_leaks(rows, row)}", width)
    if rows.last_gain is not None and rows.first_value is None and a.run.target == b.run.target:
        gains = [
            f"not in {side}" if ids[rows.last_gain] < 0 else f"gain {figure(gain[ids[rows.last_gain]])} in {side}"
            for side, ids, gain in (("A", rows.a, a.columns.gain), ("B", rows.b, b.columns.gain))
        ]
        told = (
            f"{_name(a, b, rows, rows.last_gain)}: {', '.join(gains)}. Multipliers run from the output back and are "
            "the same behind this call, so look at it first: what differs before it may follow from it"
        )
        yield from _wrapped("last call", told, width)


def _leaks(comparison: Comparison, row: int) -> str:
    sides = (("A", comparison.a, comparison.self_leak_a), ("B", comparison.b, comparison.self_leak_b))
    parts = [
        f"not in {side}" if ids[row] < 0 else f"self leak {figure(float(leak[row]), signed=True)} in {side}"
        for side, ids, leak in sides
    ]
    return ", ".join(parts)


def _calls(a: Trace, b: Trace, comparison: Comparison, top: int, width: int) -> Iterator[str]:
    count = int(np.count_nonzero(comparison.diverging))
    if not count:
        return
    gaps = comparison.difference
    rows = worst_first(gaps)[: min(top, count)].tolist()
    yield ""
    wide = width >= _WIDE
    yield f"worst {len(rows)} of {count} calls that differ"
    yield f"{'self leak A':>12} {'self leak B':>12}" + f" {'difference':>12}" * wide + f"  {'type':<12} call"
    room = width - (53 if wide else 40)
    for row in rows:
        leaks = [
            "–" if ids[row] < 0 else figure(float(leak[row]), signed=True)
            for ids, leak in ((comparison.a, comparison.self_leak_a), (comparison.b, comparison.self_leak_b))
        ]
        gap = figure(float(gaps[row]), signed=True)
        kind = shorten(_type(a, b, comparison, row), 12)
        name = ending(_name(a, b, comparison, row), room)
        yield f"{leaks[0]:>12} {leaks[1]:>12}" + f" {gap:>12}" * wide + f"  {kind:<12} {name}"


def _one_sided(a: Trace, b: Trace, comparison: Comparison, width: int) -> Iterator[str]:
    """The calls that only one has, by type, with an example of each."""
    sides = ((a, "A", comparison.a, comparison.b), (b, "B", comparison.b, comparison.a))
    for trace, side, ids, others in sides:
        alone = ids[(others < 0)].tolist()
        if not alone:
            continue
        yield ""
        yield f"only in {side}: {len(alone)} of {len(trace.columns.parent)} calls"
        types = Counter(trace.columns.types[node] for node in alone)
        for kind, count in types.most_common(_GROUPS):
            first = next(node for node in alone if trace.columns.types[node] == kind)
            path = clean(trace.columns.paths[first]) or "the model"
            said = f"  {count} × {clean(kind, 28)}, the first: "
            yield said + ending(path, max(width - len(said), 8))
        if len(types) > _GROUPS:
            yield f"  and {len(types) - _GROUPS} types more"
