"""Two trees of calls merged into one: calls of the same path, number and parent share a row. Pure, numpy only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tracer import ops
from tracer.tracefile.columns import Columns, Ints


@dataclass(frozen=True, slots=True)
class Alignment:
    """The merged tree of P rows in preorder: `a` and `b` are ids in each trace, −1 where it lacks the call."""

    a: Ints
    b: Ints
    parent: Ints
    end: Ints
    depth: Ints


def align(a: Columns, b: Columns) -> Alignment:
    """The merged tree of two traces of one call or more each; the models themselves are one row.

    Rows are in A's order; a call that only B has comes after the call that it follows in B. A functional op and a
    module that does the same for the same parent are one row: a softmax and the `nn.Softmax` that was made of it.
    """
    in_b = _matches(a, b)
    in_a = np.full(len(b.parent), -1, dtype=np.int64)
    shared = np.flatnonzero(in_b >= 0)
    in_a[in_b[shared]] = shared
    only_b = np.flatnonzero(in_a < 0)
    position = _places(a, b, in_a, only_b)
    order_a = np.arange(len(a.parent))
    # Calls of B alone go before the call of A at their position, in B's order, which puts parents before children.
    late = np.full_like(order_a, len(b.parent))
    rows = np.lexsort((np.concatenate((late, only_b)), np.concatenate((order_a, position))))
    ids_a = np.concatenate((order_a, np.full_like(only_b, -1)))[rows]
    ids_b = np.concatenate((in_b, only_b))[rows]
    return Alignment(ids_a, ids_b, *_tree(a, b, ids_a, ids_b))


def _matches(a: Columns, b: Columns) -> Ints:
    """The id in B of each call of A, −1 where B has none: level by level, since their parents must match too."""
    if a.paths == b.paths and np.array_equal(a.call, b.call) and np.array_equal(a.parent, b.parent):
        return np.arange(len(a.paths))  # the usual case, two methods on one model, done faster
    known = {key: index for index, key in enumerate(zip(b.paths, b.call.tolist(), strict=True))}
    namesakes = [known.get(key, -1) for key in zip(a.paths, a.call.tolist(), strict=True)]
    namesakes[0] = 0
    candidate = np.array(namesakes)
    match = np.full(len(namesakes), -1, dtype=np.int64)
    match[0] = 0
    taken = np.zeros(len(b.paths), dtype=bool)
    taken[0] = True
    for level in range(int(a.depth.max()) + 1):
        here = np.flatnonzero((a.depth == level) & (match < 0))
        parent = np.where(a.parent[here] < 0, -1, match[a.parent[here]])
        reachable = (parent >= 0) | (a.parent[here] < 0)
        other = candidate[here]
        fits = reachable & (other >= 0) & (b.parent[other] == parent) & ~taken[other]
        match[here[fits]] = other[fits]
        taken[other[fits]] = True
        left = reachable & ~fits & (parent >= 0)
        if left.any():
            left_b = np.flatnonzero((b.depth == level) & ~taken)
            for one, same in _alike(a, b, here[left].tolist(), parent[left].tolist(), left_b.tolist()):
                match[one] = same
                taken[same] = True
    return match


def _alike(
    a: Columns, b: Columns, left_a: list[int], parents: list[int], left_b: list[int]
) -> Iterator[tuple[int, int]]:
    """Pairs of an op and a module that do the same for one parent, among calls that have no match by path.

    `parents` are those of `left_a` in B. Several are paired in order, if both have as many.
    """
    partners: dict[tuple[int, str, bool], list[int]] = {}  # by parent, by what it does, and whether B has the op
    for node in left_b:
        partners.setdefault((int(b.parent[node]), _does(b, node), b.kinds[node] == "op"), []).append(node)
    groups: dict[tuple[int, str, bool], list[int]] = {}
    for node, parent in zip(left_a, parents, strict=True):
        groups.setdefault((parent, _does(a, node), a.kinds[node] != "op"), []).append(node)
    for key, group in groups.items():
        others = partners.get(key, [])
        if len(others) == len(group):
            yield from zip(group, others, strict=True)


def _does(columns: Columns, node: int) -> str:
    """What a call computes, by one name for an op and its module: "softmax", "layer_norm"."""
    return ops.common_name(columns.types[node])


def _places(a: Columns, b: Columns, in_a: Ints, only_b: Ints) -> Ints:
    """For each call that only B has: the call of A that it goes before."""
    position = np.empty_like(only_b)
    if not len(only_b):
        return position
    end_a = a.end.tolist()
    resume: dict[int, int] = {}  # where in A the next child of a call of B goes
    outermost = end = -1
    found = 0
    for node, (parent, known) in enumerate(zip(b.parent.tolist(), in_a.tolist(), strict=True)):
        if known >= 0:
            resume[parent], resume[node] = end_a[known], known + 1
            continue
        if node >= end:
            outermost, end = node, int(b.end[node])
        position[found] = resume[int(b.parent[outermost])]
        found += 1
    return position


def _tree(a: Columns, b: Columns, ids_a: Ints, ids_b: Ints) -> tuple[Ints, Ints, Ints]:
    """Parent, end and depth of each row."""
    rows = np.arange(len(ids_a))
    has_a = ids_a >= 0
    row_of_a, row_of_b = np.empty(len(a.parent), dtype=np.int64), np.empty(len(b.parent), dtype=np.int64)
    row_of_a[ids_a[has_a]] = rows[has_a]
    row_of_b[ids_b[ids_b >= 0]] = rows[ids_b >= 0]
    parent = np.full(len(rows), -1, dtype=np.int64)
    for ids, row_of, columns, here in ((ids_b, row_of_b, b, ~has_a), (ids_a, row_of_a, a, has_a)):
        above = columns.parent[ids[here]]
        parent[here] = np.where(above < 0, -1, row_of[above])
    depth = np.where(has_a, a.depth[ids_a], b.depth[ids_b])
    size = np.ones(len(rows), dtype=np.int64)
    for level in range(int(depth.max()), 0, -1):
        inside = rows[depth == level]
        np.add.at(size, parent[inside], size[inside])
    return parent, rows + size, depth
