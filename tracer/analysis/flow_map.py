"""The flow map: how much of the output's change each token carries after each layer of a model. Pure, numpy only.

At a call's output Σ m·Δ over everything is the edge's flow; the map splits it by token. It shows in which
layer an attribution changes: a row is the attribution of the tokens as that layer's output carries it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.analysis.difference import difference
from tracer.errors import InputError
from tracer.records import Direction, Edge, Floats
from tracer.text import require_example
from tracer.tracefile.trace import TensorName, Trace

_IN_LIST = re.compile(r"(?:^|\.)\d+$")
_TENSORS: dict[Direction, tuple[TensorName, TensorName, TensorName]] = {
    "in": ("multiplier_in", "input", "reference"),
    "out": ("multiplier_out", "output", "output_reference"),
}
_OUTPUTS_OF_SHAPE = (
    "SELECT node FROM edge WHERE direction = 'out' AND multiplier_hash IS NOT NULL AND (shape LIKE ? OR shape LIKE ?)"
)


@dataclass(frozen=True, slots=True)
class FlowMap:
    """One row for each call in `nodes`, in execution order: the model's inputs (node 0), then its layers.

    `values` has the shape (rows, tokens), float64: Σ m·Δ of one example over all axes but the tokens', at the model's
    input or at the call's output. Law: a row sums to `flow[example]` of its edge; so with exact rules every row of a
    plain stack of layers sums to f(x) − f(x'). A row is NaN where its tensors were left out to save room.
    """

    nodes: tuple[int, ...]
    names: tuple[str, ...]
    tokens: tuple[str, ...]
    values: Floats


def flow_map(trace: Trace, example: int = 0) -> FlowMap:
    """The flow map of one example; `InputError` says what the trace lacks for it.

    Layers are the outermost members of module lists ("encoder.layer.0", "h.3") that give a tensor of (examples,
    tokens, …), and the outermost calls beside them that do (embeddings, a last norm). A model without such lists shows
    the modules of the least depth at which two or more give such a tensor.
    """
    run = trace.run
    require_example(example, max(run.examples, 1))
    if run.capture != "tensors":
        raise InputError("no flow map: the trace holds figures only; record it with --capture tensors")
    tokens = run.tokens[example] if example < len(run.tokens) else ()
    if not tokens:
        raise InputError("no flow map: the trace names no tokens, so it is not of a text")
    sizes = (run.examples, len(tokens))
    inputs = _carrying(trace, 0, "in", sizes) if len(trace.columns.parent) else []
    layers = [(node, edges[0]) for node in _layers(trace, sizes) if (edges := _carrying(trace, node, "out", sizes))]
    rows = [*((0, edge) for edge in inputs), *layers]
    if not rows:
        raise InputError(f"no flow map: no call gives a tensor with a row for each of the {len(tokens)} tokens")
    if all(_elided(edge) for _, edge in rows):
        raise InputError("no flow map: the tensors of the layers were left out of the trace to save room")
    return FlowMap(
        nodes=tuple(node for node, _ in rows),
        names=(*_input_names(inputs), *_short_names(trace, [node for node, _ in layers])),
        tokens=tokens,
        values=np.array([_token_flows(trace, node, edge, example, sizes) for node, edge in rows]),
    )


def _layers(trace: Trace, sizes: tuple[int, int]) -> list[int]:
    """The calls that are layers, in execution order."""
    columns = trace.columns
    examples, tokens = sizes
    found = trace.query(_OUTPUTS_OF_SHAPE, (f"[{examples}, {tokens}, %", f"[{tokens}, {examples}, %"))
    known = {node for (node,) in found if isinstance(node, int) and 0 < node < len(columns.paths)}
    giving = sorted(node for node in known if columns.kinds[node] == "module")
    listed = np.zeros(len(columns.paths), dtype=np.int64)
    listed[[node for node in giving if _IN_LIST.search(columns.paths[node])]] = 1
    if not listed.any():
        return _shallowest(giving, columns.depth.tolist())
    before = np.concatenate(([0], np.cumsum(listed)))
    layers, end = [], 0
    for node in giving:
        holds_none = before[columns.end[node]] == before[node]
        if node >= end and (listed[node] or holds_none):
            layers.append(node)
            end = int(columns.end[node])
    return layers


def _shallowest(giving: Sequence[int], depth: Sequence[int]) -> list[int]:
    """The calls of the least depth that has two of them, else of the least depth at all."""
    levels = Counter(depth[node] for node in giving)
    level = min((level for level, count in levels.items() if count > 1), default=min(levels, default=0))
    return [node for node in giving if depth[node] == level]


def _carrying(trace: Trace, node: int, direction: Direction, sizes: tuple[int, int]) -> list[Edge]:
    """The edges of a call that carry the tokens and got a multiplier, those with a multiplier that is not 0 first."""
    edges = [
        edge
        for edge in trace.edges(node)
        if edge.direction == direction
        and edge.multiplier is not None
        and len(edge.shape) > 2
        and edge.shape[:2] in (sizes, sizes[::-1])
    ]
    return sorted(
        edges, key=lambda edge: edge.multiplier_statistics is not None and not edge.multiplier_statistics.norm
    )


def _token_flows(trace: Trace, node: int, edge: Edge, example: int, sizes: tuple[int, int]) -> Floats:
    """Σ m·Δ of each token: products in the tensor's dtype, sums in float64, as in the ledger."""
    if _elided(edge):
        return np.full(sizes[1], np.nan)
    multiplier, value, reference = (
        _of_example(trace, node, name, edge, example, sizes) for name in _TENSORS[edge.direction]
    )
    with np.errstate(invalid="ignore", over="ignore"):
        delta = difference(value, reference)
        flows: Floats = (multiplier * delta).reshape(sizes[1], -1).sum(axis=1, dtype=np.float64)
    return flows


def _of_example(
    trace: Trace, node: int, name: TensorName, edge: Edge, example: int, sizes: tuple[int, int]
) -> npt.NDArray[Any]:
    """One example of a tensor, (tokens, the rest); only its rows are read where examples come first."""
    if edge.shape[:2] == sizes:
        rows = int(np.prod(edge.shape[1:-1]))
        part = trace.tensor_rows(node, name, example * rows, (example + 1) * rows, edge.slot)
        return part.reshape(sizes[1], -1)
    return trace.tensor(node, name, edge.slot)[:, example].reshape(sizes[1], -1)


def _elided(edge: Edge) -> bool:
    # Trace files are untrusted: tensors of another shape than the edge's are not read.
    refs = (edge.multiplier, edge.value, edge.reference)
    return any(ref is None or ref.hash is None or ref.shape != edge.shape for ref in refs)


def _input_names(inputs: Sequence[Edge]) -> list[str]:
    return ["input"] if len(inputs) == 1 else [f"input {edge.name}" for edge in inputs]


def _short_names(trace: Trace, nodes: Sequence[int]) -> list[str]:
    """The end of each call's path, long enough to tell the rows apart: "embeddings", "layer.0", "layers.0 #1"."""
    parts = [trace.columns.paths[node].split(".") for node in nodes]
    lengths = [2 if part[-1].isdigit() else 1 for part in parts]
    for _ in range(max(map(len, parts), default=0)):
        names = [".".join(part[-length:]) for part, length in zip(parts, lengths, strict=True)]
        paths: dict[str, set[str]] = {}
        for name, node in zip(names, nodes, strict=True):
            paths.setdefault(name, set()).add(trace.columns.paths[node])
        lengths = [length + (len(paths[name]) > 1) for name, length in zip(names, lengths, strict=True)]
    names = [".".join(part[-length:]) for part, length in zip(parts, lengths, strict=True)]
    calls = trace.columns.call[list(nodes)].tolist()
    return [f"{name} #{call}" if call else name for name, call in zip(names, calls, strict=True)]
