"""Activation modules that captum cannot rule as they are, replaced for a while by modules that it can."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from torch import nn

from tracer.model.undo import undoing

ChildPlace = tuple[nn.Module, str, nn.Module]
"""A parent module, the name of one of its children, and the child."""

# GELUs of transformers.activations that are written out as products, with the `approximate` they amount to.
_WRITTEN_OUT = {"NewGELUActivation": "tanh", "FastGELUActivation": "tanh", "AccurateGELUActivation": "tanh"}
_WRITTEN_OUT_METHODS = {"_gelu_python": "none", "_gelu_tanh_python": "tanh"}


@contextmanager
def _children_replaced(replacements: list[ChildPlace]) -> Iterator[None]:
    """Other children stand at these places while the context lasts."""
    before = [(parent, name, parent._modules[name]) for parent, name, _child in replacements]

    def undo() -> None:
        for parent, name, old in reversed(before):
            parent._modules[name] = old

    with undoing(undo):
        for parent, name, child in replacements:
            parent._modules[name] = child
        yield


def written_out_gelus_replaced(model: nn.Module) -> AbstractContextManager[None]:
    """`nn.GELU` in place of each activation of transformers that writes GELU out as products."""
    found: list[ChildPlace] = []
    for parent, name, child in _slots(model):
        if type(child).__module__ != "transformers.activations":
            continue
        method = getattr(getattr(child, "act", None), "__name__", "")
        approximate = _WRITTEN_OUT.get(type(child).__name__) or _WRITTEN_OUT_METHODS.get(method)
        if approximate is not None:
            found.append((parent, name, nn.GELU(approximate=approximate).train(child.training)))
    return _children_replaced(found)


def shared_activations_separated(model: nn.Module, types: tuple[type[nn.Module], ...]) -> AbstractContextManager[None]:
    """A copy of its own for each place that an activation stands in: captum refuses a module that runs twice.

    Of modules of these `types`, and of activations of transformers.
    """
    seen: set[nn.Module] = set()
    copies: list[ChildPlace] = []
    for parent, name, child in _slots(model):
        if type(child) not in types and type(child).__module__ != "transformers.activations":
            continue
        if child in seen:
            copies.append((parent, name, copy.deepcopy(child)))
        seen.add(child)
    return _children_replaced(copies)


def _slots(model: nn.Module) -> list[ChildPlace]:
    """Every place in the model where a module stands; one module may stand in several."""
    return [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent._modules.items()
        if child is not None
    ]
