"""The figures of all calls of a trace as columns, read at once, and checked to form a tree."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from tracer.records import Floats, NodeKind
from tracer.tracefile.cells import Cell, unpack
from tracer.tracefile.layout import NODE_FIGURE_NAMES, NODE_FIGURES
from tracer.tracefile.reader import Reader

Ints = npt.NDArray[np.int64]

_FIGURES_QUERY = f"SELECT CASE WHEN length(figures) = {NODE_FIGURES.size} THEN figures END FROM node ORDER BY id"
# Texts come as one JSON list a column: several times faster than a cell each. They come a thousand nodes at a time, as
# SQLite bounds such a list only when it is whole.
_NAMES_QUERY = (
    "SELECT max(id), json_group_array(kind), json_group_array(type), json_group_array(path) FROM (SELECT id, "
    + ", ".join(f"CASE WHEN length({name}) < 16384 THEN {name} END AS {name}" for name in ("kind", "type", "path"))
    + " FROM node WHERE id > ? ORDER BY id LIMIT 1000)"
)
_FIGURES = np.dtype([(name, "<i8" if index < 5 else "<f8") for index, name in enumerate(NODE_FIGURE_NAMES)])
_KINDS = frozenset(get_args(NodeKind))


@dataclass(frozen=True, slots=True)
class Columns:
    """The figures of all N nodes in preorder, summed over the examples, an array or list each (root: parent −1)."""

    parent: Ints
    end: Ints
    depth: Ints
    call: Ints
    leak: Floats
    self_leak: Floats
    gain: Floats
    relative_leak: Floats
    seconds: Floats
    kinds: list[NodeKind]
    types: list[str]
    paths: list[str]


def read_columns(reader: Reader, complete: bool) -> Columns:
    """The columns of an open trace, whose run is `complete` or not.

    Of a run that is not complete (killed, failed, or still under way) the nodes before the first missing one are kept.
    """
    figures = reader.rows(_FIGURES_QUERY, width=NODE_FIGURES.size)
    with reader.decoding():
        return _from_rows(figures, list(_names(reader)), complete)


def read_leaks(reader: Reader, count: int, examples: int, example: int) -> tuple[Floats, Floats]:
    """Leak and self leak of the first `count` nodes in one of the examples, (N,) each."""
    if not count:  # killed before its first call
        return np.zeros(0), np.zeros(0)
    size = 8 * examples
    cells = (f"CASE WHEN length({name}) = {size} THEN {name} END" for name in ("leak_examples", "self_leak_examples"))
    rows = reader.rows(f"SELECT {', '.join(cells)} FROM node ORDER BY id LIMIT ?", (count,), 2 * size)
    with reader.decoding():
        leak, self_leak = (
            unpack(b"".join(column)).reshape(count, examples)[:, example] for column in zip(*rows, strict=True)
        )
    return leak, self_leak


def worst_first(self_leak: Floats) -> Ints:
    """The ids of all nodes by falling |self leak|; NaN first, the earlier node first where two are equal."""
    size = np.abs(self_leak)
    return np.argsort(-np.where(np.isnan(size), np.inf, size), kind="stable")


def _names(reader: Reader) -> Iterator[tuple[Cell, ...]]:
    size, last = 0, -1
    while True:
        ((end, *names),) = reader.rows(_NAMES_QUERY, (last,))
        if end is None:
            return
        size += sum(map(len, names))
        if end <= last or not reader.queries.holds(size):
            raise ValueError("its calls are not in order")
        last = end
        yield (end, *names)


def _from_rows(figures: Sequence[tuple[Cell, ...]], names: Sequence[Sequence[Cell]], complete: bool) -> Columns:
    """The columns from the rows of both queries; ValueError or TypeError where they are not a tree of nodes."""
    table = np.frombuffer(b"".join([cell for (cell,) in figures]), dtype=_FIGURES)
    texts: list[list[Any]] = [[], [], []]
    for _, *part in names:
        for column, more in zip(texts, part, strict=True):
            column += json.loads(more)
    if not all(len(column) == len(table) == len(figures) for column in texts):
        raise ValueError("its columns differ in length")
    if not complete:
        whole = int(np.argmin(np.append(table["id"] == np.arange(len(table)), False)))
        table, texts = table[:whole], [column[:whole] for column in texts]
    ids, parent, end, depth, call = (table[name].astype(np.int64) for name in NODE_FIGURE_NAMES[:5])
    if not complete:
        end = np.minimum(end, len(table))
    if not _is_preorder(ids, parent, end, depth):
        raise ValueError("its calls do not form a tree")
    kinds, types, paths = texts
    if not _KINDS.issuperset(kinds):
        raise ValueError(f"unknown kinds of call {sorted(set(kinds) - _KINDS)}")
    if {*map(type, types), *map(type, paths)} - {str}:
        raise ValueError("a type or path is not a text")
    sizes = (table[name].astype(np.float64) for name in NODE_FIGURE_NAMES[5:])
    leak, self_leak, gain, relative_leak, seconds = sizes
    return Columns(parent, end, depth, call, leak, self_leak, gain, relative_leak, seconds, kinds, types, paths)


def _is_preorder(ids: Ints, parent: Ints, end: Ints, depth: Ints) -> bool:
    """Whether every child lies inside its parent and one step deeper, so that a walk over the tree always ends."""
    order = np.arange(len(ids))
    if not (np.array_equal(ids, order) and np.all(parent < order) and np.all(parent >= -1)):
        return False
    if not (np.all(end > order) and np.all(end <= len(ids))):
        return False
    inner = parent >= 0
    above = parent[inner]
    return bool(
        np.all(depth[~inner] == 0)
        and np.all(depth[inner] == depth[above] + 1)
        and np.all(end[inner] <= end[above])
        and _tiles(order, parent, end)
    )


def _tiles(order: Ints, parent: Ints, end: Ints) -> bool:
    """Whether the node after each subtree is a sibling of it, or follows the subtree of its parent."""
    inside = end < np.where(parent >= 0, end[np.maximum(parent, 0)], len(order))
    after = end[inside]
    # The first node of an inner subtree must also be a child: order + 1 < end means parent[order + 1] == order.
    first = order[order + 1 < end]
    return bool(np.array_equal(parent[after], parent[inside]) and np.array_equal(parent[first + 1], first))
