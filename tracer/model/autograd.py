"""Which tensors a computation takes its gradients from, read off the autograd graph without adding to it.

A tensor's *gradient edge* is the pair (node, output number) that autograd itself uses for it; aliases of a tensor
share it, an in-place operation replaces it. Hooks on nodes watch multipliers pass without an extra op in the user's
graph, so the observed run computes bit for bit what the unobserved run does, hooks of other libraries included.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import TypeAlias

import torch
from torch.autograd.graph import Node

GradientEdge: TypeAlias = tuple[Node, int]
"""The place in the autograd graph at which a tensor's gradient is summed up: a node, and which of its outputs.

Plain pairs, as nodes themselves have them: thousands are made in a run.
"""

Consumption: TypeAlias = tuple[Node, int, GradientEdge]
"""A node, the number of one of its inputs, and the gradient edge of the tensor that it takes there."""


def gradient_edge(tensor: torch.Tensor) -> GradientEdge | None:
    """The gradient edge of `tensor`; None for a leaf and for a tensor that needs no gradient."""
    node = tensor.grad_fn
    return None if node is None else (node, tensor.output_nr)


def consumptions(outputs: Iterable[GradientEdge], known: Container[GradientEdge]) -> list[Consumption]:
    """How the computation behind `outputs` consumed tensors whose edges are in `known`.

    Walks backwards from the outputs and stops at known edges, at parameters and at constants, so the walk stays inside
    one operation as long as the operation's inputs are known.
    """
    found: list[Consumption] = []
    waiting = list(dict.fromkeys(node for node, _output in outputs))
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        for slot, (source, number) in enumerate(node.next_functions):
            if source is None:
                continue
            edge = (source, number)
            if edge in known:
                found.append((node, slot, edge))
            elif source not in seen:
                seen.add(source)
                waiting.append(source)
    return found
