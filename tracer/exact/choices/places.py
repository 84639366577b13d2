"""Indices in use: gather, scatter, embedding and indexing as products with the one-hot of the index."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tracer import ops
from tracer.exact.choices.context import Choices, Handler, tensors_of, with_each
from tracer.exact.choices.twins import AllPlaces, OneHot, agree, is_real
from tracer.exact.treatment import Treatment
from tracer.op_call import OpCall
from tracer.rules.call import BoundCall, arrived

_LARGEST = 1 << 24  # elements of a product with a one-hot
_SAME = frozenset({"contiguous", "clone", "detach"})


def one_hot_of(choices: Choices, index: Any, size: int) -> Tensor | None:
    """The one-hot of an index over `size` places; None for an index that does not vary.

    That of a number, such as a rounded one, has at each place the secant of its step.
    """
    twin = choices.twins.of(index)
    if isinstance(twin, OneHot):
        return twin.of_size(size)
    if not isinstance(twin, Tensor) or index.dtype == torch.bool or index.numel() * size > _LARGEST:
        return None

    def run(t: Tensor) -> Tensor:
        return F.one_hot(t.round().long() % size, size).to(t.dtype)

    def multipliers(gs: Any, xs: Any, x_refs: Any, _needs: Any) -> Any:
        way = xs[0] - x_refs[0]
        jump = (arrived(gs) * (run(xs[0]) - run(x_refs[0]))).sum(-1)
        return (torch.where(way == 0, 0.0, jump / way),)

    return choices.node("number to place", BoundCall((twin,), run, multipliers))


def viewed(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """A view of an index: the same view of its one-hot, whose last axis stays."""
    index = call.args[0] if call.args else None
    twin = choices.twins.of(index)
    if not isinstance(index, Tensor) or not isinstance(twin, OneHot) or how.in_place:
        return NotImplemented
    if any(isinstance(item, Tensor) for item in _items(call.value(1, "index"))):
        return NotImplemented
    real = choices.real(call)
    if not isinstance(real, Tensor):
        return NotImplemented
    if real.shape == index.shape and how.name in _SAME:
        choices.twins.keep(real, twin)
        return real
    # Where each element of the view comes from; one look-up does for every kind of view.
    numbers = torch.arange(index.numel(), device=index.device).reshape(index.shape)
    origin = call.replaced([(0, numbers)]).run()
    with choices.engine:
        places = twin.places.reshape(-1, twin.places.shape[-1])[origin.reshape(-1)]
        choices.twins.keep(real, OneHot(places.reshape(*real.shape, places.shape[-1])))
    return real


def one_hot(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """F.one_hot: a mask by place."""
    index, real = call.value(0, "tensor"), choices.real(call)
    with choices.engine:
        places = one_hot_of(choices, index, real.shape[-1])
    if places is None:
        return NotImplemented
    choices.twins.keep_equal(real, places)
    return real


def placed(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """gather, take_along_dim, scatter and scatter_add along one axis."""
    along = how.name == "take_along_dim"
    base, dim = call.value(0, "input"), call.value(2 if along else 1, "dim")
    index = call.value(1 if along else 2, "indices" if along else "index")
    if not isinstance(base, Tensor) or not isinstance(dim, int) or "reduce" in call.kwargs:
        return NotImplemented
    dim %= base.dim()
    if index.numel() * base.shape[dim] > _LARGEST:
        return NotImplemented
    with choices.engine:
        places = one_hot_of(choices, index, base.shape[dim])
        if places is None:
            return NotImplemented
        made = _at(choices, how, call, places, dim)
    if made is None:
        return NotImplemented
    outside = call._replace(function=how.outside) if how.in_place else call
    real = choices.real(outside)
    if is_real(real):
        return choices.written(how, call, made.to(real.dtype)) if agree(real, made) else NotImplemented
    if how.in_place:
        real = choices.real(call)
    choices.twins.keep_equal(real, made)
    return real


def _at(choices: Choices, how: Treatment, call: OpCall, places: Tensor, dim: int) -> Tensor | None:
    """The result as a product with the one-hot `places`, of shape (shape of the index, length of `dim`)."""
    base = choices.numeric(call.value(0, "input"))
    base = (base.clone() if how.in_place else base).movedim(dim, -1)
    places = places.to(base.dtype if is_real(base) else places.dtype).movedim(dim, -2)
    lead = places.shape[:-2]
    if how.name in ("gather", "take_along_dim"):
        rows = base[tuple(slice(0, size) for size in lead)]
        taken: Tensor = (places * rows.unsqueeze(-2)).sum(-1).movedim(-1, dim)
        return taken
    if base.shape[:-1] != lead:
        return None
    new = call.value(3, "src", call.kwargs.get("value"))
    if isinstance(new, Tensor) and new.dim():
        source = choices.numeric(new).movedim(dim, -1)[tuple(slice(0, size) for size in places.shape[:-1])]
        put = (places * source.unsqueeze(-1).to(places.dtype)).sum(-2)
    else:
        put = places.sum(-2) * choices.numeric(new)
    kept = base if how.name == "scatter_add" else base * (1 - places.sum(-2))
    made: Tensor = (kept + put).movedim(-1, dim)
    return made


def embedding(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """Rows of a table: the product of the one-hot with it."""
    index, weight = call.value(0, "input"), call.value(1, "weight")
    with choices.engine:
        places = one_hot_of(choices, index, weight.shape[0])
        return NotImplemented if places is None else places.to(weight.dtype) @ weight


def index_select(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """Slices along one axis."""
    source, dim = call.value(0, "input"), call.value(1, "dim")
    if not is_real(source):
        return NotImplemented
    with choices.engine:
        places = one_hot_of(choices, call.value(2, "index"), source.shape[dim])
        if places is None:
            return NotImplemented
        moved = source.movedim(dim, 0)
        found = places.to(moved.dtype) @ moved.reshape(moved.shape[0], -1)
        return found.reshape(-1, *moved.shape[1:]).movedim(0, dim)


def indexed(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """x[index], and x[rows, ..., index] where only the last index varies."""
    source, items = call.args[0], _items(call.args[1])
    if not is_real(source) or not items or not all(isinstance(item, Tensor) for item in items):
        return NotImplemented
    if len(items) > source.dim() or any(choices.twins.of(item) is not None for item in items[:-1]):
        return NotImplemented
    with choices.engine:
        places = one_hot_of(choices, items[-1], source.shape[len(items) - 1])
        if places is None:
            return NotImplemented
        places = places.to(source.dtype)
        if len(items) == 1:
            found = places @ source.reshape(source.shape[0], -1)
            return found.reshape(*places.shape[:-1], *source.shape[1:])
        rows = source[tuple(items[:-1])]
        lead = rows.dim() - (source.dim() - len(items) + 1)
        places = places.reshape(*places.shape, *[1] * (rows.dim() - lead - 1))
        return (places * rows).sum(lead)


def nonzero(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """The places where a mask holds: all places, in both runs alike, of which the twin says which count."""
    if how.name == "where" and len(call.args) + len(call.kwargs) != 1:
        return NotImplemented
    mask = call.value(0, "condition" if how.name == "where" else "input")
    twin = choices.twins.mask(mask)
    if twin is None or mask.numel() > _LARGEST or not choices.all_places:
        return NotImplemented
    choices.took_all_places = True
    separate = how.name == "where" or bool(call.kwargs.get("as_tuple", False))
    found = torch.ones(mask.shape, dtype=torch.bool, device=mask.device).nonzero(as_tuple=True)
    with choices.engine:
        chosen = twin.reshape(-1)
    results = found if separate else (torch.stack(found, -1),)
    for item in results:
        choices.twins.keep(item, AllPlaces(chosen))
    return results if separate else results[0]


def of_all_places(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """Rows taken at all places; what is written back counts only where the place was chosen."""
    marked = [twin for item in tensors_of(call) if isinstance(twin := choices.twins.of(item), AllPlaces)]
    if not marked:
        return NotImplemented
    chosen = marked[0].chosen
    if how.name == "index_add" and isinstance(choices.twins.of(call.value(2, "index")), AllPlaces):
        base, dim, index, source = (call.value(i, n) for i, n in enumerate(("input", "dim", "index", "source")))
        with choices.engine:
            result = torch.index_add(base, dim, _unmarked(index), _weighted(source, chosen, dim))
        return choices.written(how, call, result)
    if how.name == "setitem":
        base, index, new = call.args
        if not isinstance(index, Tensor) or not isinstance(new, Tensor):
            return NotImplemented
        with choices.engine:
            plain = _unmarked(index)
            result = torch.index_add(base, 0, plain, _weighted(new - base[plain], chosen, 0))
        return choices.written(how, call, result)

    with choices.engine:  # everything else takes the places as constants
        found = with_each(
            call, lambda item: _unmarked(item) if isinstance(choices.twins.of(item), AllPlaces) else item
        ).run()
    if isinstance(found, Tensor) and not is_real(found) and found.shape[:1] == chosen.shape:  # a view of the places
        choices.twins.keep(found, AllPlaces(chosen))
    return found


def _weighted(rows: Tensor, chosen: Tensor, dim: int) -> Tensor:
    shape = [1] * rows.dim()
    shape[dim] = -1
    return rows * chosen.to(rows.dtype).reshape(shape)


def _unmarked(index: Tensor) -> Tensor:
    with torch._C.DisableTorchFunction():
        return index.view(index.shape)


def _items(index: Any) -> list[Any]:
    return list(index) if isinstance(index, tuple) else [index]


VIEWS: dict[str, Handler] = dict.fromkeys(ops.MOVES, viewed)
TAKES_INDICES: dict[str, Handler] = {
    "getitem": indexed,
    "one_hot": one_hot,
    **dict.fromkeys(("gather", "take_along_dim", "scatter", "scatter_add"), placed),
    "embedding": embedding,
    "index_select": index_select,
    "nonzero": nonzero,
    "where": nonzero,
}
