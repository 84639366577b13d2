"""Multipliers of orders (sort, top-k, argmax): a change of order goes to the two scores that cross.

On the straight way from x' to x each two scores cross at most once. There the order changes by one swap of neighbours,
i from rank r to r + 1 and l from r + 1 to r. With s[r, j] = 1 where score j stands at rank r, the jump of Σ G·s is
G[r, l] − G[r, i] + G[r + 1, i] − G[r + 1, l]. It belongs to the difference of the two scores: ± jump / Δ(x_l − x_i).
The jumps telescope, so their sum is the whole change. A value by rank, in turn, is piecewise linear on the way: each
score gets of g[r] the share of the way that it stood at rank r.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tracer.rules.formulas.infinity import finite


def ranked(
    g_values: Tensor | None, g_places: Tensor | None, x: Tensor, x_ref: Tensor, index: Tensor, index_ref: Tensor
) -> Tensor:
    """Multiplier of the scores `x` (R, n), the largest first, of the shape and dtype of `x`.

    `index` and `index_ref` (R, k) say which score stands at each of the first k ranks in each run. `g_values` (R, k)
    arrives at the values by rank, `g_places` (R, k, n) at the selection s.

    Law: Σ m·Δx = Σ g_values·Δvalues + Σ g_places·Δs for each row, where any score moved.
    """
    result = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
    same = (index == index_ref).all(-1)
    if g_values is not None:
        result.scatter_add_(-1, index, torch.where(same.unsqueeze(-1), g_values.double(), 0.0))
    rows = (~same).nonzero().squeeze(-1)
    if rows.numel():
        way = _Way(x[rows], x_ref[rows], index[rows], index_ref[rows])
        values = None if g_values is None else g_values[rows].double()
        places = None if g_places is None else g_places[rows].double()
        result[rows] += _along(way, values, places)
    return result.to(x.dtype)


def full_order(x: Tensor, index: Tensor) -> Tensor:
    """All n places of rows of `x`: those of `index` first, as they stand there, the others by falling score."""
    chosen = torch.zeros_like(x, dtype=torch.int8).scatter_(-1, index, 1)
    order = x.argsort(dim=-1, descending=True, stable=True)
    rest = chosen.gather(-1, order).argsort(dim=-1, stable=True)[..., : x.shape[-1] - index.shape[-1]]
    return torch.cat([index, order.gather(-1, rest)], -1)


class _Way:
    """The order of rows of scores on its way from the reference's to the input's, swap by swap.

    A score with k others above it at both ends never is among the first k: only the others, `width` at most, take
    part. `current` (R, width) is the order now, `_target` the rank that each of them has at the end.
    """

    def __init__(self, x: Tensor, x_ref: Tensor, index: Tensor, index_ref: Tensor) -> None:
        self.x, self.x_ref = (finite(t.double()) for t in (x, x_ref))
        order, order_ref = full_order(self.x, index), full_order(self.x_ref, index_ref)
        rank, rank_ref = order.argsort(-1), order_ref.argsort(-1)
        above = (rank.unsqueeze(-1) > rank.unsqueeze(-2)) & (rank_ref.unsqueeze(-1) > rank_ref.unsqueeze(-2))
        matters = above.sum(-1) < index.shape[-1]
        width = int(matters.sum(-1).max())
        first = (~matters).gather(-1, order_ref).to(torch.int8).argsort(dim=-1, stable=True)
        self.current = order_ref.gather(-1, first)[:, :width]
        behind = rank.shape[-1] + torch.arange(width, device=x.device)  # what does not matter never swaps
        self._target = torch.where(matters.gather(-1, self.current), rank.gather(-1, self.current), behind)
        self.time = torch.zeros(len(x), dtype=torch.float64, device=x.device)

    def swap(self) -> _Swap | None:
        """The next swap of each row that has one left; None at the end of the way."""
        turned = self._target[:, :-1] > self._target[:, 1:]
        rows = turned.any(-1).nonzero().squeeze(-1)
        if not rows.numel():
            return None
        current, turned = self.current[rows], turned[rows]
        apart_ref, apart = (t[rows].gather(-1, current).diff(dim=-1).neg() for t in (self.x_ref, self.x))
        change = apart_ref - apart
        when = torch.where(change > 0, apart_ref / change, 0.0).clamp(0, 1)
        rank = torch.where(turned, when, torch.inf).argmin(-1, keepdim=True)
        self.time[rows] = torch.maximum(self.time[rows], when.gather(-1, rank).squeeze(-1))
        pair = torch.cat([rank, rank + 1], -1)
        falls, rises = current.gather(-1, pair).unbind(-1)
        for table in (self.current, self._target):
            table[rows] = table[rows].scatter(-1, pair, table[rows].gather(-1, pair.flip(-1)))
        return _Swap(rows, rank.squeeze(-1), falls, rises, change.gather(-1, rank).squeeze(-1))


@dataclass(frozen=True, slots=True)
class _Swap:
    """One swap in each of `rows`: score `falls` from `rank` to the next, score `rises` the other way.

    `change` = Δ(x_rises − x_falls) ≥ 0, 0 where the two tie in both runs. All of shape (rows,).
    """

    rows: Tensor
    rank: Tensor
    falls: Tensor
    rises: Tensor
    change: Tensor


def _along(way: _Way, g_values: Tensor | None, g_places: Tensor | None) -> Tensor:
    """The multiplier of rows whose order changes, float64 (R, n)."""
    given = g_values if g_values is not None else g_places
    assert given is not None
    k = given.shape[1]
    m = torch.zeros_like(way.x)
    since = torch.zeros(len(m), k, dtype=torch.float64, device=m.device)  # when a rank's score came to stand there
    tied = torch.zeros_like(way.time)
    while (swap := way.swap()) is not None:
        for rank, leaves in ((swap.rank, swap.falls), (swap.rank + 1, swap.rises)):
            inside = rank < k
            row, at, who = swap.rows[inside], rank[inside], leaves[inside]
            if g_values is not None:
                m[row, who] += g_values[row, at] * (way.time[row] - since[row, at])
                since[row, at] = way.time[row]
        if g_places is not None:
            jump = torch.zeros_like(swap.change)
            for rank, leaves, comes in (
                (swap.rank, swap.falls, swap.rises),
                (swap.rank + 1, swap.rises, swap.falls),
            ):
                inside = rank < k
                row, at = swap.rows[inside], rank[inside]
                jump[inside] += g_places[row, at, comes[inside]] - g_places[row, at, leaves[inside]]
            decided = swap.change > 0
            weight = torch.where(decided, jump / swap.change, 0.0)
            m[swap.rows, swap.rises] += weight
            m[swap.rows, swap.falls] -= weight
            tied[swap.rows] += torch.where(decided, 0.0, jump)
    if g_values is not None:
        m.scatter_add_(-1, way.current[:, :k], g_values * (1 - since))
    return m + _shared_out(tied, way.x - way.x_ref)


def _shared_out(tied: Tensor, change: Tensor) -> Tensor:
    """Jumps between scores that tie in both runs, which no difference of theirs decides: to what moved, by minimum
    norm."""
    power = change.square().sum(-1)
    return torch.where(power > 0, tied / power, 0.0).unsqueeze(-1) * change
