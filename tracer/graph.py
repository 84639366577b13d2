"""Where a computation took its gradients from, read off the autograd graph without adding anything to it.

A tensor's *gradient edge* is the pair (node, output number) that autograd itself uses for it; aliases of a tensor
share it, an in-place operation replaces it. Hooks on nodes watch multipliers pass without an extra op in the user's
graph, so the observed run computes bit for bit what the unobserved run does, hooks of other libraries included.
"""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable
from typing import NamedTuple

import torch
from torch.autograd.graph import Node


class GradientEdge(NamedTuple):
    """The place in the autograd graph at which a tensor's gradient is summed up."""

    node: Node
    output: int


def storage_uses(storage: torch.UntypedStorage) -> int:
    """How many tensors, saved ones and `storage` itself hold this memory; a huge number where torch cannot tell."""
    count = getattr(torch._C, "_storage_Use_Count", None)
    return sys.maxsize if count is None else int(count(storage._cdata))


class Consumption(NamedTuple):
    """Input number `slot` of graph node `node` takes the tensor whose gradient edge is `edge`."""

    node: Node
    slot: int
    edge: GradientEdge


def gradient_edge(tensor: torch.Tensor) -> GradientEdge | None:
    """The gradient edge of `tensor`; None for a leaf and for a tensor that needs no gradient."""
    node = tensor.grad_fn
    return None if node is None else GradientEdge(node, tensor.output_nr)


def consumptions(outputs: Iterable[GradientEdge], known: Container[GradientEdge]) -> list[Consumption]:
    """How the computation behind `outputs` consumed tensors whose edges are in `known`.

    Walks backwards from the outputs and stops at known edges, at parameters and at constants, so the walk stays inside
    one operation as long as the operation's inputs are known.
    """
    found: list[Consumption] = []
    waiting = list(dict.fromkeys(edge.node for edge in outputs))
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        for slot, pair in enumerate(node.next_functions):  # which equals the gradient edge
            source, number = pair
            if source is None:
                continue
            if pair in known:
                found.append(Consumption(node, slot, GradientEdge(source, number)))
            elif source not in seen:
                seen.add(source)
                waiting.append(source)
    return found
