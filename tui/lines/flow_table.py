"""A flow map with what its lines need: heat, sums, changes of sign, and the rows that do not add up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tracer.analysis.flow_map import FlowMap
from tracer.records import Bools, Floats
from tracer.text import clean
from tui.looks import heat
from tui.looks.heat import Levels

OFF_SHARE = 0.01
"""A row is marked when its sum is off by this part of f(x)-f(x') or more."""


@dataclass(frozen=True, slots=True)
class FlowTable:
    """A flow map made ready to be painted: one row a layer, one column a token.

    `levels` is the heat of each cell by the largest value of its row or of the whole map; `largest` is that value, one
    a row. `flips` is True where a token's sign differs from that in the last layer before in which it mattered. `off`
    is True for rows whose sum is not `change` = f(x) − f(x'), `empty` for rows that are all NaN, or whose tensors the
    trace left out; column sums leave such rows out.
    """

    map: FlowMap
    names: tuple[str, ...]
    tokens: tuple[str, ...]
    whole: bool
    levels: Levels
    largest: Floats
    flips: Bools
    row_sums: Floats
    column_sums: Floats
    off: Bools
    empty: Bools
    change: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.map.values.shape
        return int(rows), int(columns)


def table(flow: FlowMap, change: float, whole: bool) -> FlowTable:
    """The table of a flow map; `whole` measures the heat by the whole map, not row by row."""
    values = flow.values
    rows = [heat.largest_of(row) for row in values]
    largest = np.full(len(rows), max(rows, default=0.0)) if whole else np.array(rows, dtype=np.float64)
    empty: Bools = np.asarray(np.isnan(values).all(axis=1))
    with np.errstate(invalid="ignore"):  # infinities of both signs
        row_sums, column_sums = values.sum(axis=1), values[~empty].sum(axis=0)
        off = ~(np.abs(row_sums - change) <= OFF_SHARE * abs(change)) & ~empty
    return FlowTable(
        map=flow,
        names=tuple(clean(name, 200) for name in flow.names),
        tokens=tuple(clean(token, 60) for token in flow.tokens),
        whole=whole,
        levels=heat.levels(values, largest[:, None]),
        largest=largest,
        flips=sign_changes(values),
        row_sums=row_sums,
        column_sums=column_sums,
        off=off,
        empty=empty,
        change=change,
    )


def sign_changes(values: Floats) -> Bools:
    """Where a token's sign differs from that in the last row before in which it mattered, (rows, tokens).

    A value matters from the first level of its own row's heat on: noise around zero is not a change of sign.
    """
    largest = np.array([heat.largest_of(row) for row in values])
    mattering = np.abs(heat.levels(values, largest[:, None])) * np.isfinite(values) > 0
    signs = np.where(mattering, np.sign(values), 0.0)
    changed = np.zeros(values.shape, dtype=np.bool_)
    last = np.zeros(values.shape[1])
    for row, sign in enumerate(signs):
        changed[row] = sign * last < 0
        last = np.where(sign != 0, sign, last)
    return changed


def last_before(flow: FlowTable, row: int, column: int) -> float:
    """The token's value in the last layer before `row` in which it mattered, NaN where there is none."""
    values = flow.map.values
    for index in range(row - 1, -1, -1):
        value = float(values[index, column])
        if math.isfinite(value) and abs(value) >= heat.BOUNDS[0] * heat.largest_of(values[index]) and value != 0:
            return value
    return math.nan


def start(flow: FlowTable) -> tuple[int, int]:
    """Where the cursor begins: in the layer with the most changes of sign, else at the largest value of the first."""
    counts = flow.flips.sum(axis=1)
    row = int(np.argmax(counts))
    if counts[row]:
        return row, int(np.argmax(flow.flips[row]))
    sizes = np.abs(flow.map.values[0])
    return 0, int(np.argmax(np.where(np.isnan(sizes), -1.0, sizes)))
