"""Ops that are composed of others: their true value, with the graph of these behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tracer.errors import ObservationError
from tracer.exact.pairing import Pairing
from tracer.exact.replacement import Replacement
from tracer.exact.varying import check_shapes, has_gradient, is_varying
from tracer.model.source import source_line
from tracer.op_call import OpCall
from tracer.rules.call import BoundCall, results_of
from tracer.rules.table import approximate


@dataclass(frozen=True, slots=True)
class Made:
    """A value that is ready."""

    made: Any

    def value(self) -> Any:
        """The value."""
        return self.made


def composed(
    rules: AbstractContextManager[Any], pairing: Pairing, name: str, call: OpCall, bound: BoundCall
) -> Replacement | Made:
    """The value of a call in this run, its multipliers those of `bound.composition` under `rules`.

    Where the composition does not give the true values, as of a matrix that is singular, the call is approximated.
    """
    part = bound.composition
    assert part is not None
    references = pairing.step(name, [t.detach() for t in bound.operands])
    if references is None:
        return _reference(rules, pairing, bound, part)
    x_refs = [t for t in references if t is not None]
    if len(x_refs) < len(references):
        raise ObservationError(f"{name} at {source_line()} overwrites itself in one of the runs alone")
    check_shapes(name, bound.operands, x_refs)
    notes, decided = len(pairing.notes), len(pairing.decided)
    y = y_ref = None
    try:
        with pairing.all_exact():
            y, y_ref = both(rules, pairing, part, bound.operands, x_refs)
    except RuntimeError:
        pass
    with torch._C.DisableTorchFunction(), torch.no_grad():
        value_ref = bound.forward(*x_refs)
        value = bound.forward(*bound.operands)  # last: it leaves the random numbers as one call of the op does
    true = y is not None and agrees(value_ref, y_ref) and agrees(value, y)
    if true and same_beyond(value, value_ref, len(results_of(y))):
        return Made(connected(value, y))
    del pairing.notes[notes:], pairing.decided[decided:]
    other = approximate(call)
    other.forward = bound.forward
    with torch._C.DisableTorchFunction():
        shown = results_of(bound.forward(*bound.operands) if y is None else y)
    flags = [has_gradient(item) for item in shown]
    other.differentiable = (*flags, *[False] * (len(results_of(value)) - len(flags)))
    note = pairing.note(name, "exact", "approximated", 0.0)
    xs = pairing.held([t.detach() for t in bound.operands])
    return Replacement(other, xs, x_refs, "approximated", partial(setattr, note, "amount"), bound.operands)


def _reference(
    rules: AbstractContextManager[Any], pairing: Pairing, bound: BoundCall, part: Callable[..., Any]
) -> Made:
    """The reference's value; its results vary that vary in the composition."""
    try:
        with pairing.apart() as tape, pairing.all_exact():
            tape.write()
            with rules:
                shown = part(*(t if is_varying(t) else t.detach() for t in bound.operands))
    except RuntimeError:  # a matrix without an inverse, where the op itself gives infinities
        with torch._C.DisableTorchFunction():
            shown = bound.forward(*bound.operands)
    with torch._C.DisableTorchFunction():
        with torch.no_grad():
            value = bound.forward(*bound.operands)
        return Made(with_graph(value, [has_gradient(y) for y in results_of(shown)]))


def both(
    rules: AbstractContextManager[Any],
    pairing: Pairing,
    part: Callable[..., Any],
    xs: Sequence[Tensor],
    x_refs: Sequence[Tensor],
) -> tuple[Any, Any]:
    """What a part of the model makes of both runs' values, in the input's run; the first with multipliers."""
    varying = [is_varying(x) for x in xs]
    with pairing.apart() as tape:
        tape.write()
        with rules:
            y_ref = part(*(x.detach().requires_grad_(v) for x, v in zip(x_refs, varying, strict=True)))
        tape.read()
        with rules:
            # A constant index keeps no twin here, since the reference's copy of it has none.
            y = part(*(x if v else x.detach() for x, v in zip(xs, varying, strict=True)))
    return y, without_graph(y_ref)


def without_graph(value: Any) -> Any:
    """The same results without a graph."""
    if isinstance(value, Tensor):
        return value.detach()
    return tuple(item.detach() if isinstance(item, Tensor) else item for item in value)


def agrees(value: Any, composed: Any) -> bool:
    """Whether what the ops give is the true value but for rounding, wherever that is finite."""
    for true, found in zip(results_of(value), results_of(composed), strict=False):
        if not isinstance(true, Tensor) or not (true.is_floating_point() or true.is_complex()):
            continue
        if true.shape != found.shape:
            return False
        slack = torch.finfo(true.dtype).eps ** 0.5
        apart = (found - true).abs() <= slack * (1 + true.abs())
        if not bool((apart | ~torch.isfinite(true)).all()):
            return False
    return True


def same_beyond(value: Any, reference: Any, count: int) -> bool:
    """Whether the results after the first `count`, which nothing is composed of, are equal in both runs."""
    rest, rest_ref = results_of(value)[count:], results_of(reference)[count:]
    return all(
        not isinstance(one, Tensor) or not one.is_floating_point() or torch.equal(one, other)
        for one, other in zip(rest, rest_ref, strict=True)
    )


def with_graph(value: Any, flags: Sequence[bool]) -> Any:
    """The reference's value, of which the flagged results vary."""
    return _each(value, [None] * len(flags), flags)


def connected(value: Any, composed: Any) -> Any:
    """The input's value, its results connected to the graphs of the composed ones."""
    found = results_of(composed)
    return _each(value, found, [isinstance(y, Tensor) and y.requires_grad for y in found])


def _each(value: Any, graphs: Sequence[Tensor | None], flags: Sequence[bool]) -> Any:
    results = []
    for i, item in enumerate(results_of(value)):
        if i < len(flags) and flags[i] and isinstance(item, Tensor):
            graph = graphs[i]
            item = (
                item.requires_grad_().clone() if graph is None else _Connected.apply(item, graph)  # type: ignore[no-untyped-call]
            )
        results.append(item)
    if isinstance(value, Tensor):
        return results[0]
    return type(value)(results)


class _Connected(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, graph: Tensor) -> Tensor:
        ctx.kind = graph.dtype
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gs: Any) -> Any:
        return None, gs[0].to(ctx.kind)
