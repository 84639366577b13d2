"""What the paired evaluation could not see: non-linear nodes of the autograd graph that no rule replaced.

TorchScript functions, other C++ code, and custom functions whose `apply` was bound beforehand run past every function
mode. They leave their nodes in the graph; those between the output and the inputs are named here.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node

from tracer import ops

_NON_LINEAR = frozenset({"norm", "softmax", "activation", "function", "pool", "recurrent", "step"})


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
        varying = [source is not None and known[source] for source, _number in node.next_functions]
        if isinstance(node, BackwardCFunction):
            home = node._forward_cls.__module__
            if not home.startswith(("tracer.", "torch.")):
                custom[node.name()] = None
        elif _is_non_linear(node.name(), varying):
            others[node.name()] = None
    return list(custom), list(others)


def _is_non_linear(name: str, varying: Sequence[bool]) -> bool:
    """Whether a node of torch's own is not linear in its inputs, of which `varying` lead to what is attributed.

    A choice is taken for linear: the paired evaluation leaves it to autograd where both runs choose the same.
    """
    if "DifferentiableGraph" in name:  # TorchScript
        return True
    op = ops.find(name)
    if op is None:
        return False
    if op.kind == "attention":
        return any(varying[:2])  # linear in the values
    if ops.is_product(op.name):
        return not ops.is_linear(op.name, [str(slot) for slot, varies in enumerate(varying) if varies])
    return op.kind in _NON_LINEAR
