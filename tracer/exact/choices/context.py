"""What the handlers of choices share: the engine, its pairing, the twins, and how a result is made of them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from tracer.exact.choices.twins import AllPlaces, OneHot, Twins
from tracer.exact.composed import both
from tracer.exact.pairing import Pairing
from tracer.exact.treatment import Treatment
from tracer.op_call import OpCall
from tracer.rules.call import BoundCall


class Engine(Protocol):
    """What of the paired evaluation the choices need; as a context, its rules apply to what runs inside."""

    def __enter__(self) -> Any: ...
    def __exit__(self, *error: object) -> bool | None: ...
    def treated(self, how: Treatment, call: OpCall) -> Any:
        """What the call returns by its own rule."""


class Choices:
    """The masks and indices of one engine's runs.

    `wanted`: any op of them may have an exact rule. `all_places`: a mask's `nonzero` may give all its places;
    `took_all_places` says that one did.
    """

    def __init__(self, engine: Engine, pairing: Pairing, wanted: bool, all_places: bool) -> None:
        self._engine = weakref.ref(engine)  # which holds this: a cycle would keep a run in memory
        self.pairing = pairing
        self.wanted = wanted
        self.all_places = all_places
        self.took_all_places = False
        self.twins = Twins()

    @property
    def engine(self) -> Engine:
        """The engine whose choices these are."""
        engine = self._engine()
        assert engine is not None
        return engine

    def real(self, call: OpCall) -> Any:
        """What the call itself gives, without a gradient."""
        with torch.no_grad():
            return call.run()

    def numeric(self, item: Any) -> Any:
        """The numbers of a mask, count or index as its twin has them; any other argument as it is."""
        twin = self.twins.of(item)
        if isinstance(twin, OneHot):
            return twin.number()
        return item if twin is None or isinstance(twin, AllPlaces) else twin

    def node(self, name: str, bound: BoundCall) -> Tensor:
        """An op on twins and numbers."""
        return self.pairing.node(name, bound)

    def source(self, name: str, bound: BoundCall) -> Tensor:
        """The twin that numbers decide."""
        return self.pairing.node(name, bound, decides=True)

    def both(self, part: Callable[[Tensor], Tensor], x: Tensor, x_ref: Tensor) -> tuple[Tensor, Tensor]:
        """What a part of the model makes of both runs' values, in the input's run; the first with multipliers."""
        return both(self.engine, self.pairing, part, [x], [x_ref])

    def written(self, how: Treatment, call: OpCall, result: Tensor) -> Any:
        """The result of a call, written to its first argument where that is what it does."""
        if not how.in_place:
            return result
        target = call.args[0]
        self.pairing.keep_value(target)
        with self.engine:
            target.copy_(result)
        return None if how.name == "setitem" else target


def tensors_of(call: OpCall) -> Iterator[Tensor]:
    """The tensors among a call's arguments, those inside an index or a list included."""
    for item in (*call.args, *call.kwargs.values()):
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, (tuple, list)):
            yield from (inner for inner in item if isinstance(inner, Tensor))


def with_each(call: OpCall, other: Callable[[Any], Any]) -> OpCall:
    """The call with `other(item)` for each argument, and for each item of its tuples and lists."""

    def exchanged(item: Any) -> Any:
        return type(item)(map(exchanged, item)) if isinstance(item, (tuple, list)) else other(item)

    kwargs = {name: exchanged(item) for name, item in call.kwargs.items()}
    return OpCall(call.function, tuple(map(exchanged, call.args)), kwargs)


Handler = Callable[[Choices, Treatment, OpCall], Any]
"""Gives what a call returns; NotImplemented for a call that it does not handle."""
