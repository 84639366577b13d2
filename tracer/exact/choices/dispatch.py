"""Which ops make or take a twin, and who handles them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tracer import ops
from tracer.exact.choices import experts, masks, orders, places
from tracer.exact.choices.context import Choices, Handler, tensors_of, with_each
from tracer.exact.choices.twins import is_real
from tracer.exact.treatment import Treatment
from tracer.exact.varying import is_varying
from tracer.op_call import OpCall

# What varies goes in, a mask or an index comes out.
SOURCES: dict[str, Handler] = masks.MAKES_MASKS | masks.CASTS | orders.MAKES_INDICES | experts.EXPERTS
# A mask or an index goes in: the handlers of an op are asked in turn.
TAKERS: dict[str, tuple[Handler, ...]] = {}
for _table in (masks.TAKES_MASKS, places.VIEWS, places.TAKES_INDICES):
    for _name, _handler in _table.items():
        TAKERS[_name] = (*TAKERS.get(_name, ()), _handler)

# Computed of masks and counts as of other numbers: the same op on their twins, by the engine's rules.
_OF_NUMBERS: frozenset[ops.Kind] = frozenset({"shape", "index", "linear", "product", "layer", "quotient", "pool"})
_FURTHER = frozenset({"abs", "clamp", "pow", "prod", "gather", "detach", "cpu", "cuda"})


def concern(choices: Choices, name: str) -> bool:
    """Whether a call of op `name` may make or take a twin."""
    return choices.wanted and (bool(choices.twins) or name in SOURCES)


def run(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """What the call returns, with what decides it behind it; NotImplemented where no twin is made or taken."""
    taken = bool(choices.twins) and any(choices.twins.of(t) is not None for t in tensors_of(call))
    if not taken and (how.name not in SOURCES or not any(is_real(t) and is_varying(t) for t in tensors_of(call))):
        return NotImplemented
    # A comparison has no gradient that another rule could send: the rule of the op that takes its mask decides.
    if how.name not in masks.MAKES_MASKS and choices.pairing.rule_of(how.name) != "exact":
        return NotImplemented
    cut = not torch.is_grad_enabled()
    with torch.enable_grad():
        found = _first(choices, how, call, taken)
    return _detached(choices, how, call, found) if cut and found is not NotImplemented else found


def _first(choices: Choices, how: Treatment, call: OpCall, taken: bool) -> Any:
    handlers = (SOURCES[how.name],) if how.name in SOURCES else ()
    if taken:
        handlers = (*TAKERS.get(how.name, ()), *handlers, places.of_all_places, same_of_numbers)
    for handler in handlers:
        found = handler(choices, how, call)
        if found is not NotImplemented:
            return found
    return NotImplemented


def _detached(choices: Choices, how: Treatment, call: OpCall, found: Any) -> Any:
    """What a call under `no_grad` gives: choices pass it, numbers do not.

    Of values with indices, the indices may be all that is wanted; an op that takes the values notes that they differ.
    """
    if isinstance(found, tuple):
        return type(found)([item.detach() if is_real(item) else item for item in found])
    if is_real(found) and found.requires_grad:
        choices.pairing.note_cut(how, call)
        return found.detach()
    return found


def same_of_numbers(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """An op that treats masks and counts as numbers: the same on their twins, kept where it holds the same."""
    if not _is_of_numbers(how.name) or (how.in_place and how.outside is call.function):
        return NotImplemented
    outside = call._replace(function=how.outside) if how.in_place else call
    twin = _on_twins(choices, outside)
    target = call.args[0] if how.in_place else None
    if isinstance(target, Tensor) and not is_real(target):
        real = choices.real(call)
        choices.twins.keep_equal(target, twin)
        return real
    real = choices.real(outside)
    if is_real(real):
        if not isinstance(twin, Tensor) or not twin.requires_grad or twin.shape != real.shape:
            return NotImplemented
        return choices.written(how, call, twin.to(real.dtype))
    if isinstance(real, Tensor):
        choices.twins.keep_equal(real, twin)
    elif isinstance(real, (tuple, list)) and isinstance(twin, (tuple, list)):
        for one, other in zip(real, twin, strict=True):
            if not is_real(one):
                choices.twins.keep_equal(one, other)
    return real


def _is_of_numbers(name: str) -> bool:
    """Not of dropout: to call it twice would draw other random numbers."""
    op = ops.find(name)
    return name in _FURTHER or (op is not None and op.kind in _OF_NUMBERS and not op.training_at)


def _on_twins(choices: Choices, call: OpCall) -> Any:
    with choices.engine:
        try:
            return with_each(call, choices.numeric).run()
        except (RuntimeError, IndexError, TypeError):  # an op that wants whole numbers: its result has no twin
            return None
