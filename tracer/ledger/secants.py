"""How an elementwise rule did: its largest secant Δout / Δin, and how often Δin was too small for one."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tracer.ledger.arrays import HostTensor, Numbers, extremes, ratio

SMALL_DIFFERENCE = 1e-10  # captum's eps: its rules use the gradient where |Δin| is below it


class CallSide(NamedTuple):
    """Δ and multiplier of a call's argument, or of its result; None where they are not known."""

    difference: Numbers | None
    multiplier: HostTensor | None


class Secants(NamedTuple):
    """The largest |m_in / m_out|; how many Δin are small; how many of those have a Δout that is not, which is lost."""

    largest: float = float("nan")
    small: int = 0
    dropped: int = 0


def secants(source: CallSide, result: CallSide) -> Secants:
    """The figures of a call with one argument and one result; those of no element where their shapes differ."""
    din, dout = source.difference, result.difference
    if din is None or dout is None or din.shape != dout.shape:
        return Secants()
    small = np.abs(din) < SMALL_DIFFERENCE
    near = int(np.count_nonzero(small))
    dropped = int(np.count_nonzero(np.abs(dout[small]) >= SMALL_DIFFERENCE)) if near else 0
    return Secants(_largest(source.multiplier, result.multiplier), near, dropped)


def _largest(m_in: HostTensor | None, m_out: HostTensor | None) -> float:
    """The largest |m_in / m_out| where m_in is finite and m_out is not 0; NaN if that is nowhere."""
    if m_in is None or m_out is None or m_in.numbers is None or m_out.numbers is None:
        return float("nan")
    secant = ratio(m_in.numbers, m_out.numbers)
    largest = _size(secant.ravel("K"))
    if not math.isfinite(largest):
        largest = _size(secant[(m_out.numbers != 0) & np.isfinite(m_in.numbers)])
    return largest


def _size(array: Numbers) -> float:
    """The largest |element| of a flat array; NaN if any element is NaN, or the array is empty."""
    if not array.size:
        return float("nan")
    low, high = extremes(array)
    return max(high, -low)
