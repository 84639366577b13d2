"""How far two rankings of the same tokens agree. Pure, numpy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tracer.records import Floats


def cosine(first: Sequence[float], second: Sequence[float]) -> float:
    """The cosine of the angle between two score vectors, −1 to 1; NaN where one is zero or not finite."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms and np.isfinite(norms) else float("nan")


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation, −1 to 1: Pearson's correlation of the ranks, equal scores sharing their mean
    rank."""
    a, b = _ranks(np.asarray(first, dtype=np.float64)), _ranks(np.asarray(second, dtype=np.float64))
    return cosine((a - a.mean()).tolist(), (b - b.mean()).tolist()) if len(a) else float("nan")


def _ranks(scores: Floats) -> Floats:
    _values, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: Floats = (last - (counts - 1) / 2)[group]
    return mean
