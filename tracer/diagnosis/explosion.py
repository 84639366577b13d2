"""Calls that blow multipliers up, which makes the honest leaks of all calls before them look large."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tracer import ops
from tracer.diagnosis.evidence import Evidence
from tracer.records import Floats

# No softmax has a slope above 1/2; captum's rule also subtracts the mean, which alone can make one element large.
_SLOPE, _SECANT = 0.5, 10.0
# Other ops that are ruled element by element: their steepest slope is not known.
_OTHER_GAIN, _OTHER_SECANT = 10.0, 100.0
_INFLATED = 10.0


def exploding(evidence: Evidence) -> list[int]:
    """The calls ruled element by element that blow multipliers up, in execution order."""
    if evidence.trace.run.status != "complete":
        return []
    gain, secant = evidence.columns.gain, evidence.largest_secant
    found = []
    for node in np.flatnonzero((secant > _SECANT) & (gain > _SLOPE)).tolist():
        if evidence.rules[node] not in ("captum", "rescale") or node in evidence.unread:
            continue
        if ops.common_name(evidence.columns.types[node]) == "softmax" or (
            gain[node] > _OTHER_GAIN and secant[node] > _OTHER_SECANT
        ):
            found.append(node)
    return found


def sizes_without(evidence: Evidence, exploding: Sequence[int]) -> Floats:
    """(N,) an estimate of each call's |self leak| had no call blown the multipliers up.

    A leak is in proportion to the traffic through its call. Sound is the largest traffic of a call after the last
    explosion in execution order, and at least the output's change; any other call with more than ten times that is
    brought down to it.
    """
    if not exploding:
        return evidence.size.copy()
    last = max(exploding)
    order = np.arange(len(evidence.size))
    sound = float(np.max(evidence.traffic[last + 1 :], initial=evidence.change))
    blown_up = (order <= last) & (evidence.traffic > _INFLATED * sound)
    factor = np.where(blown_up, sound / np.where(blown_up, evidence.traffic, 1.0), 1.0)
    return evidence.size * factor
