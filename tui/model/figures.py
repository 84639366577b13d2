"""The columns of a trace with the severity of each call, as plain arrays: what the screens of calls show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tracer.analysis.severity import DIVERGING_SHARE, rate, subtree_maximum
from tracer.records import Floats

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Figures:
    """Preorder arrays, one element a call; the subtree of call i is i … end[i] − 1. Leaks are summed over examples.

    `share` = |self leak| / Σ|self leak| (infinite where the self leak is NaN). `severity` rates the call alone,
    `subtree_severity` the worst of its subtree. `diverging` are the ids of calls above QUIET, in execution order.
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
        """Whether anything ran inside this call; no for −1, which is not a call."""
        return node >= 0 and bool(self.end[node] > node + 1)


def figure_of(values: Floats, example: int | None) -> float:
    """The figure of one example, or the sum over all; NaN where an unfinished run has none."""
    if example is None:
        return float(np.sum(values))
    return float(values[example]) if example < len(values) else math.nan


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
    """The figures of these columns, where `change` = f(x) − f(x'); `tracer.analysis.severity.rate` rates the calls.

    `seconds` may be left out: the times are then NaN. Of a run that is not `complete`, NaN says that a figure is not
    known yet. A leak that is negligible against `change` fills no bar, so `largest_leak` is at least that.
    """
    leak_array = np.asarray(leak, dtype=np.float64)
    self_array = np.asarray(self_leak, dtype=np.float64)
    end_array = np.asarray(end, dtype=np.int64)
    rated = rate(self_array, change, diverging_share, complete)
    times = np.asarray(seconds, dtype=np.float64)
    if len(times) != len(self_array):
        times = np.full(len(self_array), np.nan)
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
        share=rated.share,
        severity=rated.severity,
        subtree_severity=subtree_maximum(rated.severity, end_array),
        diverging=np.flatnonzero(rated.severity),
        worst=rated.worst,
        largest_leak=float(finite_leaks.max(initial=rated.negligible)),
        deepest=int(np.max(depth, initial=0)),
    )


def _own(seconds: Floats, parent: Ints) -> Floats:
    """The time of each call without the calls inside it, (N,); 0 where nothing was measured."""
    measured = np.nan_to_num(seconds, nan=0.0)
    inner = parent >= 0
    spent = np.bincount(parent[inner], weights=measured[inner], minlength=len(measured))
    return np.maximum(measured - spent, 0.0)
