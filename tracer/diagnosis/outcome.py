"""Faults of what is explained: an output that no longer changes, and choices that jump between input and reference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from tracer import ops
from tracer.analysis.verdict import changes
from tracer.diagnosis.evidence import Evidence
from tracer.diagnosis.fault import fault
from tracer.diagnosis.noted import noted_finding
from tracer.diagnosis.phrases import exact, number, weight
from tracer.records import UNDECIDED, Bools, Finding
from tracer.text import clean, figure

_PROBABILITIES = ("softmax", "sigmoid")
_WORTH_KNOWING = 0.1
"""Of the output's change, what may go through choices without a word."""
_FLAT = 1e-3
"""A probability this close to 0 or 1 hardly changes with its logit: the slope is at most this."""


def saturated_call(evidence: Evidence) -> int | None:
    """The call whose output is the probability that is explained, where that lies within 1e-3 of 0 or 1."""
    last = _last_call(evidence)
    return last if last is not None and bool(np.any(_flat(evidence, last))) else None


def all_saturated(evidence: Evidence) -> bool:
    """Whether the output of every example shown is flat, so that no other rule would attribute more."""
    last = _last_call(evidence)
    return last is not None and bool(np.all(_flat(evidence, last)))


def _flat(evidence: Evidence, last: int) -> Bools:
    """For each example shown, whether the probability that the call `last` gives is flat where its rule reads it."""
    if ops.common_name(evidence.columns.types[last]) not in _PROBABILITIES:
        return np.zeros(1, dtype=np.bool_)
    run = evidence.trace.run
    output, reference = (evidence.shown(values) for values in (run.output, run.output_reference))
    ends = [(np.abs(values) < _FLAT) - 1 * (np.abs(values - 1) < _FLAT) for values in (output, reference)]
    stays = (ends[0] != 0) & (ends[0] == ends[1])
    # A gradient that is read at a flat end explains nothing, wherever the reference lies; an exact rule does.
    by_gradient = evidence.rules[last] in ("autograd", "gradient")
    flat: Bools = stays | (by_gradient & (ends[0] != 0))
    return flat


@fault("saturated-output")
def saturated_output(evidence: Evidence) -> Iterator[Finding]:
    """A probability so near 0 or 1 that its input hardly changes it."""
    last = saturated_call(evidence)
    if last is None:
        return
    run = evidence.trace.run
    output, reference = (evidence.shown(values) for values in (run.output, run.output_reference))
    worst = int(np.argmin(np.minimum(np.abs(output), np.abs(output - 1))))
    name = clean(evidence.columns.types[last], 60)
    leaks = bool(evidence.leaking[last]) and evidence.matters([last])
    message = (
        f"the attribution explains a probability of {_probability(float(output[worst]))} "
        f"({_probability(float(reference[worst]))} at the reference), where {name} is flat and the attributions vanish"
    )
    yield evidence.finding(
        "saturated-output",
        [last],
        f"{message}; {weight(evidence, [last])}" if leaks else message,
        f"explain the logit instead: attribute to the model without its last {name}",
        evidence=(("output", float(output[worst])), ("output at the reference", float(reference[worst]))),
        leaks=leaks,
    )


@fault("discrete-choice")
def discrete_choice(evidence: Evidence) -> Iterator[Finding]:
    """Calls that pick by a mask, index or order that differs between the runs: no continuous path joins the two."""
    constants = evidence.at(evidence.noted.get("differing constant", ()))
    chosen = [
        node
        for node in evidence.suspects(("autograd", "gradient", "discrete choice"))
        if evidence.rules[node] == "discrete choice"
        or (ops.jumps(evidence.columns.types[node]) and node not in constants and not evidence.ruled_exactly(node))
    ]
    nodes = [node for node in chosen if node not in evidence.accounted and evidence.in_sum(node)]
    undecided = evidence.at(n for n in evidence.noted.get("discrete choice", ()) if n.detail == UNDECIDED)
    groups: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for node in nodes:
        groups[evidence.columns.types[node], evidence.rules[node] == "discrete choice" or node in undecided].append(
            node
        )
    for (name, noted), group in groups.items():
        picks = f"{clean(name, 60)} picks different elements for the input and for the reference"
        if noted:
            message = f"{picks}, and nothing that the input decides: {weight(evidence, group)}"
            advice = "choose a reference for which the model makes the same choice, or read this error as its share"
        else:
            message = f"{picks}, and the gradient does not see the jump; {weight(evidence, group)}"
            advice = exact(evidence, name)
        yield evidence.finding("discrete-choice", group, message, advice)


@fault("decided")
def decided(evidence: Evidence) -> Iterator[Finding]:
    """A good part of the change went through choices that the input makes: true, and worth knowing."""
    notes = sorted(evidence.noted.get("decided", ()), key=lambda note: -note.amount)
    run = evidence.trace.run
    change = float(np.abs(changes(run)).sum())
    amount = sum(note.amount for note in notes)
    if not amount > _WORTH_KNOWING * change:
        return
    ops_named = list(dict.fromkeys(clean(note.path, 60).rpartition("/")[2] for note in notes))
    named = ", ".join(ops_named[:3]) + (f" and {len(ops_named) - 3} more" if len(ops_named) > 3 else "")
    yield noted_finding(
        evidence,
        "decided",
        notes,
        f"{figure(amount)} of attribution, against a change of the output of {figure(change)}, goes through choices "
        f"that the input makes ({named}): masks, orders, indices or experts that differ between input and reference",
        "nothing is wrong: the attribution to what decides is part of the sum; for less of it, choose a reference for "
        "which the model makes the same choices",
        proof=(("decided", amount), ("change of f", change)),
        source=notes[0].source,
    )


def _last_call(evidence: Evidence) -> int | None:
    """The call that makes the model's output: the last one with the figures of the model's own output."""
    if not evidence.rules:
        return None
    results = evidence.edges(0, "out")
    if len(results) != 1 or results[0].value_statistics is None:
        return None
    made = results[0].value_statistics
    columns = evidence.columns
    for node in range(len(columns.end) - 1, 0, -1):
        if columns.end[node] > node + 1 or columns.kinds[node] == "lost":
            continue
        if any(edge.value_statistics == made for edge in evidence.edges(node, "out")):
            return node
        if ops.common_name(columns.types[node]) in _PROBABILITIES or evidence.traffic[node] > 0:
            return None
    return None


def _probability(value: float) -> str:
    """A number near 0 or 1 with its distance from there: "1 − 2e-05", "3.1e-07"."""
    if abs(value - 1) < _FLAT and value != 1:
        return f"1 − {number(1 - value)}" if value < 1 else figure(value)
    return number(value)
