"""Δ of two recorded tensors: value − reference as the recorder takes it. Pure, numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BLOCK_BYTES = 1 << 20
"""About so many bytes of a tensor are read and subtracted at a time."""


def difference(value: npt.NDArray[Any], reference: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """value − reference in their own dtype; 0 where both are the same infinity: masks put −inf into both runs.

    Integers and booleans are subtracted in float64.
    """
    if not np.issubdtype(value.dtype, np.inexact):
        value, reference = value.astype(np.float64), reference.astype(np.float64)
    with np.errstate(all="ignore"):
        delta: npt.NDArray[Any] = np.subtract(value, reference)
        if not np.isfinite(delta.sum()):
            delta[value == reference] = 0
    return delta
