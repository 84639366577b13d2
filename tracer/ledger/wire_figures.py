"""The figures of one wire: both runs' tensors, their difference, the multipliers of its uses, and their flows.

Functions without state; `settling` says when each is called.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np
import torch

from tracer.ledger.arrays import HostTensor, Numbers, as_array, identical, statistics, subtract, sums
from tracer.ledger.example_axis import per_example
from tracer.ledger.roles import WireRole
from tracer.ledger.wires import Observation, Use, Wire
from tracer.records import Floats, Statistics


class WireValues(NamedTuple):
    """A wire's tensors in both runs and Δ; `statistics` of value, reference and Δ."""

    value: HostTensor
    reference: HostTensor | None
    difference: Numbers | None
    statistics: tuple[Statistics | None, Statistics | None, Statistics | None]


class StatisticsCache:
    """Statistics of tensors by the memory that they lie in, so that the same numbers are measured once.

    A view holds the numbers of its base, and a sum sends the same gradient to each summand. Keeps the arrays, so that
    their memory is not reused for other numbers; valid until one of them is written to.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[int, int], tuple[Numbers, Statistics]] = {}

    def statistics(self, tensor: HostTensor) -> Statistics | None:
        """The statistics of a tensor; None for integers and booleans."""
        if tensor.numbers is None:
            return None
        flat = tensor.numbers.ravel("K")
        if not tensor.address or flat.base is None:  # a copy, since the elements are not contiguous
            return statistics(flat)
        key = tensor.address, flat.size
        if key not in self._found:
            self._found[key] = flat, statistics(flat)
        return self._found[key][1]


class MultiplierFigures(NamedTuple):
    """A multiplier (of a doubled batch the input's half of the gradient), with its flow Σ m·Δ and magnitude Σ |m·Δ|."""

    multiplier: HostTensor
    statistics: Statistics | None
    flow: Floats
    magnitude: float


class WireFigures(NamedTuple):
    """What a wire's edges need: `total` is what arrived at its producer; each use and role has what it sent back.

    `values` is None where the wire had been put aside. `lost` is the flow that a hook added when it overwrote the
    gradient, None where none did.
    """

    values: WireValues | None
    difference: Numbers | None
    total: MultiplierFigures | None
    uses: list[tuple[Use, MultiplierFigures | None]]
    roles: list[tuple[WireRole, MultiplierFigures | None]]
    lost: Floats | None


def values_of(observation: Observation, wire: Wire, cache: StatisticsCache) -> WireValues:
    """The tensors of a wire and the figures that need no multiplier."""
    value, reference = both_runs(observation, wire)
    of_value = cache.statistics(value)
    of_reference = None if reference is None else cache.statistics(reference)
    finite = of_value is not None and of_reference is not None and not of_value.nonfinite + of_reference.nonfinite
    difference = difference_of(value, reference, finite)
    of_difference = None if difference is None else statistics(difference)
    return WireValues(value, reference, difference, (of_value, of_reference, of_difference))


def figures_of(
    observation: Observation,
    wire: Wire,
    uses: Sequence[Use],
    roles: Sequence[WireRole],
    difference: Numbers | None,
    may_lose: bool,
    cache: StatisticsCache,
) -> WireFigures | None:
    """The figures of a wire whose multipliers have come; None for a wire that no call takes or gives.

    `difference` is Δ where the wire was put aside. `may_lose`: no part of its multiplier comes from outside the model,
    so what the uses do not send was lost, or added, on the way.
    """
    arrived = wire.multiplier
    sending = [use for use in uses if use.multiplier is not None]
    parts = [use.multiplier for use in sending if use.multiplier is not None]
    together = reduce(add, reversed(parts)) if parts else None  # in autograd's order, for the same bits
    intact = arrived is not None and together is not None and _same(together, arrived)
    is_lost = may_lose and arrived is not None and not intact and _is_loss(arrived, together, parts)
    if not roles and not is_lost:
        return None
    values = values_of(observation, wire, cache) if wire.value_figures is None else None
    if values is not None:
        difference = values.difference

    def sent(gradient: torch.Tensor) -> MultiplierFigures:
        multiplier = _multiplier(observation, wire, gradient)
        return MultiplierFigures(
            multiplier, cache.statistics(multiplier), *_flow(observation, wire, multiplier, difference)
        )

    total, lost = None if arrived is None else sent(arrived), None
    every = tuple(range(len(parts)))
    back: dict[tuple[int, ...], MultiplierFigures | None] = {(): None}  # by the positions of the uses in `sending`
    if intact:
        back[every] = total  # the sum of the parts, which need not be added up again
    left: dict[tuple[int, ...], MultiplierFigures | None] = {(): total}  # what arrived minus what these uses send

    def sent_by(numbers: tuple[int, ...]) -> MultiplierFigures | None:
        if numbers not in back:
            back[numbers] = sent(reduce(add, [parts[number] for number in numbers]))
        return back[numbers]

    def sent_for(role: WireRole) -> MultiplierFigures | None:
        call = role.call
        if role.passed or (role.direction == "out" and arrived is None):
            return total
        within = tuple([number for number in every if call.index <= sending[number].call < call.end])
        if role.direction == "in":
            return sent_by(within)
        if within not in left:
            assert arrived is not None
            left[within] = sent(arrived - reduce(add, [parts[number] for number in within]))
        return left[within]

    if is_lost and total is not None:
        whole = sent_by(every)
        lost = total.flow - (np.zeros_like(total.flow) if whole is None else whole.flow)
    by_use = [(use, sent_by((number,))) for number, use in enumerate(sending) if not use.reshaping]
    return WireFigures(values, difference, total, by_use, [(role, sent_for(role)) for role in roles], lost)


def settle_overrides(uses: Sequence[Use]) -> None:
    """Give the last use whose rule replaces the tensor's gradient all of it; what earlier such rules sent is gone.

    A rule whose module got no gradient replaces nothing.
    """
    last: Use | None = None
    for use in uses:
        if use.overrides and use.multiplier is not None:
            use.multiplier, last = None, use
    if last is not None:
        last.multiplier = last.wire.multiplier


def both_runs(observation: Observation, wire: Wire) -> tuple[HostTensor, HostTensor | None]:
    """The input run's tensor and the reference run's."""
    value = as_array(wire.value)
    if not observation.doubled:
        return value, None if wire.reference is None else as_array(wire.reference)
    place, rows = wire.place, observation.rows
    return (value, value) if place is None else (value.half(0, place, rows), value.half(1, place, rows))


def explained_flow(observation: Observation, wire: Wire, gradient: torch.Tensor) -> Floats:
    """Σ m·Δ, float64 (E,), of the model's output `wire` and the `gradient` that reached it from outside."""
    difference = difference_of(*both_runs(observation, wire))
    return _flow(observation, wire, _multiplier(observation, wire, gradient), difference)[0]


def selected(observation: Observation, outside: Mapping[Wire, torch.Tensor]) -> tuple[Floats, Floats]:
    """(f(x), f(x')), float64 (E,): Σ m · output, with the multipliers that reach the outputs from `outside`.

    NaN where none does: the run ended before, or what it explains depends on no output.
    """
    start = 0.0 if outside else math.nan
    totals = np.full(observation.examples, start), np.full(observation.examples, start)
    for wire, gradient in outside.items():
        multiplier, (value, reference) = _multiplier(observation, wire, gradient), both_runs(observation, wire)
        if multiplier.numbers is None or reference is None or reference.numbers is None or value.numbers is None:
            continue
        for total, numbers in zip(totals, (value.numbers, reference.numbers), strict=True):
            chosen = np.where(multiplier.numbers != 0, numbers * multiplier.numbers, 0)
            total += per_example(chosen, wire.place, observation.examples).sum(1, dtype=np.float64)
    return totals


def attribution(observation: Observation, wire: Wire) -> torch.Tensor:
    """m·Δ of a model input, in the input's shape; zeros where no multiplier came."""
    value, reference = both_runs(observation, wire)
    multiplier = None if wire.multiplier is None else _multiplier(observation, wire, wire.multiplier).numbers
    difference = difference_of(value, reference)
    if multiplier is None or difference is None:
        product = np.zeros(value.shape, dtype=np.float32)
    else:
        product = np.asarray(multiplier * difference)
    return torch.from_numpy(product).to(wire.value.dtype)


def _multiplier(observation: Observation, wire: Wire, gradient: torch.Tensor) -> HostTensor:
    """DeepLIFT's multiplier: all of `gradient`, or the input's half of it where input and reference share a batch."""
    whole = as_array(gradient)
    if not observation.doubled or wire.place is None:
        return whole
    return whole.half(0, wire.place, observation.rows)


def _flow(
    observation: Observation, wire: Wire, multiplier: HostTensor, difference: Numbers | None
) -> tuple[Floats, float]:
    if multiplier.numbers is None or difference is None:
        return np.zeros(observation.examples), 0.0
    return sums(multiplier.numbers, difference, wire.place, observation.examples)


def difference_of(value: HostTensor, reference: HostTensor | None, finite: bool = False) -> Numbers | None:
    """Δ; None for integers and booleans, and where the reference is unknown or has another shape.

    `finite`: the caller knows that all elements of both are finite.
    """
    if reference is None or reference.shape != value.shape or value.numbers is None or reference.numbers is None:
        return None
    return subtract(value.numbers, reference.numbers, finite)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two gradients are equal, bit for bit."""
    if one is other:
        return True
    return identical(as_array(one).raw, as_array(other).raw) if one.is_cpu else torch.equal(one, other)


def _is_loss(arrived: torch.Tensor, together: torch.Tensor | None, parts: Sequence[torch.Tensor]) -> bool:
    """Whether what arrived differs from the sum of the uses' parts by more than rounding: a hook overwrote it."""
    gap = arrived if together is None else together - arrived
    # A bound this low: where multipliers are large but Δ is 0, a small rest may still carry a large flow.
    rounding = min(1e-3, 16 * torch.finfo(gap.dtype).eps)
    size = torch.linalg.vector_norm(gap)
    gradients = [arrived, *parts]
    if together is not None and not torch.isfinite(size):  # the same NaN or infinity in both is not a gap
        gap = gap.masked_fill((together == arrived) | (together.isnan() & arrived.isnan()), 0)
        size = torch.linalg.vector_norm(gap)
        gradients = [gradient.nan_to_num(0, 0, 0) for gradient in gradients]
    norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
    return bool(size > rounding * sum(norms)) or not bool(torch.isfinite(size))
