"""What the paired evaluation could not see: non-linear nodes of the autograd graph that no rule replaced.

TorchScript functions, other C++ code, and custom functions whose `apply` was bound beforehand run past every function
mode. They leave their nodes in the graph; those on the way from the output to the inputs are named here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node

# Linear in one operand while the other is constant: only both together, or the named slots, are non-linear.
_PRODUCTS = {
    "Mul", "Mm", "Bmm", "Mv", "Dot", "Addmm", "Addmv", "Addr", "Baddbmm", "Addbmm", "Addcmul", "Linear", "Convolution",
}  # fmt: skip
_DENOMINATOR = {"Div": 1, "Addcdiv": 2}
_ALWAYS = {
    "Abs", "Acos", "Acosh", "Amax", "Amin", "Asin", "Asinh", "Atan", "Atan2", "Atanh", "Celu", "Clamp", "ClampMax",
    "ClampMin", "Cos", "Cosh", "Cumprod", "DifferentiableGraph", "Elu", "Erf", "Erfc", "Erfinv", "Exp", "Exp2",
    "Expm1", "Gelu", "Glu", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyRelu", "Lgamma", "LinalgVectorNorm", "Log",
    "Log10", "Log1P", "Log2", "LogSigmoid", "LogSoftmax", "Logcumsumexp", "Logsumexp", "Max", "MaxPool2DWithIndices",
    "MaxPool3DWithIndices", "Maximum", "Min", "Minimum", "Mish", "NativeGroupNorm", "NativeLayerNorm", "Norm", "Pow",
    "PreluKernel", "Prod", "Reciprocal", "Relu", "Rsqrt", "Sigmoid", "Silu", "Sin", "Sinh", "Softmax", "Softplus",
    "Softshrink", "Sqrt", "Std", "Tan", "Tanh", "Var",
}  # fmt: skip


def unseen(output: Tensor, inputs: Sequence[Tensor]) -> tuple[list[str], list[str]]:
    """Names of nodes between `output` and `inputs` that no rule replaced, each once: (custom functions, others).

    "Others" are torch's own non-linear nodes. One walk over the graph; products with a constant operand are linear.
    """
    if output.grad_fn is None:
        return [], []
    leaves = {id(x) for x in inputs}
    order: list[Node] = []
    known: dict[Node, bool] = {}
    waiting: list[tuple[Node, bool]] = [(output.grad_fn, False)]
    while waiting:
        node, done = waiting.pop()
        if done:
            known[node] = id(getattr(node, "variable", None)) in leaves or any(
                source is not None and known.get(source, False) for source, _number in node.next_functions
            )
            order.append(node)
        elif node not in known:
            known[node] = False
            waiting.append((node, True))
            waiting.extend((source, False) for source, _number in node.next_functions if source is not None)
    custom: dict[str, None] = {}
    others: dict[str, None] = {}
    for node in order:
        if not known[node]:
            continue
        if isinstance(node, BackwardCFunction):
            home = node._forward_cls.__module__
            if not home.startswith(("tracer.", "torch.")):
                custom[node.name()] = None
        elif _is_bent(node.name(), [source is not None and known[source] for source, _number in node.next_functions]):
            others[node.name()] = None
    return list(custom), list(others)


def _is_bent(name: str, varying: Sequence[bool]) -> bool:
    """Whether a node of torch's own is not linear in its inputs, of which `varying` lead to what is attributed."""
    found = re.fullmatch(r"(?:.*::)?_?(?:[Ss]afe)?(\w+?)Backward(?:\w*?\d*)", name)
    kind = found[1] if found else name
    if kind in _DENOMINATOR:
        return varying[_DENOMINATOR[kind]]
    if kind in _PRODUCTS:
        added = kind.startswith("Add") or kind == "Baddbmm"  # to the first operand
        return sum(varying[1:3] if added else varying[:2]) > 1
    if kind.startswith("ScaledDotProduct"):
        return any(varying[:2])
    return kind in _ALWAYS
