"""What faults are injected into: a model with an input and a reference, and its calls under exact rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

import tracer
from tests.architectures import ARCHITECTURES, Named, pair_for, target_for
from tests.injection import tampering
from tracer.model.explicit import explicit
from tracer.model.output import logits_of
from tracer.records import Node
from tracer.tracefile.trace import Trace

# Modules that captum has a rule for, element by element.
CHAINED = (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus)
SOFTMAX = ("softmax", "Softmax", "scaled_dot_product_attention")
_PRODUCTS = {"mul", "matmul", "bmm", "baddbmm", "einsum", "div", "rdiv", "rmatmul"}
_NORM_PARTS = {"pow", "square", "rsqrt", "sqrt", "reciprocal", "mul", "div", "rdiv"}


@dataclass(frozen=True, slots=True)
class Ruled:
    """A call under an exact rule. `number` is its own (see `tampering`), `module` the type of the innermost module.

    `shared` says for each varying tensor that it takes whether other calls take it too.
    """

    number: int
    path: str
    call: int
    kind: str
    type: str
    module: str
    shared: tuple[bool, ...]

    @property
    def linearised(self) -> str:
        """The fault that this is where the gradient treats the call as linear."""
        if "norm" in self.type.lower() or ("Norm" in self.module and self.type in _NORM_PARTS):
            return "linearised-norm"
        if self.kind == "module":
            return "unsupported-module"
        return "linearised-product" if self.type in _PRODUCTS and len(self.shared) > 1 else "unseen-op"


@dataclass(frozen=True, slots=True)
class Subject:
    """A model with an input and a reference, built once for many runs.

    `calls` are those under exact rules; the others are paths of modules that run once: `softmaxes` where these are made
    modules, and whether any of its logits is the same in both runs, `activations`, and `linears` of type `nn.Linear`
    whose input other calls take too.
    """

    name: str
    model: nn.Module
    x: Tensor
    reference: Tensor
    target: Any
    calls: tuple[Ruled, ...] = ()
    softmaxes: Mapping[str, bool] = field(default_factory=dict)
    activations: tuple[str, ...] = ()
    linears: tuple[str, ...] = ()

    def record(self, rules: Sequence[str] = (), capture: Any = "summary") -> Trace:
        """A trace by exact rules, but for `rules`."""
        return tracer.record(
            self.model, self.x, self.reference, target=self.target, method="exact", rules=rules, capture=capture
        )

    def softmax_explicit(self) -> AbstractContextManager[object]:
        """Meanwhile each softmax is a module of its own."""
        return explicit(self.model, ("softmax",), (self.x,))


def subject(name: str, attention: str, dtype: torch.dtype, seed: int = 1) -> Subject:
    """An architecture of `tests.architectures`, with an input and a reference of this seed."""
    architecture = ARCHITECTURES[name]
    model = Named(architecture.build(attention, dtype), *architecture.passed)
    x, reference = pair_for(architecture, dtype, seed)
    with torch.no_grad():
        target = target_for(logits_of(model(x)), logits_of(model(reference)))
    precision = str(dtype).removeprefix("torch.")
    return Subject(f"{name} ({attention}, {precision})", model, x, reference, target)


def explored(plain: Subject) -> Subject:
    """The subject with its calls, softmaxes and activations: what a fault can be injected into."""
    with tampering.numbered():
        trace = plain.record()
    leaves = [node for node in trace.nodes if not node.children]
    taken = {node.id: [edge for edge in trace.edges(node.id) if edge.direction == "in"] for node in leaves}
    takers = Counter(edge.value_statistics for edges in taken.values() for edge in edges)
    shared = {
        place: tuple(takers[edge.value_statistics] > 1 for edge in edges for _ in edge.name.split(", "))
        for place, edges in taken.items()
    }
    calls = [_ruled(trace, node, shared[node.id]) for node in leaves if node.rule.startswith(tampering.NUMBERED)]
    runs = Counter(node.path for node in trace.nodes)
    softmaxes: list[Node] = []
    if any(node.type in SOFTMAX for node in trace.nodes):
        with plain.softmax_explicit():
            softmaxes = [node for node in plain.record().nodes if node.type == "Softmax"]
    again = Counter(node.path for node in softmaxes)
    activations = [
        path
        for path, module in plain.model.named_modules()
        if runs[path] == 1 and (type(module) in CHAINED or type(module).__module__ == "transformers.activations")
    ]
    linears = [node.path for node in leaves if node.type == "Linear" and runs[node.path] == 1 and any(shared[node.id])]
    return replace(
        plain,
        calls=tuple(calls),
        softmaxes={node.path: node.dropped_differences > 0 for node in softmaxes if again[node.path] == 1},
        activations=tuple(activations),
        linears=tuple(linears),
    )


def _ruled(trace: Trace, node: Node, shared: tuple[bool, ...]) -> Ruled:
    innermost = node
    while innermost.kind != "module" and innermost.parent is not None:
        innermost = trace.nodes[innermost.parent]
    number = int(node.rule.removeprefix(tampering.NUMBERED))
    return Ruled(number, node.path, node.call, node.kind, node.type, innermost.type, shared)
