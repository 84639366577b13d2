"""Plain arrays over all calls of a trace, and what follows from them: severity, divergences, the worst call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

DIVERGING_SHARE = 0.01
LARGE_SHARE = 0.1
NEGLIGIBLE = 1e-3


class Severity(IntEnum):
    """How much of the leak a call makes itself, from nothing that matters to what is no number at all."""

    QUIET = 0
    DIVERGING = 1
    LARGE = 2
    NONFINITE = 3


def is_unknown(value: float, severity: Severity) -> bool:
    """Whether a figure is not known yet, as in a run that is being recorded: NaN that is no divergence."""
    return math.isnan(value) and severity is Severity.QUIET


@dataclass(frozen=True, slots=True)
class Figures:
    """Preorder arrays, one element a call; the subtree of call i is i … end[i] − 1. Leaks are summed over examples.

    `share` = |self leak| / Σ|self leak| (infinite where the self leak is no number). `severity` rates the call alone,
    `subtree_severity` the worst of its subtree. `diverging` are the ids of calls above QUIET, in the data's order.
    `own_seconds` is a call's time without the calls inside it.
    """

    parent: Ints
    end: Ints
    depth: Ints
    leak: Floats
    self_leak: Floats
    gain: Floats
    call: Ints
    seconds: Floats
    own_seconds: Floats
    kinds: Sequence[str]
    types: Sequence[str]
    paths: Sequence[str]
    share: Floats
    severity: npt.NDArray[np.uint8]
    subtree_severity: npt.NDArray[np.uint8]
    diverging: Ints
    worst: int
    largest_leak: float
    deepest: int

    def __len__(self) -> int:
        return len(self.parent)

    def has_children(self, node: int) -> bool:
        """Whether anything ran inside this call; no for −1, which is no call."""
        return node >= 0 and bool(self.end[node] > node + 1)


def derive(
    *,
    parent: npt.ArrayLike,
    end: npt.ArrayLike,
    depth: npt.ArrayLike,
    leak: npt.ArrayLike,
    self_leak: npt.ArrayLike,
    gain: npt.ArrayLike,
    call: npt.ArrayLike,
    seconds: npt.ArrayLike = (),
    kinds: Sequence[str],
    types: Sequence[str],
    paths: Sequence[str],
    change: float,
    diverging_share: float = DIVERGING_SHARE,
    complete: bool = True,
) -> Figures:
    """The figures of these columns, where `change` = f(x) − f(x').

    A call diverges when its self leak is `diverging_share` of Σ|self leak| or the largest of all, and also at least a
    thousandth of |change|: rounding noise of a run that closes is no divergence, however its shares fall, and fills no
    bar. `seconds` may be left out: the times are then NaN. Of a run that is not `complete`, NaN says that a figure is
    not known yet: that is no divergence.
    """
    leak_array = np.asarray(leak, dtype=np.float64)
    self_array = np.asarray(self_leak, dtype=np.float64)
    end_array = np.asarray(end, dtype=np.int64)
    magnitude = np.abs(self_array)
    finite = np.isfinite(magnitude)
    total = float(magnitude[finite].sum())
    share = np.where(finite, magnitude / total if total else 0.0, np.inf)
    largest = float(magnitude[finite].max(initial=0.0))
    floor = NEGLIGIBLE * abs(change) if np.isfinite(change) else 0.0
    threshold = max(min(diverging_share * total, largest), floor)

    severity = np.zeros(len(magnitude), dtype=np.uint8)
    severity[finite & (magnitude >= threshold) & (magnitude > 0)] = Severity.DIVERGING
    severity[(severity == Severity.DIVERGING) & (share >= LARGE_SHARE)] = Severity.LARGE
    bad = ~finite if complete else np.isinf(magnitude)
    severity[bad] = Severity.NONFINITE
    share[~finite & ~bad] = np.nan

    worst = int(np.argmax(np.where(bad, np.inf, np.nan_to_num(magnitude)))) if len(magnitude) else 0
    times = np.asarray(seconds, dtype=np.float64)
    if len(times) != len(magnitude):
        times = np.full(len(magnitude), np.nan)
    parents = np.asarray(parent, dtype=np.int64)
    finite_leaks = np.abs(leak_array[np.isfinite(leak_array)])
    return Figures(
        parent=parents,
        end=end_array,
        depth=np.asarray(depth, dtype=np.int64),
        leak=leak_array,
        self_leak=self_array,
        gain=np.asarray(gain, dtype=np.float64),
        call=np.asarray(call, dtype=np.int64),
        seconds=times,
        own_seconds=_own(times, parents),
        kinds=kinds,
        types=types,
        paths=paths,
        share=share,
        severity=severity,
        subtree_severity=subtree_maximum(severity, end_array),
        diverging=np.flatnonzero(severity),
        worst=worst,
        largest_leak=float(finite_leaks.max(initial=floor)),
        deepest=int(np.max(depth, initial=0)),
    )


def _own(seconds: Floats, parent: Ints) -> Floats:
    """The time of each call without the calls inside it, (N,); 0 where nothing was measured."""
    measured = np.nan_to_num(seconds, nan=0.0)
    inner = parent >= 0
    spent = np.bincount(parent[inner], weights=measured[inner], minlength=len(measured))
    return np.maximum(measured - spent, 0.0)


def subtree_maximum(severity: npt.NDArray[np.uint8], end: Ints) -> npt.NDArray[np.uint8]:
    """The largest severity in each subtree, by counting per level: levels are few, calls may be many."""
    result = np.zeros(len(severity), dtype=np.uint8)
    start = np.arange(len(severity))
    for level in range(1, max(Severity) + 1):
        before = np.concatenate(([0], np.cumsum(severity >= level)))
        result += (before[end] > before[start]).astype(np.uint8)
    return result
