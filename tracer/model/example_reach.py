"""Whether the rows of an input are examples: rows that reach one another's outputs are parts of one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def reach_one_another(run: Callable[[tuple[Tensor, ...]], Tensor], inputs: tuple[Tensor, ...]) -> bool:
    """Whether a row of `run(inputs)` has a gradient at another row of the inputs; the first and the last are asked.

    `run` gives one number or more a row, (E, ...).
    """
    leaves = tuple(x.detach().clone().requires_grad_() for x in inputs)
    with torch.enable_grad():
        output = run(tuple(leaf.clone() for leaf in leaves))
    if not output.requires_grad:
        return False
    last = output.shape[0] - 1
    for row in {0, last}:
        gradients = torch.autograd.grad(output[row].sum(), leaves, retain_graph=row != last, allow_unused=True)
        for gradient in gradients:
            if gradient is not None and bool((torch.cat([gradient[:row], gradient[row + 1 :]]) != 0).any()):
                return True
    return False
