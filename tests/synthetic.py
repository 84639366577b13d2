"""Writes synthetic traces of any size: shaped like a transformer, with self leaks that sum to the delta; no model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tracer.records import Edge, Floats, HookReport, Node, Panel, Ranking, Run, Statistics, Status, TensorRef
from tracer.tracefile.writer import TraceWriter

SENTENCE = ("[CLS]", "it", "'", "s", "great", "!", "this", "is", "an", "amazing", "movie", "[SEP]")
_OPS = ("Linear", "softmax", "matmul", "GELU", "LayerNorm", "add", "Dropout", "mul")


@dataclass(slots=True)
class _PlannedNode:
    """A node before its figures; `own` is its self leak, (E,)."""

    parent: int | None
    depth: int
    path: str
    kind: str
    type: str
    own: Floats
    end: int = 0


def write_synthetic(
    path: str | os.PathLike[str] | None,
    layers: int = 6,
    ops_per_layer: int = 16,
    seed: int = 0,
    examples: int = 1,
    tokens: bool = True,
    tensors: bool = False,
    status: Status = "complete",
    force: bool = False,
) -> TraceWriter:
    """The writer of a trace of a model, its layers, their blocks, and their ops; its `path` is the file.

    Blocks have 8 ops, or 100 where a layer has that many: layers=100, ops_per_layer=1000 gives 101 101 nodes. The self
    leaks sum to the run's delta; one softmax in layer 0 has most of it. `tensors` gives each edge of the first 2 000
    nodes small tensors of shape (examples, tokens, 8). `status` "recording" leaves the file as a killed process does,
    "failed" leaves a message. `path` None keeps it in memory: `write_synthetic(None).trace()`.
    """
    writer = TraceWriter(path, force=force)
    _write(writer, layers, ops_per_layer, seed, examples, tokens, tensors, status)
    if path is not None and status != "recording":
        writer.close()
    return writer


def synthetic_run(
    examples: int = 1, tokens: bool = True, tensors: bool = False, status: Status = "complete", seed: int = 0
) -> Run:
    """A run's head with every field filled; its delta is still zero."""
    rng = np.random.default_rng(seed)
    words = SENTENCE if tokens else ()
    output, reference = rng.normal(3.0, 0.1, examples), rng.normal(0.5, 0.1, examples)

    def ranking(name: str, delta: float | None, note: str = "") -> Ranking:
        relative = None if delta is None else abs(delta) / abs(float(output[0] - reference[0]))
        return Ranking(name, tuple(float(score) for score in rng.normal(size=len(words))), delta, relative, note)

    return Run(
        model="synthetic",
        method="captum",
        variant="softmax explicit",
        status=status,
        message="it failed on purpose" if status == "failed" else "",
        started="2026-01-01T00:00:00+00:00",
        seconds=0.25,
        capture="tensors" if tensors else "summary",
        rulebook="captum",
        versions={"deeplift-tracer": "0.1.0", "torch": "2.13.0", "captum": "0.9.0"},
        target="1",
        text=" ".join(words),
        reference="pad",
        tokens=(words,) * examples if tokens else (),
        reference_tokens=((("[PAD]",) * len(words)),) * examples if tokens else (),
        output=output,
        output_reference=reference,
        delta=np.zeros(examples),
        panel=Panel(
            output=(-3.0, 3.0),
            output_reference=(-0.5, 0.5),
            labels=("negative", "positive"),
            rankings=(
                ranking("mean attention, last 4 layers", None),
                ranking("Integrated Gradients, 100 steps", -0.52, "the steps are too coarse"),
                ranking("DeepLIFT", -96505.0),
            )
            if tokens
            else (),
            hooks=HookReport("0.9.0", "site-packages/captum", {"Tanh": 1}, {"softmax": 6, "gelu": 6}),
        ),
    )


def _write(
    writer: TraceWriter,
    layers: int,
    ops_per_layer: int,
    seed: int,
    examples: int,
    tokens: bool,
    tensors: bool,
    status: Status,
) -> None:
    rng = np.random.default_rng(seed)
    run = synthetic_run(examples, tokens, tensors, status, seed)
    writer.begin(replace(run, status="recording"))
    planned = _planned(layers, ops_per_layer, rng, examples)
    leaks = _leaks(planned)
    width = len(SENTENCE) if tokens else 4
    for index, (node, edges) in enumerate(_nodes(planned, leaks, rng, width)):
        if tensors and index < 2_000:
            edges = [_with_tensors(writer, edge, rng) for edge in edges]
        writer.add(node, edges)
    run = replace(run, delta=leaks[0])
    change = float((run.output - run.output_reference).sum())
    shape = (examples, width, 8)
    attribution = (rng.normal(size=shape) * (change / width / 8)).astype(np.float32)
    writer.set_attributions([writer.put_tensor(attribution.tobytes(), "float32", shape)])
    if status == "recording":
        writer.commit()
    else:
        writer.finish(run)


def _planned(layers: int, ops_per_layer: int, rng: np.random.Generator, examples: int) -> list[_PlannedNode]:
    """All nodes in preorder."""
    nothing = np.zeros(examples)
    noise = rng.normal(scale=1e-3, size=(layers * ops_per_layer, examples))
    planned = [_PlannedNode(None, 0, "", "module", "SyntheticModel", nothing)]
    size = 100 if ops_per_layer >= 100 else 8
    for layer in range(layers):
        top = len(planned)
        planned.append(_PlannedNode(0, 1, f"encoder.layer.{layer}", "module", "SyntheticLayer", nothing))
        for first in range(0, ops_per_layer, size):
            block = len(planned)
            path = f"{planned[top].path}.block.{first // size}"
            planned.append(_PlannedNode(top, 2, path, "module", "SyntheticBlock", nothing))
            for op in range(first, min(first + size, ops_per_layer)):
                own = noise[layer * ops_per_layer + op] - (770.0 if (layer, op) == (0, 1) else 0.0)
                planned.append(_op(block, path, op, own))
            planned[block].end = len(planned)
        planned[top].end = len(planned)
    planned[0].end = len(planned)
    return planned


def _op(parent: int, path: str, index: int, own: Floats) -> _PlannedNode:
    name = _OPS[index % len(_OPS)]
    if name[0].isupper():
        return _PlannedNode(parent, 3, f"{path}.{name.lower()}_{index}", "module", name, own)
    return _PlannedNode(parent, 3, f"{path}/{name}_{index}", "op", name, own)


def _leaks(planned: list[_PlannedNode]) -> Floats:
    """The leak of each subtree, (N, E), from the self leaks."""
    leaks = np.array([plan.own for plan in planned])
    for index in range(len(planned) - 1, 0, -1):
        parent = planned[index].parent
        if parent is not None:
            leaks[parent] += leaks[index]
    return leaks


def _nodes(
    planned: list[_PlannedNode], leaks: Floats, rng: np.random.Generator, width: int
) -> Iterator[tuple[Node, list[Edge]]]:
    examples = leaks.shape[1]
    gains = np.exp(rng.normal(size=len(planned))).tolist()
    flows_out = rng.normal(size=(len(planned), examples))
    flows_in = flows_out + leaks
    relative_leaks = np.abs(leaks).sum(axis=1).tolist()
    shape = (examples, width, 8)
    figures = Statistics(examples * width * 8, 0, -1.0, 1.0, 0.01, 9.5)
    children: dict[int, list[int]] = {}
    for index, plan in enumerate(planned):
        if plan.parent is not None:
            children.setdefault(plan.parent, []).append(index)
    for index, plan in enumerate(planned):
        node = Node(
            id=index,
            parent=plan.parent,
            end=plan.end or index + 1,
            depth=plan.depth,
            path=plan.path,
            call=0,
            kind="op" if plan.kind == "op" else "module",
            type=plan.type,
            source=f"synthetic.py:{index % 97 + 1}" if plan.kind == "op" else None,
            rule="captum" if plan.type in ("softmax", "GELU") else "autograd",
            leak=leaks[index],
            self_leak=plan.own,
            gain=gains[index],
            relative_leak=relative_leaks[index],
            largest_secant=5900.0 if plan.type == "softmax" else float("nan"),
            small_differences=48 if plan.type == "softmax" else 0,
            dropped_differences=3 if plan.type == "softmax" else 0,
            nonfinite=0,
            seconds=1e-4,
            children=tuple(children.get(index, ())),
        )
        yield (
            node,
            [
                Edge("in", 0, "input", shape, "float32", flows_in[index], figures, figures, figures, figures),
                Edge("out", 0, "output", shape, "float32", flows_out[index], figures, multiplier_statistics=figures),
            ],
        )


def _with_tensors(writer: TraceWriter, edge: Edge, rng: np.random.Generator) -> Edge:
    def stored() -> TensorRef:
        return writer.put_tensor(rng.normal(size=edge.shape).astype(np.float32).tobytes(), edge.dtype, edge.shape)

    return replace(edge, value=stored(), reference=stored(), multiplier=stored())
