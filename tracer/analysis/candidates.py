"""What of a trace can be made exact: families of ops, layers, single calls, as patterns of the rulebook. No torch."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

import numpy as np

from tracer.errors import InputError
from tracer.records import Node
from tracer.tracefile.trace import Trace

By = Literal["family", "layer", "call"]

_ATTENTION = {"scaled_dot_product_attention"}
_SOFTMAX = {"softmax", "log_softmax", "logsumexp", "softmin"}
_NORMS = {
    "layer_norm", "group_norm", "instance_norm", "batch_norm", "rms_norm", "local_response_norm", "norm",
    "linalg_norm", "linalg_vector_norm", "std", "var", "var_mean", "std_mean",
}  # fmt: skip
_PRODUCTS = {
    "matmul", "rmatmul", "mm", "bmm", "mv", "dot", "inner", "outer", "ger", "kron", "mul", "div", "rdiv", "prod",
    "einsum", "addmm", "addmv", "addr", "addbmm", "baddbmm", "addcmul", "addcdiv", "vdot", "linalg_vecdot", "cross",
    "linalg_cross", "bilinear", "linear", "convolution", "conv1d", "conv2d", "conv3d", "conv_transpose1d",
    "conv_transpose2d", "conv_transpose3d", "lerp", "glu",
}  # fmt: skip
_ACTIVATIONS = {
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "silu", "mish", "sigmoid", "logsigmoid",
    "log_sigmoid", "tanh", "tanhshrink", "softplus", "softsign", "softshrink", "hardshrink", "hardsigmoid",
    "hardswish", "hardtanh", "threshold",
}  # fmt: skip
_POOLING = {
    f"{kind}max_pool{axes}d{tail}" for kind in ("", "adaptive_") for axes in "123" for tail in ("", "_with_indices")
} | {"max", "min", "amax", "amin", "maximum", "minimum", "fmax", "fmin"}  # fmt: skip
_RECURRENT = {"lstm", "gru", "rnn", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"}
_CHOICES = {"where", "clamp", "clamp_min", "clamp_max", "sort", "topk", "masked_fill", "gather", "abs", "take"}
_LINEAR = {
    "add", "sub", "rsub", "neg", "mean", "sum", "cat", "stack", "dropout", "embedding", "pad", "setitem", "cumsum",
    "to", "float", "half", "double", "identity", "flatten", "avgpool1d", "avgpool2d", "avgpool3d",
    "adaptiveavgpool1d", "adaptiveavgpool2d", "adaptiveavgpool3d", "upsample", "interpolate", "index_add",
}  # fmt: skip

# Family → (its name in words, its ops); the words of a family with one kind of op come from that op.
_FAMILIES: dict[str, tuple[str, set[str]]] = {
    "softmax": ("softmax", _SOFTMAX),
    "attention": ("fused attention", _ATTENTION),
    "gelu": ("GELU", {"gelu"}),
    "norm": ("normalisation", _NORMS),
    "product": ("products", _PRODUCTS),
    "activation": ("activations", _ACTIVATIONS),
    "pooling": ("pooling and maximum", _POOLING),
    "recurrent": ("recurrence", _RECURRENT),
    "choice": ("choices", _CHOICES),
}
_OWN_NAMES = {"norm", "activation", "recurrent"}
_OPS = {op.replace("_", ""): (family, op) for family, (_words, ops) in _FAMILIES.items() for op in ops}
_NOISE = 1e-5
"""A leak of less than this share of what flows through its call is rounding."""
_SMALL = 1e-2
"""Calls that leak less than this share of what the bound allows are no candidates."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Calls that can be made exact together: `change` in words, `patterns` of the rulebook, the ids of the calls.

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
    """What of a trace may be worth making exact, largest leak first; of single calls the `most` worst.

    Left out are linear ops and what leaks next to nothing against `bound`, the relative delta to be reached.
    """
    if by not in get_args(By):
        raise InputError(f"by={by!r}: expected 'family', 'layer' or 'call'")
    calls = tuple(_calls(trace, bound))
    if by == "family":
        found = _families(calls)
    elif by == "layer":
        found = _layers(calls, trace)
    else:
        found = _single_calls(calls)[:most]
    return tuple(sorted(found, key=lambda candidate: -candidate.size))


def covered(trace: Trace, rules: Iterable[str]) -> tuple[int, ...]:
    """The ids of the calls that overrides such as "softmax=exact" are about, in the order of the trace."""
    patterns = [rule.rpartition("=")[0] for rule in rules]
    found = []
    nodes = list(trace.nodes)
    for node in nodes:
        if not node.children and node.kind != "lost":
            names = _names(node, nodes)
            if any(fnmatchcase(name, pattern) for pattern in patterns for name in names):
                found.append(node.id)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that a rule can be about, with the names that a pattern is held against."""

    node: Node
    names: tuple[str, ...]
    module_type: str
    op: str
    size: float
    leaks: bool


def _calls(trace: Trace, bound: float) -> Iterator[_Call]:
    """Every call of an op, or of a module that is one op to the reader, that is not known to be linear."""
    run = trace.run
    allowed = bound * float(np.abs(run.output - run.output_reference).sum())
    nodes = list(trace.nodes)
    lost = any(node.kind == "lost" and _size(node) > _SMALL * allowed for node in nodes)
    for node in nodes:
        if node.children or node.kind == "lost":
            continue
        module, op = _module_and_op(node, nodes)
        family = _family(op, module)
        bare = op.replace("_", "").lower()
        if (family is None and bare in _LINEAR) or (node.kind == "module" and bare.startswith(("linear", "conv"))):
            continue
        size = _size(node)
        noise = size <= _SMALL * allowed or node.relative_leak <= _NOISE
        # A path that captum's hooks lost leaks beside the module whose rule lost it, not in it.
        guilty = lost and node.rule == "captum"
        yield _Call(node, _names(node, nodes), module, op, size, guilty or not noise)


def _size(node: Node) -> float:
    return float(np.abs(node.self_leak).sum())


def _module_and_op(node: Node, nodes: Sequence[Node]) -> tuple[str, str]:
    """(type of the innermost module, name of the op); a module that is one op bears its op's name where it is known.

    What ran unseen is known by its node in autograd's graph: a custom function's is called after its class.
    """
    if node.kind == "module":
        key = node.type.lower()
        known = _OPS.get(key) or _OPS.get(re.sub(r"(pool|norm)?\d*d$", lambda m: m[1] or "", key))
        return node.type, known[1] if known else node.type
    above = node.parent
    while above is not None and nodes[above].kind != "module":
        above = nodes[above].parent
    op = re.sub(r"Backward\d*$", "", node.type) if node.kind == "unobserved" else node.type
    return ("" if above is None else nodes[above].type), op


def _names(node: Node, nodes: Sequence[Node]) -> tuple[str, ...]:
    """What the rulebook holds a pattern against: path/op, the module's path, the module's type, the op.

    For an op inside a composite one also path/composite/op.
    """
    module, op = _module_and_op(node, nodes)
    if node.kind == "module":
        return (f"{node.path}/{op}", node.path, module, op)
    path, _, inside = node.path.rpartition("/")[0].partition("/")
    return (f"{path}/{inside}/{op}" if inside else f"{path}/{op}", path, module, op, f"{path}/{op}")


def _family(op: str, module_type: str) -> str | None:
    """The family of an op; written out in a module named after a normalisation or a GELU it belongs to that one."""
    if re.search(r"Norm(\d?d)?$", module_type):
        return "norm"
    if "GELU" in module_type.upper():
        return "gelu"
    known = _OPS.get(op.replace("_", "").lower())
    return known[0] if known else None


def _families(calls: Sequence[_Call]) -> list[Candidate]:
    members: dict[str, list[_Call]] = defaultdict(list)
    for call in calls:
        if call.leaks:
            members[_family(call.op, call.module_type) or f"/{call.op}"].append(call)
    found = []
    for family, leaking in members.items():
        patterns = tuple(dict.fromkeys(_family_pattern(family, call) for call in leaking))
        touched = _matching(calls, patterns)
        found.append(_candidate(f"{_words(family, leaking)} exact ({_count(len(touched))})", patterns, touched))
    return found


def _family_pattern(family: str, call: _Call) -> str:
    """The op's name; the module's type for ops of which a norm or a GELU is written out."""
    known = _OPS.get(call.op.replace("_", "").lower())
    return call.module_type if family in ("norm", "gelu") and (known is None or known[0] != family) else call.op


def _words(family: str, calls: Sequence[_Call]) -> str:
    if family not in _FAMILIES:
        return family.removeprefix("/")
    kinds = list(dict.fromkeys(call.module_type if _is_named(family, call) else call.op for call in calls))
    return " and ".join(kinds) if family in _OWN_NAMES and len(kinds) <= 2 else _FAMILIES[family][0]


def _is_named(family: str, call: _Call) -> bool:
    """Whether the module's type says more than the op's name: LayerNorm, LlamaRMSNorm."""
    return call.node.kind == "module" or (family == "norm" and "Norm" in call.module_type)


def _layers(calls: Sequence[_Call], trace: Trace) -> list[Candidate]:
    """Blocks of a numbered list ("encoder.layer.3"), and what stands beside these lists in the model."""
    paths = {node.path for node in trace.nodes if node.kind == "module"}
    members: dict[str, list[_Call]] = defaultdict(list)
    for call in calls:
        members[_layer(call.names[1])].append(call)
    found = []
    for layer, within in members.items():
        if not any(call.leaks for call in within):
            continue
        pattern = _layer_pattern(layer, paths)
        touched = _matching(calls, (pattern,))
        name = layer or "the model's own ops"
        found.append(_candidate(f"{name} exact ({_count(len(touched))})", (pattern,), touched))
    return found


def _layer(path: str) -> str:
    """The path up to its first number, or its first two names: "bert.encoder.layer.3", "bert.pooler"."""
    names = path.split(".")
    number = next((index for index, name in enumerate(names) if name.isdecimal()), None)
    return ".".join(names[: number + 1] if number is not None else names[:2])


def _layer_pattern(layer: str, paths: set[str]) -> str:
    if not layer:
        return "/*"
    others = (path for path in paths if path.startswith(layer) and path != layer)
    ambiguous = any(path[len(layer)] != "." for path in others)  # layer.1 and layer.11
    return f"{_literal(layer)}{'[./]*' if ambiguous else '*'}"


def _single_calls(calls: Sequence[_Call]) -> list[Candidate]:
    """One candidate a path, all its calls together: a pattern cannot tell the calls of one path apart."""
    members: dict[str, list[_Call]] = defaultdict(list)
    for call in calls:
        members[call.names[0] if call.node.kind != "module" else call.node.path].append(call)
    found = []
    for path, same in members.items():
        if any(call.leaks for call in same):
            pattern = _literal(path) if path else same[0].op
            found.append(_candidate(f"{path or same[0].op} exact ({_count(len(same))})", (pattern,), same))
    return sorted(found, key=lambda candidate: -candidate.size)


def _matching(calls: Sequence[_Call], patterns: Sequence[str]) -> list[_Call]:
    return [call for call in calls if any(fnmatchcase(name, pattern) for pattern in patterns for name in call.names)]


def _candidate(change: str, patterns: tuple[str, ...], calls: Sequence[_Call]) -> Candidate:
    return Candidate(change, patterns, tuple(call.node.id for call in calls), sum(call.size for call in calls))


def _literal(path: str) -> str:
    """`path` as a pattern that fits it alone."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def _count(number: int) -> str:
    return f"{number} call{'s' if number != 1 else ''}"
