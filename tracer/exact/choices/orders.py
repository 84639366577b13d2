"""Orders: sort, top-k, argmax and similar ops, whose indices and values change where two scores cross."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tracer.exact.choices.context import Choices, Handler
from tracer.exact.choices.masks import stepped
from tracer.exact.choices.twins import OneHot, is_real
from tracer.exact.pairing import PLACES
from tracer.exact.treatment import Treatment
from tracer.exact.varying import is_varying
from tracer.op_call import OpCall
from tracer.rules.call import BoundCall, arrived
from tracer.rules.formulas.ranking import ranked

_LARGEST = 1 << 24
"""Elements of a one-hot, or of a table of pairs, from which an order is noted as a discrete choice instead."""

Run = Callable[[Tensor], Any]


class _Order:
    """An op that puts the scores `x` into an order along `dim`: `run(x)` gives (values, indices) of its first ranks."""

    def __init__(self, choices: Choices, name: str, x: Tensor, dim: int, largest: bool, run: Run) -> None:
        self.choices, self.name, self.x, self.dim, self.run = choices, name, x, dim % x.dim(), run
        self.sign = 1.0 if largest else -1.0

    def values(self) -> Tensor:
        """The values by rank."""
        return self.choices.node(
            self.name, BoundCall((self.x,), lambda t: self.run(t)[0], partial(self._multipliers, False))
        )

    def places(self) -> Tensor:
        """One-hot of the indices by rank, over the length of `dim`, as the last axis."""
        count = self.x.shape[self.dim]

        def one_hot(t: Tensor) -> Tensor:
            return F.one_hot(self.run(t)[1], count).to(t.dtype)

        return self.choices.source(
            f"{self.name}{PLACES}", BoundCall((self.x,), one_hot, partial(self._multipliers, True))
        )

    def _multipliers(self, of_places: bool, gs: Any, xs: Any, x_refs: Any, _needs: Any) -> tuple[Tensor]:
        x, x_ref, g = xs[0], x_refs[0], arrived(gs)
        count = x.shape[self.dim]
        scores, scores_ref = (self.sign * t.movedim(self.dim, -1).reshape(-1, count) for t in (x, x_ref))
        index, index_ref = (self.run(t)[1].movedim(self.dim, -1) for t in (x, x_ref))
        k = index.shape[-1]
        rows = (t.reshape(-1, k) for t in (index, index_ref))
        # Σ m·Δscores must be Σ g·Δvalues, and scores are values times the sign.
        values = None if of_places else self.sign * g.movedim(self.dim, -1).reshape(-1, k)
        places = g.movedim(self.dim, -2).reshape(-1, k, count) if of_places else None
        m = self.sign * ranked(values, places, scores, scores_ref, *rows)
        shape = [size for axis, size in enumerate(x.shape) if axis != self.dim]
        return (m.reshape(*shape, count).movedim(-1, self.dim),)


def _scores(call: OpCall) -> Tensor | None:
    """The scores that an op orders; None where there is nothing to order, or too much."""
    x = call.value(0, "input")
    if not (isinstance(x, Tensor) and x.is_floating_point() and is_varying(x) and x.dim()):
        return None
    return x


def _fits(x: Tensor, dim: int, ranks: int) -> bool:
    """Whether the tables of the rule stay small."""
    return x.numel() * max(ranks, x.shape[dim]) <= _LARGEST


def topk(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """The k largest or smallest, with their indices."""
    x, k, dim = _scores(call), call.value(1, "k"), call.value(2, "dim", -1)
    largest = bool(call.value(3, "largest", True))
    if x is None or "out" in call.kwargs or not _fits(x, dim, k):
        return NotImplemented
    return _both(choices, _Order(choices, how.name, x, dim, largest, lambda t: torch.topk(t, k, dim, largest, True)))


def sort(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """All values in order; `msort` along the first axis, without indices."""
    x = _scores(call)
    dim = 0 if how.name == "msort" else call.value(1, "dim", -1)
    descending = bool(call.value(2, "descending", False))
    if isinstance(dim, bool):  # the signature (stable, dim, descending)
        dim, descending = call.kwargs.get("dim", -1), bool(call.kwargs.get("descending", False))
    if x is None or "out" in call.kwargs or not _fits(x, dim, x.shape[dim]):
        return NotImplemented
    stable = bool(call.kwargs.get("stable", False)) or (len(call.args) > 1 and call.args[1] is True)
    order = _Order(
        choices, how.name, x, dim, descending,
        lambda t: torch.sort(t, stable=stable, dim=dim, descending=descending),
    )  # fmt: skip
    if how.name == "msort":
        return order.values()
    if how.name == "argsort":
        index = choices.real(call)
        choices.twins.keep(index, OneHot(order.places()))
        return index
    return _both(choices, order)


def _both(choices: Choices, order: _Order) -> Any:
    found = order.run(order.x.detach())
    values = order.values()
    choices.twins.keep(found[1], OneHot(order.places()))
    return type(found)((values, found[1]))


def extreme_place(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """argmax and argmin."""
    x, dim, keepdim = _scores(call), call.value(1, "dim"), bool(call.value(2, "keepdim", False))
    if x is None:
        return NotImplemented
    index = choices.real(call)
    if dim is None:
        with choices.engine:
            x, dim, keepdim = x.reshape(-1), 0, False
    if not _fits(x, dim, 1):
        return NotImplemented
    choices.twins.keep(index, _extreme(choices, how.name, x, dim, keepdim))
    return index


def extreme(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """max and min along one axis: values by the rule of maxima, indices as an order."""
    x, dim, keepdim = _scores(call), call.value(1, "dim"), bool(call.value(2, "keepdim", False))
    if x is None or not isinstance(dim, int) or isinstance(dim, bool) or "out" in call.kwargs or not _fits(x, dim, 1):
        return NotImplemented
    found = choices.engine.treated(how, call)
    choices.twins.keep(found[1], _extreme(choices, how.name, x, dim, keepdim))
    return found


def _extreme(choices: Choices, name: str, x: Tensor, dim: int, keepdim: bool) -> OneHot:
    """The one-hot of the place of the largest or smallest along `dim`."""
    largest = name in ("max", "argmax")
    pick = torch.max if largest else torch.min
    places = _Order(choices, name, x, dim, largest, lambda t: pick(t, dim, keepdim=True)).places()
    with choices.engine:
        return OneHot(places if keepdim else places.squeeze(dim % x.dim()))


def kth(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """kthvalue and median: the last of the k smallest."""
    x = _scores(call)
    by_rank = how.name == "kthvalue"
    dim = call.value(2 if by_rank else 1, "dim", -1 if by_rank else None)
    keepdim = bool(call.value(3 if by_rank else 2, "keepdim", False))
    if x is None or "out" in call.kwargs:
        return NotImplemented
    flat = dim is None
    if flat:
        with choices.engine:
            x, dim = x.reshape(-1), 0
    k = call.value(1, "k") if by_rank else (x.shape[dim] + 1) // 2
    if not k or not _fits(x, dim, k):
        return NotImplemented
    order = _Order(choices, how.name, x, dim, False, lambda t: torch.topk(t, k, dim, False, True))
    found = choices.real(call)
    with choices.engine:
        value = order.values().narrow(dim, k - 1, 1)
        value = value if keepdim and not flat else value.squeeze(dim)
    if flat:
        return value
    places = order.places().narrow(dim % x.dim(), k - 1, 1)
    index = order.run(x.detach())[1].narrow(dim, k - 1, 1)
    if not keepdim:
        places, index = places.squeeze(dim % x.dim()), index.squeeze(dim)
    choices.twins.keep(index, OneHot(places))
    return type(found)((value, index))


def bucket(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """bucketize and searchsorted: the number of a bucket, a step at each of its bounds."""
    at = 0 if how.name == "bucketize" else 1
    x, bounds = call.value(at, "input"), call.value(1 - at, "boundaries" if at == 0 else "sorted_sequence")
    if not (is_real(x) and is_varying(x)) or (isinstance(bounds, Tensor) and is_varying(bounds)):
        return NotImplemented
    real = choices.real(call)
    place = call.place(at, "input")
    assert place is not None

    def run(t: Tensor) -> Tensor:
        result: Tensor = call.replaced([(place, t)]).run()
        return result.to(t.dtype)

    choices.twins.keep_equal(real, choices.source(how.name, stepped(x, run)))
    return real


MAKES_INDICES: dict[str, Handler] = {
    "topk": topk,
    **dict.fromkeys(("sort", "msort", "argsort"), sort),
    **dict.fromkeys(("argmax", "argmin"), extreme_place),
    **dict.fromkeys(("max", "min"), extreme),
    **dict.fromkeys(("kthvalue", "median"), kth),
    **dict.fromkeys(("bucketize", "searchsorted"), bucket),
}
