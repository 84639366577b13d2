"""Which calls of a trace `repair` may make exact together, as patterns of the rulebook: by family, layer or call."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from tracer import ops
from tracer.analysis.verdict import changes
from tracer.errors import InputError
from tracer.records import Node
from tracer.rules.rulebook import fits, recorded_names, recorded_op
from tracer.tracefile.trace import Trace

By = Literal["family", "layer", "call"]

# Each family in words. Those below are called after their ops or modules instead, where these are one or two.
_FAMILIES: dict[ops.Family, str] = {
    "softmax": "softmax", "attention": "fused attention", "gelu": "GELU", "norm": "normalisation",
    "product": "products", "activation": "activations", "pooling": "pooling and maximum", "recurrent": "recurrence",
    "choice": "choices",
}  # fmt: skip
_OWN_NAMES = ("", "norm", "activation", "recurrent")
_NOISE = 1e-5
"""A leak under this share of the flow through its call is rounding."""
_SMALL = 1e-2
"""A leak under this share of what the bound allows is not worth a change."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Calls that can be made exact together: the `change` in words, its `patterns`, the ids of the calls (`nodes`).

    `size` = Σ |self leak| of these calls over all examples.
    """

    change: str
    patterns: tuple[str, ...]
    nodes: tuple[int, ...]
    size: float

    @property
    def pattern(self) -> str:
        """The patterns as one text."""
        return " ".join(self.patterns)

    @property
    def rules(self) -> tuple[str, ...]:
        """What a rulebook, or --rule, takes: "PATTERN=exact"."""
        return tuple(f"{pattern}=exact" for pattern in self.patterns)


EVERYTHING = Candidate("everything exact", ("*",), (), 0.0)


def candidates(trace: Trace, by: By = "family", bound: float = 1e-3, most: int = 10) -> tuple[Candidate, ...]:
    """The changes that are worth trying, largest leak first; of single calls the `most` worst.

    `bound` is the relative delta to be reached: calls whose leaks hardly count against it get no candidate, and linear
    ops get none at all. Raises `InputError` for an unknown `by`.
    """
    if by not in get_args(By):
        raise InputError(f"by={by!r}: expected 'family', 'layer' or 'call'")
    calls = tuple(_calls(trace, bound))
    if by == "family":
        found = _families(calls)
    elif by == "layer":
        found = _layers(calls, trace)
    else:
        found = _single_calls(calls)
    found.sort(key=lambda candidate: -candidate.size)
    return tuple(found[:most] if by == "call" else found)


def covered(trace: Trace, rules: Iterable[str]) -> tuple[int, ...]:
    """The ids of the calls that the patterns of `rules`, such as "softmax=exact", fit; in execution order."""
    patterns = [rule.rpartition("=")[0] for rule in rules]
    nodes = list(trace.nodes)
    return tuple(node.id for node in nodes if _can_be_ruled(node) and fits(patterns, _names(node, nodes)))


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """A call that a rule can change, the `names` that patterns are matched with, its `op` ("" if not known)."""

    node: Node
    names: tuple[str, ...]
    module_path: str
    module_type: str
    op: str
    size: float
    leaks: bool

    @property
    def label(self) -> str:
        """The type of a module, the name of an op."""
        return self.module_type if self.node.kind == "module" else self.op

    @property
    def family(self) -> ops.Family:
        """The family of its op. All ops in a module that is called a norm or a GELU belong to that family."""
        if re.search(r"Norm(\d?d)?$", self.module_type):
            return "norm"
        if "GELU" in self.module_type.upper():
            return "gelu"
        return ops.family(self.op or self.module_type)


def _can_be_ruled(node: Node) -> bool:
    return not node.children and node.kind != "lost"


def _calls(trace: Trace, bound: float) -> Iterator[_Call]:
    """Every call without calls inside it that is not known to be linear."""
    run = trace.run
    allowed = bound * float(np.abs(changes(run)).sum())
    nodes = list(trace.nodes)
    lost = any(node.kind == "lost" and _size(node) > _SMALL * allowed for node in nodes)
    for node in filter(_can_be_ruled, nodes):
        size = _size(node)
        noise = size <= _SMALL * allowed or node.relative_leak <= _NOISE
        # The leak of a lost path stands in a row of its own, not at the module whose captum rule lost it.
        guilty = lost and node.rule == "captum"
        call = _Call(
            node=node,
            names=_names(node, nodes),
            module_path=node.path if node.kind == "module" else node.path.rpartition("/")[0].partition("/")[0],
            module_type=_module_type(node, nodes),
            op=recorded_op(node.kind, node.type),
            size=size,
            leaks=guilty or not noise,
        )
        kind = ops.kind(call.op)
        weighted = node.kind == "module" and kind == "layer"  # the weight is the same in both runs
        if not weighted and (call.family or kind not in ("linear", "shape")):
            yield call


def _size(node: Node) -> float:
    return float(np.abs(node.self_leak).sum())


def _module_type(node: Node, nodes: Sequence[Node]) -> str:
    """The type of the module that a call is, or that an op is called in."""
    while node.kind != "module":
        if node.parent is None:
            return ""
        node = nodes[node.parent]
    return node.type


def _names(node: Node, nodes: Sequence[Node]) -> tuple[str, ...]:
    return recorded_names(node.kind, node.type, node.path, _module_type(node, nodes))


def _families(calls: Sequence[_Call]) -> list[Candidate]:
    members: dict[tuple[ops.Family, str], list[_Call]] = defaultdict(list)
    for call in calls:
        if call.leaks:
            members[call.family, "" if call.family else call.op or call.module_type].append(call)
    found = []
    for (family, _alone), leaking in members.items():
        patterns = _needed([_family_pattern(call) for call in leaking], calls)
        touched = _matching(calls, patterns)
        found.append(_candidate(f"{_words(family, leaking)} exact ({_count(len(touched))})", patterns, touched))
    return found


def _family_pattern(call: _Call) -> str:
    """The op's name; the module's type where the op is not known or only a part of a norm or GELU."""
    written_out = call.family in ("norm", "gelu") and ops.family(call.op) != call.family
    return call.module_type if written_out or not call.op else call.op


def _needed(patterns: Sequence[str], calls: Sequence[_Call]) -> tuple[str, ...]:
    """The patterns without those whose calls later ones fit too: a rulebook refuses an override that never holds."""
    kept: list[str] = []
    for pattern in reversed(dict.fromkeys(patterns)):
        if any(fits((pattern,), call.names) and not fits(kept, call.names) for call in calls):
            kept.insert(0, pattern)
    return tuple(kept)


def _words(family: ops.Family, calls: Sequence[_Call]) -> str:
    """The change in words. For an op in a module that is called a norm, the module's type says more than the op."""
    named = family == "norm"
    labels = list(dict.fromkeys(c.module_type if named and "Norm" in c.module_type else c.label for c in calls))
    return " and ".join(labels) if family in _OWN_NAMES and len(labels) <= 2 else _FAMILIES[family]


def _layers(calls: Sequence[_Call], trace: Trace) -> list[Candidate]:
    """One candidate for each block of a numbered list ("encoder.layer.3") and for each part beside these lists."""
    paths = {node.path for node in trace.nodes if node.kind == "module"}
    leaking = dict.fromkeys(_layer(call.module_path) for call in calls if call.leaks)
    found = []
    for layer in leaking:
        pattern = _layer_pattern(layer, calls, paths)
        touched = _matching(calls, (pattern,))
        name = layer or "the model's own ops"
        found.append(_candidate(f"{name} exact ({_count(len(touched))})", (pattern,), touched))
    return found


def _layer(path: str) -> str:
    """The path up to its first number, or its first two names: "bert.encoder.layer.3", "bert.pooler"."""
    names = path.split(".")
    number = next((index for index, name in enumerate(names) if name.isdecimal()), None)
    return ".".join(names[: number + 1] if number is not None else names[:2])


def _layer_pattern(layer: str, calls: Sequence[_Call], paths: set[str]) -> str:
    """A pattern for the module at `layer` and all below it."""
    if not layer:
        return "/*"
    pattern = f"{_literal(layer)}*"
    others = (path for path in paths if path.startswith(layer) and path != layer)
    alike = any(path[len(layer)] != "." for path in others)  # layer.1 and layer.11
    inside = [call for call in calls if f"{call.module_path}.".startswith(f"{layer}.")]
    return pattern if not alike and _matching(calls, (pattern,)) == inside else f"{_literal(layer)}[./]*"


def _single_calls(calls: Sequence[_Call]) -> list[Candidate]:
    """One candidate for each path: patterns cannot tell two calls of one path apart."""
    members: dict[str, list[_Call]] = defaultdict(list)
    for call in calls:
        path = call.node.path if call.node.kind == "module" else f"{call.node.path.rpartition('/')[0]}/{call.op}"
        members[path].append(call)
    found = []
    for path, same in members.items():
        if any(call.leaks for call in same):
            name = path or same[0].op or same[0].module_type
            pattern = _literal(name)
            if same[0].node.kind == "module" and path and _matching(calls, (pattern,)) != same:
                pattern = f"{pattern}/*"  # "relu" would fit all ReLU functions too
            touched = _matching(calls, (pattern,))
            found.append(_candidate(f"{name} exact ({_count(len(touched))})", (pattern,), touched))
    return found


def _matching(calls: Sequence[_Call], patterns: Sequence[str]) -> list[_Call]:
    return [call for call in calls if fits(patterns, call.names)]


def _candidate(change: str, patterns: tuple[str, ...], calls: Sequence[_Call]) -> Candidate:
    return Candidate(change, patterns, tuple(call.node.id for call in calls), sum(call.size for call in calls))


def _literal(path: str) -> str:
    """`path` as a pattern that fits it alone."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def _count(number: int) -> str:
    return f"{number} call{'s' if number != 1 else ''}"
