"""The attention calls of a trace, and the leak and gain of each head, from the recorded tensors.

leak(head) = Σ m_in·Δin − Σ m_out·Δout over the head's part of the tensors, so the heads' leaks sum to the call's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tracer.analysis.difference import BLOCK_BYTES, difference
from tracer.records import Edge, Floats
from tracer.tracefile.trace import TensorName, Trace

AttentionKind = Literal["softmax", "fused"]

_FUSED = ("scaled_dot_product_attention",)
_SOFTMAX = ("softmax", "softmax2d")
_OPERANDS = 3


@dataclass(frozen=True, slots=True)
class Part:
    """An edge of an attention call whose leading axes are (examples, heads): `heads` of them, over `rows` rows each."""

    edge: Edge
    heads: int
    rows: int


@dataclass(frozen=True, slots=True)
class Attention:
    """One attention call. `node` is its id, `name` a short name of its own, `heads` the number of its groups.

    "softmax" has the probabilities as its output, (…, T, S); "fused" (scaled_dot_product_attention) computes them
    inside, where nothing records them. `group` is how many query heads share one key head.
    """

    node: int
    path: str
    name: str
    kind: AttentionKind
    heads: int
    group: int
    inputs: tuple[Part, ...]
    output: Part

    def head_name(self, head: int) -> str:
        """ "3", or "6–7" where query heads share keys and so cannot be told apart."""
        first = head * self.group
        return str(first) if self.group == 1 else f"{first}–{first + self.group - 1}"


@dataclass(frozen=True, slots=True)
class HeadFigures:
    """Leak and gain of each head, (heads,) each; NaN with the reason in `problem` where the tensors are not there."""

    leak: Floats
    gain: Floats
    problem: str = ""


def attentions(trace: Trace) -> Iterator[Attention | None]:
    """The attention calls in execution order, after a None for each call looked at, so that a view stays responsive.

    A module and the op inside it are one attention, and so are a fused call and the softmax recorded inside it.
    """
    types, paths = [name.lower() for name in trace.columns.types], trace.columns.paths
    end = trace.columns.end
    softmaxes: list[int] = []
    found: dict[int, tuple[AttentionKind, int, int, tuple[Part, ...], Part]] = {}
    for node, name in enumerate(types):
        if name in _SOFTMAX and not (softmaxes and node < end[softmaxes[-1]]):
            parts = _softmax_parts(trace, trace.edges(node))
            if parts is not None:
                softmaxes.append(node)
                found[node] = ("softmax", parts[1].heads, 1, (parts[0],), parts[1])
            yield None
    for node, name in enumerate(types):
        if name in _FUSED and not any(node < inside < end[node] for inside in softmaxes):
            fused = _fused_parts(trace, trace.edges(node))
            if fused is not None:
                inputs, output = fused
                heads = min(part.heads for part in (*inputs, output))
                found[node] = ("fused", heads, output.heads // heads, inputs, output)
            yield None
    order = sorted(found)
    calls = trace.columns.call
    names = distinct_names([paths[node] + (f" #{calls[node]}" if calls[node] else "") for node in order])
    for node, short in zip(order, names, strict=True):
        kind, heads, group, inputs, output = found[node]
        yield Attention(node, paths[node], short, kind, heads, group, inputs, output)


def head_figures(trace: Trace, attention: Attention, example: int | None) -> HeadFigures:
    """The figures of an attention's heads, of one example or summed over all (the gain over all their elements).

    TraceFileError where the file is damaged. Products are taken in the tensors' dtype and summed in float64, as the
    ledger does. A multiplier that never came back carries nothing.
    """
    nothing = np.full(attention.heads, np.nan)
    problem = _problem(trace, attention)
    if problem:
        return HeadFigures(nothing, nothing, problem)
    leak, squares_in = np.zeros(attention.heads), np.zeros(attention.heads)
    for part in attention.inputs:
        flow, squares = _flows(trace, attention, part, example)
        leak += flow
        squares_in += squares
    flow, squares_out = _flows(trace, attention, attention.output, example)
    with np.errstate(all="ignore"):
        return HeadFigures(leak - flow, np.sqrt(squares_in) / np.sqrt(squares_out))


def distinct_names(paths: Sequence[str]) -> list[str]:
    """The paths without their common beginning and end; a number keeps the word before it."""
    split = [path.replace("/", ".").split(".") for path in paths]
    if len(split) < 2:
        return list(paths)
    shortest = min(map(len, split))
    head = next((at for at in range(shortest) if len({parts[at] for parts in split}) > 1), shortest - 1)
    tail = next((at for at in range(shortest - head) if len({parts[-1 - at] for parts in split}) > 1), 0)
    names = []
    for parts in split:
        first = head - 1 if head and parts[head][:1].isdigit() else head
        names.append(".".join(parts[first : len(parts) - tail]))
    return names


def _softmax_parts(trace: Trace, edges: Sequence[Edge]) -> tuple[Part, Part] | None:
    """Input and output of a softmax over (examples, heads, T, S); None for any other softmax."""
    output = next((edge for edge in edges if edge.direction == "out"), None)
    if output is None or len(output.shape) < 3:
        return None
    if len(output.shape) == 3 and output.shape[-1] not in (
        output.shape[-2],
        max(map(len, trace.run.tokens), default=0),
    ):
        return None  # a softmax over features, as of the words of a language model
    same = next((edge for edge in edges if edge.direction == "in" and edge.shape == output.shape), None)
    parts = None if same is None else (_part(trace, same), _part(trace, output))
    if parts is None or parts[0] is None or parts[1] is None:
        return None
    return parts[0], parts[1]


def _fused_parts(trace: Trace, edges: Sequence[Edge]) -> tuple[tuple[Part, ...], Part] | None:
    """Query, key and value, and the output, of a fused attention; None where their heads do not go together."""
    output = next((edge for edge in edges if edge.direction == "out"), None)
    inputs = [edge for edge in edges if edge.direction == "in"][:_OPERANDS]
    if output is None or len(inputs) < _OPERANDS or any(len(edge.shape) < 3 for edge in (*inputs, output)):
        return None
    parts = [_part(trace, edge) for edge in (*inputs, output)]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    fewest = min(part.heads for part in known)
    if fewest == 0 or any(part.heads % fewest for part in known):
        return None
    return tuple(known[:-1]), known[-1]


def _part(trace: Trace, edge: Edge) -> Part | None:
    examples = trace.run.examples
    leading = int(np.prod(edge.shape[:-2], dtype=object))
    if not examples or not leading or leading % examples or edge.shape[0] % examples or not all(edge.shape):
        return None
    return Part(edge, leading // examples, edge.shape[-2])


def _problem(trace: Trace, attention: Attention) -> str:
    """Why the heads' figures cannot be had, in words; "" where they can."""
    edges = [part.edge for part in (*attention.inputs, attention.output)]
    refs = [ref for edge in edges for ref in (edge.value, edge.reference, edge.multiplier)]
    if all(ref is None for ref in refs):
        if trace.run.capture != "tensors":
            return "This trace has figures only: record it with --capture tensors to see its heads."
        return "No tensors were recorded for this call."
    if any(ref is not None and (ref.elided or ref.hash is None) for ref in refs):
        return "Some of this call's tensors were left out to save room: record with fewer examples to see its heads."
    if any(edge.value is None or edge.reference is None for edge in edges):
        return "The reference run's tensors are not known for this call."
    if any(ref is not None and ref.shape != edge.shape for edge in edges for ref in (edge.value, edge.multiplier)):
        return "This call's tensors are not of the shape that it says: the file was changed."
    return ""


def _flows(trace: Trace, attention: Attention, part: Part, example: int | None) -> tuple[Floats, Floats]:
    """Σ m·Δ and Σ m² of each head over one of its edges."""
    edge = part.edge
    names: tuple[TensorName, TensorName, TensorName] = ("input", "reference", "multiplier_in")
    if edge.direction == "out":
        names = ("output", "output_reference", "multiplier_out")
    flow, squares = np.zeros(attention.heads), np.zeros(attention.heads)
    if edge.multiplier is None or edge.value is None or edge.reference is None:
        return flow, squares
    if edge.value.shape != edge.reference.shape:
        return flow, squares
    first, count = (0, trace.run.examples) if example is None else (example, 1)
    width = edge.shape[-1]
    together = max(BLOCK_BYTES // (8 * part.rows * width), 1)
    start, stop = first * part.heads * part.rows, (first + count) * part.heads * part.rows
    blocks = (trace.tensor_blocks(attention.node, name, start, stop, edge.slot, together * part.rows) for name in names)
    slice_ = 0
    share = part.heads // attention.heads
    with np.errstate(all="ignore"):
        for value, reference, multiplier in zip(*blocks, strict=True):
            product = (multiplier * difference(value, reference)).reshape(-1, part.rows * width)
            squared = np.square(multiplier.reshape(product.shape), dtype=np.float64)
            heads = (slice_ + np.arange(len(product))) % part.heads // share
            np.add.at(flow, heads, product.sum(axis=1, dtype=np.float64))
            np.add.at(squares, heads, squared.sum(axis=1))
            slice_ += len(product)
    return flow, squares
