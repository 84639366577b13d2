"""Small figures, traces and runs for the tests of the terminal view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.synthetic import synthetic_run
from tracer.records import Edge, Node, Statistics
from tracer.tracefile.trace import Trace, open_trace
from tracer.tracefile.writer import TraceWriter
from tui.model.figures import Figures, derive

EVIL = "[red]bold[/] \x1b[31m\x07 \u202eback [@click=app.quit]x[/]"


def ends_of(parents: Sequence[int]) -> list[int]:
    """The subtree ends of a preorder list of parents, by walking up from every node."""
    ends = list(range(1, len(parents) + 1))
    for node in range(len(parents)):
        parent = parents[node]
        while parent >= 0:
            ends[parent] = max(ends[parent], node + 1)
            parent = parents[parent]
    return ends


def depths_of(parents: Sequence[int]) -> list[int]:
    """How deep each node lies."""
    depths: list[int] = []
    for parent in parents:
        depths.append(0 if parent < 0 else depths[parent] + 1)
    return depths


def figures(parents: Sequence[int], self_leaks: Sequence[float], change: float = 1.0, **columns: Any) -> Figures:
    """Figures of a tree; leaks follow from the self leaks."""
    leaks = np.array(self_leaks, dtype=float)
    for node in range(len(parents) - 1, 0, -1):
        if parents[node] >= 0:
            leaks[parents[node]] += leaks[node]
    size = len(parents)
    paths = ["" if node == 0 else f"m.n{node}" for node in range(size)]
    given: dict[str, Any] = {
        "parent": parents,
        "end": ends_of(parents),
        "depth": depths_of(parents),
        "leak": leaks,
        "self_leak": self_leaks,
        "gain": np.ones(size),
        "call": np.zeros(size),
        "kinds": ["module"] * size,
        "types": ["Linear"] * size,
        "paths": paths,
        "change": change,
    }
    return derive(**(given | columns))


def node(id: int, parent: int | None, end: int, depth: int, path: str, leak: float, **fields: Any) -> Node:
    """A call with one example; what is not said is harmless."""
    given: dict[str, Any] = {
        "call": 0,
        "kind": "module",
        "type": "Linear",
        "source": None,
        "rule": "autograd",
        "leak": np.array([leak]),
        "self_leak": np.array([leak]),
        "gain": 1.0,
        "relative_leak": 0.1,
        "largest_secant": float("nan"),
        "small_differences": 0,
        "dropped_differences": 0,
        "nonfinite": 0,
        "seconds": 1e-3,
    }
    return Node(id=id, parent=parent, end=end, depth=depth, path=path, **(given | fields))


def edge(name: str = "input", value: float = 1.0) -> Edge:
    """An edge of one example with figures."""
    statistics = Statistics(8, 0 if np.isfinite(value) else 8, value, value, value, abs(value))
    return Edge("in", 0, name, (1, 8), "float32", np.array([value]), statistics, statistics, statistics, statistics)


def write(path: Path, nodes: Sequence[Node], edges: Sequence[Edge] = (), **run: Any) -> Trace:
    """A trace file of these calls, each with these edges; `run` replaces fields of a synthetic run."""
    head = replace(synthetic_run(), **run)
    with TraceWriter(path) as writer:
        writer.begin(replace(head, status="recording"))
        for each in nodes:
            writer.add(each, edges)
        writer.finish(head)
    return open_trace(path)
