"""Two traces side by side: their calls aligned in one tree, and where the two begin to differ. Pure, numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from tracer.analysis.alignment import Alignment, align
from tracer.analysis.verdict import changes
from tracer.errors import InputError
from tracer.records import Bools, Floats
from tracer.text import clean
from tracer.tracefile.columns import Ints
from tracer.tracefile.opening import damaged
from tracer.tracefile.trace import Trace

OF_CHANGE = 1e-3
"""Self leaks that differ by less than this share of the output's change count as equal."""
OF_LEAKS = 1e-6
"""The same as a share of Σ|self leak|: where leaks cancel in millions, rounding alone makes such differences."""
OF_VALUES = 1e-4
"""Norms and means of outputs that differ by less, relatively, are the same values, rounded differently."""

_FIGURES = ("value_count", "value_mean", "value_norm", "reference_count", "reference_mean", "reference_norm")
_OUTPUTS = (
    f"SELECT node, {', '.join(f'ifnull({figure}, 0)' for figure in _FIGURES)}"
    " FROM edge WHERE direction = 'out' AND slot = 0"
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Traces A and B as one tree of P rows in preorder, with a row for each call that either has.

    `a` and `b` are the ids of a row's call in each trace, −1 where only the other has it; `parent` (−1: none), `end`
    and `depth` are the merged tree's. `self_leak_a` and `self_leak_b` are of one example or summed over all, NaN where
    the call is absent. A row is `diverging` when they differ by more than `tolerance`, an absent call counting as 0.

    Rows or None: `first` diverging call in execution order and the `worst`. `first_value` and `first_reference` are
    the first calls whose first output tensor differs in the input run or in the reference run (in size, norm or mean,
    over all examples); where both are None the model computes the same in both traces. `last_gain` is the call nearest
    to the output whose gain differs or that one trace lacks: multipliers run from the output back, so what differs
    before it in execution order may follow from it.
    """

    a: Ints
    b: Ints
    parent: Ints
    end: Ints
    depth: Ints
    self_leak_a: Floats
    self_leak_b: Floats
    diverging: Bools
    first: int | None
    worst: int | None
    first_value: int | None
    first_reference: int | None
    last_gain: int | None
    tolerance: float

    @property
    def aligned(self) -> int:
        """Number of calls that both traces have."""
        return int(np.count_nonzero((self.a >= 0) & (self.b >= 0)))

    @property
    def difference(self) -> Floats:
        """Self leak in B − self leak in A, (P,), an absent call counting as 0."""
        return difference(_or_zero(self.self_leak_a, self.a), _or_zero(self.self_leak_b, self.b))


@np.errstate(over="ignore", invalid="ignore")  # a trace may hold any figures
def compare(a: Trace, b: Trace, example: int | None = None) -> Comparison:
    """The comparison of two traces, by one example or by the sums over all.

    `InputError` where a trace has no call or no call but the model itself is in both.
    """
    for name, trace in (("first", a), ("second", b)):
        if not len(trace.columns.parent):
            raise InputError(f"the {name} trace holds no call, so there is nothing to compare: record it again")
    leak_a, leak_b = a.leaks(example)[1], b.leaks(example)[1]
    rows = align(a.columns, b.columns)
    if np.count_nonzero((rows.a >= 0) & (rows.b >= 0)) <= 1 < min(len(leak_a), len(leak_b)):
        raise InputError(
            f"no call of {clean(a.run.model, 200) or 'the first model'} has the path of a call of "
            f"{clean(b.run.model, 200) or 'the second'}: "
            "compare two traces of one model"
        )
    self_leak_a, self_leak_b = _spread(leak_a, rows.a), _spread(leak_b, rows.b)
    gap = np.abs(difference(_or_zero(self_leak_a, rows.a), _or_zero(self_leak_b, rows.b)))
    tolerance = max(_tolerance(a, leak_a, example), _tolerance(b, leak_b, example))
    diverging = gap > tolerance
    value, reference = _differing_outputs(a, b, rows)
    gains = difference(_spread(a.columns.gain, rows.a), _spread(b.columns.gain, rows.b))
    steered = np.abs(gains) > OF_CHANGE * np.nan_to_num(_spread(a.columns.gain, rows.a))
    return Comparison(
        a=rows.a,
        b=rows.b,
        parent=rows.parent,
        end=rows.end,
        depth=rows.depth,
        self_leak_a=self_leak_a,
        self_leak_b=self_leak_b,
        diverging=diverging,
        first=_first(diverging),
        worst=int(np.argmax(gap)) if diverging.any() else None,
        first_value=_first_finished(value, rows.end, rows.depth),
        first_reference=_first_finished(reference, rows.end, rows.depth),
        last_gain=_last(steered),
        tolerance=tolerance,
    )


def difference(a: Floats, b: Floats) -> Floats:
    """b − a; 0 where both are the same infinity or both NaN, infinite where only one is NaN."""
    with np.errstate(invalid="ignore"):
        gap = np.where(a == b, 0.0, b - a)
    unlike = np.isnan(a) != np.isnan(b)
    return np.where(unlike, np.inf, np.where(np.isnan(a) & np.isnan(b), 0.0, gap))


def _tolerance(trace: Trace, self_leak: Floats, example: int | None) -> float:
    run = trace.run
    change = np.abs(changes(run))
    moved = float(change.sum() if example is None else change[example]) if len(change) else 0.0
    leaks = float(np.abs(self_leak[np.isfinite(self_leak)]).sum())
    return max(OF_CHANGE * moved if np.isfinite(moved) else 0.0, OF_LEAKS * leaks)


def _spread(values: Floats, ids: Ints) -> Floats:
    """The values of the calls `ids`, NaN where an id is −1."""
    return np.where(ids >= 0, values[ids], np.nan)


def _or_zero(values: Floats, ids: Ints) -> Floats:
    return np.where(ids >= 0, values, 0.0)


def _differing_outputs(a: Trace, b: Trace, rows: Alignment) -> tuple[Bools, Bools]:
    """For each row that both have, whether its outputs differ in the input run, and in the reference run, (P,) each."""
    figures_a, figures_b = _output_figures(a), _output_figures(b)
    both = (rows.a >= 0) & (rows.b >= 0)
    differ = []
    for run in range(2):
        count_a, mean_a, norm_a = figures_a[run][:, rows.a]
        count_b, mean_b, norm_b = figures_b[run][:, rows.b]
        norm = np.maximum(norm_a, norm_b)
        with np.errstate(invalid="ignore", divide="ignore"):
            root_mean_square = norm / np.sqrt(count_a)
            unlike = np.abs(norm_a - norm_b) > OF_VALUES * norm
            unlike |= np.abs(mean_a - mean_b) > OF_VALUES * root_mean_square
        differ.append(both & (count_a > 0) & (count_b > 0) & (unlike | (count_a != count_b)))
    return differ[0], differ[1]


def _output_figures(trace: Trace) -> npt.NDArray[np.float64]:
    """Size, mean and norm of each call's first output tensor: (2 runs, 3 figures, N); 0 where unknown."""
    figures = np.zeros((2, 3, len(trace.columns.parent)))
    try:
        # Several times faster than np.array, which matters for 100 000 calls.
        table = np.fromiter(chain.from_iterable(trace.query(_OUTPUTS)), dtype=np.float64).reshape(-1, 7)
    except (ValueError, TypeError) as error:
        raise damaged(trace.path, error) from error
    table = table[(table[:, 0] >= 0) & (table[:, 0] < figures.shape[2])]
    figures[:, :, table[:, 0].astype(np.int64)] = table[:, 1:].T.reshape(2, 3, -1)
    return figures


def _first(rows: Bools) -> int | None:
    return int(np.argmax(rows)) if rows.any() else None


def _last(rows: Bools) -> int | None:
    return int(np.flatnonzero(rows)[-1]) if rows.any() else None


def _first_finished(rows: Bools, end: Ints, depth: Ints) -> int | None:
    """The row whose call gave its output first: a call ends before the one around it does."""
    found = np.flatnonzero(rows)
    return int(found[np.lexsort((-depth[found], end[found]))[0]]) if len(found) else None
