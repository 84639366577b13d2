"""Masks: what makes them (comparisons, casts), what is computed from them, and what they choose between."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tracer import ops
from tracer.exact.choices.context import Choices, Handler
from tracer.exact.choices.twins import AllPlaces, OneHot, is_real
from tracer.exact.treatment import Treatment
from tracer.exact.varying import is_varying
from tracer.op_call import OpCall
from tracer.rules.call import BoundCall, arrived
from tracer.rules.formulas import steps

_COMPARISONS: dict[str, Callable[..., Tensor]] = {
    **{name: getattr(torch, name) for name in ("gt", "lt", "ge", "le", "eq", "ne")},
    "greater": torch.gt, "less": torch.lt, "greater_equal": torch.ge, "less_equal": torch.le, "not_equal": torch.ne,
}  # fmt: skip


def compare(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """A comparison of what varies: its mask gets a twin whose multiplier is the secant of the step."""
    pair = call.value(0, "input"), call.value(1, "other")
    real = choices.real(call)
    if how.in_place or not isinstance(real, Tensor):
        return NotImplemented
    for one, other in (pair, pair[::-1]):
        twin = choices.twins.of(one)
        if isinstance(twin, OneHot) and how.name in ("eq", "ne") and choices.twins.of(other) is None:
            with choices.engine:
                choices.twins.keep_equal(real, _equals(twin, other, real.shape, how.name == "ne"))
            return real
    with choices.engine:
        values = [choices.numeric(item) for item in pair]
    kind = next((t.dtype for t in values if isinstance(t, Tensor) and is_real(t) and is_varying(t)), None)
    if kind is None or kind.is_complex:
        return NotImplemented
    u, v = (torch.as_tensor(t, dtype=None if is_real(t) else kind, device=real.device) for t in values)
    comparing = _COMPARISONS[how.name]

    def multipliers(gs: Any, xs: Any, x_refs: Any, _needs: Any) -> Any:
        return steps.comparison(arrived(gs), comparing, xs[0], x_refs[0], xs[1], x_refs[1])

    twin_value = choices.source(how.name, BoundCall((u, v), lambda u, v: comparing(u, v).to(kind), multipliers))
    choices.twins.keep_equal(real, twin_value)
    return real


def _equals(twin: OneHot, other: Any, shape: torch.Size, negated: bool) -> Tensor:
    """Whether an index equals `other`, as 0 and 1: a column of its one-hot."""
    places = twin.places
    count = places.shape[-1]
    if isinstance(other, Tensor):
        at = other.clamp(0, count - 1).long().expand(shape).unsqueeze(-1)
        found = places.expand(*shape, count).gather(-1, at).squeeze(-1) * ((other >= 0) & (other < count))
    else:
        found = places[..., int(other)] if 0 <= other < count else torch.zeros_like(places[..., 0])
    return 1 - found if negated else found


def cast(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """A cast: of a mask or count to floating point, which then varies, or of what varies to a mask or whole numbers."""
    source: Any = call.args[0] if call.args else None
    twin = choices.twins.of(source)
    if twin is None:
        return _discretised(choices, how, call)
    if isinstance(twin, AllPlaces):
        return NotImplemented
    real = choices.real(call)
    if not isinstance(real, Tensor):
        return real
    if is_real(real):
        with choices.engine:
            return choices.numeric(source).to(real.dtype)
    if real.dtype != torch.bool or source.dtype == torch.bool:
        choices.twins.keep(real, twin)
        return real
    with choices.engine:
        number = choices.numeric(source)
    choices.twins.keep_equal(real, choices.node(how.name, stepped(number, _not_zero)))
    return real


def _discretised(choices: Choices, how: Treatment, call: OpCall) -> Any:
    x = call.args[0] if call.args else None
    if not isinstance(x, Tensor) or not (is_varying(x) and x.is_floating_point()):
        return NotImplemented
    real = choices.real(call)
    if not isinstance(real, Tensor) or is_real(real):
        return NotImplemented
    run: Callable[[Tensor], Tensor] = _not_zero if real.dtype == torch.bool else torch.trunc
    choices.twins.keep_equal(real, choices.source(how.name, stepped(x, run)))
    return real


def _not_zero(t: Tensor) -> Tensor:
    return (t != 0).to(t.dtype)


def stepped(x: Tensor, run: Callable[[Tensor], Tensor]) -> BoundCall:
    """A function with steps, bound to its secant."""

    def multipliers(gs: Any, xs: Any, x_refs: Any, _needs: Any) -> Any:
        return (arrived(gs) * steps.step(run, xs[0], x_refs[0], 0.0),)

    return BoundCall((x,), run, multipliers)


def logical(combine: Callable[..., Tensor], choices: Choices, how: Treatment, call: OpCall) -> Any:
    """not, and, or, xor of masks: the same in arithmetic of 0 and 1."""
    items = [item for item in (call.value(0, "input"), call.value(1, "other")) if item is not None]
    if not all(isinstance(t, bool) or (isinstance(t, Tensor) and t.dtype == torch.bool) for t in items):
        return NotImplemented
    twins = [choices.twins.mask(item) for item in items]
    kind = next((twin.dtype for twin in twins if twin is not None), None)
    if kind is None:
        return NotImplemented
    with choices.engine:
        twin = combine(*(_as_number(i, kind) if t is None else t for i, t in zip(items, twins, strict=True)))
    real = choices.real(call)
    choices.twins.keep_equal(real, twin)
    return real


def _as_number(item: Tensor | bool, kind: torch.dtype) -> Tensor | float:
    return item.to(kind) if isinstance(item, Tensor) else float(item)


def quantified(every: bool, choices: Choices, how: Treatment, call: OpCall) -> Any:
    """any and all of a mask: its maximum and minimum."""
    real = choices.real(call)
    with choices.engine:
        source = choices.numeric(call.value(0, "input"))
        dims = call.value(1, "dim")
        keep = bool(call.value(2, "keepdim", False))
        given = tuple(range(source.dim())) if dims is None else dims
        twin = (source.amin if every else source.amax)(given, keepdim=keep)
    choices.twins.keep_equal(real, twin)
    return real


def chosen(choices: Choices, name: str, mask: Tensor, a: Any, b: Any) -> Tensor | None:
    """where(mask, a, b) with the multiplier of the mask's twin; None where the mask has none."""
    twin = choices.twins.mask(mask)
    if twin is None:
        return None
    with choices.engine:
        a, b = choices.numeric(a), choices.numeric(b)
    kind = torch.result_type(a, b)
    if not (kind.is_floating_point or kind.is_complex):
        kind = twin.dtype
    a, b = (t if isinstance(t, Tensor) else torch.tensor(t, dtype=kind, device=mask.device) for t in (a, b))

    def multipliers(gs: Any, xs: Any, x_refs: Any, _needs: Any) -> Any:
        return steps.choice(arrived(gs), xs, x_refs)

    return choices.node(name, BoundCall((twin, a, b), lambda c, a, b: torch.where(c > 0.5, a, b), multipliers))


def where(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """torch.where of two values."""
    if len(call.args) + len(call.kwargs) < 3:
        return NotImplemented
    mask, a, b = (call.value(i, name) for i, name in enumerate(("condition", "input", "other")))
    if isinstance(a, Tensor) and a is mask:
        return NotImplemented
    if isinstance(mask, Tensor) and mask.dtype != torch.bool:
        mask, a, b = call.value(1, "condition"), call.value(0, "input"), call.value(2, "other")  # Tensor.where
    found = chosen(choices, how.name, mask, a, b) if isinstance(mask, Tensor) else None
    if found is None:
        return NotImplemented
    real = None if is_real(a) or is_real(b) else choices.real(call)
    if isinstance(real, Tensor) and not is_real(real):  # a choice between two masks or counts
        choices.twins.keep_equal(real, found)
        return real
    return found


def masked_fill(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """masked_fill and masked_fill_."""
    x, mask, fill = (call.value(i, name) for i, name in enumerate(("input", "mask", "value")))
    if not is_real(x) or not isinstance(mask, Tensor):
        return NotImplemented
    found = chosen(choices, how.name, mask, fill, x)
    return NotImplemented if found is None else choices.written(how, call, found.to(x.dtype))


def set_by_mask(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """x[mask] = number."""
    x, mask, new = call.args
    one = not isinstance(new, Tensor) or new.dim() == 0
    if not (is_real(x) and isinstance(mask, Tensor) and mask.dtype == torch.bool and one):
        return NotImplemented
    twin = choices.twins.mask(mask)
    if twin is None:
        return NotImplemented
    wide = mask.reshape(*mask.shape, *[1] * (x.dim() - mask.dim()))
    with choices.engine:
        choices.twins.keep(wide, twin.reshape(wide.shape))
    found = chosen(choices, how.name, wide, new, x)
    return NotImplemented if found is None else choices.written(how, call, found.to(x.dtype))


def attention(choices: Choices, how: Treatment, call: OpCall) -> Any:
    """Fused attention under a mask that depends on the input: the mask as a number added to the logits."""
    mask, query = call.value(3, "attn_mask"), call.value(0, "query")
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        return NotImplemented
    zero = torch.zeros((), dtype=query.dtype, device=query.device)
    added = chosen(choices, "where", mask, zero, zero - torch.inf)
    if added is None:
        return NotImplemented
    place = call.place(3, "attn_mask")
    assert place is not None
    with choices.engine:
        return call.replaced([(place, added.to(query.dtype))]).run()


def _either(c: Tensor, d: Tensor) -> Tensor:
    return c + d - 2 * (c * d)


MAKES_MASKS: dict[str, Handler] = dict.fromkeys(_COMPARISONS, compare)
CASTS: dict[str, Handler] = dict.fromkeys(ops.CASTS, cast)
TAKES_MASKS: dict[str, Handler] = {
    **dict.fromkeys(("invert", "logical_not", "bitwise_not"), partial(logical, lambda c: 1 - c)),
    **dict.fromkeys(("and", "rand", "iand", "logical_and", "bitwise_and"), partial(logical, lambda c, d: c * d)),
    **dict.fromkeys(("or", "ror", "ior", "logical_or", "bitwise_or"), partial(logical, lambda c, d: c + d - c * d)),
    **dict.fromkeys(("xor", "rxor", "ixor", "logical_xor", "bitwise_xor"), partial(logical, _either)),
    "any": partial(quantified, False),
    "all": partial(quantified, True),
    "where": where,
    "masked_fill": masked_fill,
    "setitem": set_by_mask,
    "scaled_dot_product_attention": attention,
}  # fmt: skip
