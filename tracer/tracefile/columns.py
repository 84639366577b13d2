"""The figures of all calls of a trace as columns, read once, and checked to form a tree."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from tracer.records import Floats, NodeKind
from tracer.tracefile import layout as schema

Ints = npt.NDArray[np.int64]

FIGURES_BYTES = schema.NODE_FIGURES.size
FIGURES_QUERY = f"SELECT CASE WHEN length(figures) = {FIGURES_BYTES} THEN figures END FROM node ORDER BY id"
# Texts come as one JSON list a column: several times faster than a cell each. They come a thousand nodes at a time, as
# SQLite bounds such a list only when it is whole.
NAMES_QUERY = (
    "SELECT max(id), json_group_array(kind), json_group_array(type), json_group_array(path) FROM (SELECT id, "
    + ", ".join(f"CASE WHEN length({name}) < 16384 THEN {name} END AS {name}" for name in ("kind", "type", "path"))
    + " FROM node WHERE id > ? ORDER BY id LIMIT 1000)"
)
_FIGURES = np.dtype([(name, "<i8" if index < 5 else "<f8") for index, name in enumerate(schema.NODE_FIGURE_NAMES)])
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


def columns_from_rows(
    figures: Sequence[tuple[schema.Cell]], names: Sequence[Sequence[schema.Cell]], complete: bool
) -> Columns:
    """The columns from the rows of both queries; ValueError or TypeError where they are no tree of nodes.

    Of a run that is not complete (killed, failed, or still under way) the nodes before the first missing one are kept.
    """
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
    ids, parent, end, depth, call = (table[name].astype(np.int64) for name in schema.NODE_FIGURE_NAMES[:5])
    if not complete:
        end = np.minimum(end, len(table))
    if not _is_preorder(ids, parent, end, depth):
        raise ValueError("its calls do not form a tree")
    kinds, types, paths = texts
    if not _KINDS.issuperset(kinds):
        raise ValueError(f"unknown kinds of call {sorted(set(kinds) - _KINDS)}")
    if {*map(type, types), *map(type, paths)} - {str}:
        raise ValueError("a type or path is no text")
    sizes = (table[name].astype(np.float64) for name in schema.NODE_FIGURE_NAMES[5:])
    leak, self_leak, gain, relative_leak, seconds = sizes
    return Columns(parent, end, depth, call, leak, self_leak, gain, relative_leak, seconds, kinds, types, paths)


def worst_first(self_leak: Floats) -> Ints:
    """The ids of all nodes by falling |self leak|; NaN first, the earlier node first where two are equal."""
    size = np.abs(self_leak)
    return np.argsort(-np.where(np.isnan(size), np.inf, size), kind="stable")


def _is_preorder(ids: Ints, parent: Ints, end: Ints, depth: Ints) -> bool:
    """Whether every child lies inside its parent and one step deeper, so that no walk over the tree can run astray."""
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
