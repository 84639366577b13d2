"""How bad each call's self leak is: its share of all, and whether it is noise, a divergence, or NaN or infinite."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from tracer.records import Floats
from tracer.tracefile.columns import Ints

Severities = npt.NDArray[np.uint8]

DIVERGING_SHARE = 0.01
LARGE_SHARE = 0.1
NEGLIGIBLE = 1e-3


class Severity(IntEnum):
    """How bad a call's self leak is, from negligible to NaN or infinite."""

    QUIET = 0
    DIVERGING = 1
    LARGE = 2
    NONFINITE = 3


@dataclass(frozen=True, slots=True)
class Rating:
    """What `rate` says of N calls.

    `share` = |self leak| / Σ|self leak| (N,), infinite where the self leak is NaN or infinite, NaN where it is not
    known yet. `severity` (N,) rates each call alone. `worst` is the id of the worst call, 0 where there is none.
    `negligible` is the self leak under which no call diverges: `NEGLIGIBLE` times the output's change.
    """

    share: Floats
    severity: Severities
    worst: int
    negligible: float


def rate(self_leak: Floats, change: float, diverging_share: float = DIVERGING_SHARE, complete: bool = True) -> Rating:
    """The severity of each call by its self leak (N,), where `change` = f(x) − f(x').

    A call diverges when its self leak is `diverging_share` of Σ|self leak| or the largest of all, and also at least a
    thousandth of |change|: rounding noise of a run whose delta vanishes is not a divergence, whatever its shares. In a
    run that is not `complete`, NaN says that a self leak is not known yet: that is not a divergence.
    """
    magnitude = np.abs(self_leak)
    finite = np.isfinite(magnitude)
    total = float(magnitude[finite].sum())
    share = np.where(finite, magnitude / total if total else 0.0, np.inf)
    largest = float(magnitude[finite].max(initial=0.0))
    negligible = NEGLIGIBLE * abs(change) if np.isfinite(change) else 0.0
    threshold = max(min(diverging_share * total, largest), negligible)

    severity = np.zeros(len(magnitude), dtype=np.uint8)
    severity[finite & (magnitude >= threshold) & (magnitude > 0)] = Severity.DIVERGING
    severity[(severity == Severity.DIVERGING) & (share >= LARGE_SHARE)] = Severity.LARGE
    bad = ~finite if complete else np.isinf(magnitude)
    severity[bad] = Severity.NONFINITE
    share[~finite & ~bad] = np.nan
    worst = int(np.argmax(np.where(bad, np.inf, np.nan_to_num(magnitude)))) if len(magnitude) else 0
    return Rating(share, severity, worst, negligible)


def is_unknown(value: float, severity: Severity) -> bool:
    """Whether a figure is not known yet, as in a run that is being recorded: NaN that is not a divergence."""
    return math.isnan(value) and severity is Severity.QUIET


def subtree_maximum(severity: Severities, end: Ints) -> Severities:
    """The largest severity in each subtree i … end[i] − 1, (N,)."""
    result = np.zeros(len(severity), dtype=np.uint8)
    start = np.arange(len(severity))
    for level in range(1, max(Severity) + 1):  # by counting: levels are few, calls may be many
        before = np.concatenate(([0], np.cumsum(severity >= level)))
        result += (before[end] > before[start]).astype(np.uint8)
    return result
