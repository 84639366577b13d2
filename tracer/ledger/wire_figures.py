"""The figures of one wire: both runs' tensors, their difference, and what its consumers sent back. No state."""

from __future__ import annotations

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
    """Both runs' tensors of a wire and Δ; `statistics` of value, reference and Δ."""

    value: HostTensor
    reference: HostTensor | None
    difference: Numbers | None
    statistics: tuple[Statistics | None, Statistics | None, Statistics | None]


class StatisticsCache:
    """Figures of the tensors of several wires: a view holds the numbers of its base, and a sum hands its gradient on
    to each summand as it is, so that the same memory is met again and again.

    For as long as nobody writes to that memory, and while this object, which keeps it, lives.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[int, int], tuple[Numbers, Statistics]] = {}

    def statistics(self, tensor: HostTensor) -> Statistics | None:
        """The statistics of a tensor; None for what is no numbers."""
        if tensor.numbers is None:
            return None
        flat = tensor.numbers.ravel("K")
        if not tensor.address or flat.base is None:  # a copy, of what does not lie together
            return statistics(flat)
        key = tensor.address, flat.size
        if key not in self._found:
            self._found[key] = flat, statistics(flat)
        return self._found[key][1]


class MultiplierFigures(NamedTuple):
    """A gradient's part that belongs to the input run; `flow` and `magnitude` are Σ m·Δ and Σ |m·Δ|."""

    multiplier: HostTensor
    statistics: Statistics | None
    flow: Floats
    magnitude: float


class WireFigures(NamedTuple):
    """What a wire's edges need: `total` of what arrived at its producer, and of each use and role what it sent.

    `seen` is None where the wire had been put aside, `lost` the flow that an overwritten gradient added, if it was.
    """

    seen: WireValues | None
    difference: Numbers | None
    total: MultiplierFigures | None
    uses: list[tuple[Use, MultiplierFigures | None]]
    roles: list[tuple[WireRole, MultiplierFigures | None]]
    lost: Floats | None


def values_of(observation: Observation, wire: Wire, cache: StatisticsCache) -> WireValues:
    """The figures that need no multiplier."""
    value, reference = pair(observation, wire)
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
    """The figures of a wire whose multipliers have come; None for a wire that is nothing to any call.

    `difference` is Δ where it was put aside; `may_lose`: its multiplier is not what the attribution explains.
    """
    arrived = wire.multiplier
    sending = [use for use in uses if use.multiplier is not None]
    parts = [use.multiplier for use in sending if use.multiplier is not None]
    together = reduce(add, reversed(parts)) if parts else None  # in autograd's order, which gives the same bits
    intact = arrived is not None and together is not None and _same(together, arrived)
    is_lost = may_lose and arrived is not None and not intact and _is_loss(arrived, together, parts)
    if not roles and not is_lost:
        return None
    seen = values_of(observation, wire, cache) if wire.value_figures is None else None
    if seen is not None:
        difference = seen.difference

    def sent(gradient: torch.Tensor) -> MultiplierFigures:
        multiplier = _multiplier(observation, wire, gradient)
        return MultiplierFigures(
            multiplier, cache.statistics(multiplier), *_flow(observation, wire, multiplier, difference)
        )

    total, lost = None if arrived is None else sent(arrived), None
    every = tuple(range(len(parts)))
    back: dict[tuple[int, ...], MultiplierFigures | None] = {(): None}  # by the numbers of the uses that send it
    if intact:
        back[every] = total  # the sum of the parts, so it need not be made again
    left: dict[tuple[int, ...], MultiplierFigures | None] = {(): total}  # what arrived less what these uses send

    def sent_by(numbers: tuple[int, ...]) -> MultiplierFigures | None:
        if numbers not in back:
            back[numbers] = sent(reduce(add, [parts[number] for number in numbers]))
        return back[numbers]

    def sent_for(role: WireRole) -> MultiplierFigures | None:
        call = role.call
        if role.passed or (role.direction == "out" and (call.leaf or arrived is None)):
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
    return WireFigures(seen, difference, total, by_use, [(role, sent_for(role)) for role in roles], lost)


def settle_overrides(uses: Sequence[Use]) -> None:
    """Have the last rule that rewrites its input tensor's gradient decide; what earlier ones sent is gone."""
    last: Use | None = None
    for use in uses:
        if use.overrides:
            use.multiplier, last = None, use
    if last is not None:
        last.multiplier = last.wire.multiplier


def pair(observation: Observation, wire: Wire) -> tuple[HostTensor, HostTensor | None]:
    """The input run's tensor and the reference run's."""
    value = as_array(wire.value)
    if not observation.doubled:
        return value, None if wire.reference is None else as_array(wire.reference)
    place, rows = wire.place, observation.rows
    return (value, value) if place is None else (value.half(0, place, rows), value.half(1, place, rows))


def explained_flow(observation: Observation, wire: Wire, gradient: torch.Tensor) -> Floats:
    """Σ m·Δ, float64 (E,), of the model's output `wire` and what reached it from outside."""
    difference = difference_of(*pair(observation, wire))
    return _flow(observation, wire, _multiplier(observation, wire, gradient), difference)[0]


def selected(observation: Observation, outside: Mapping[Wire, torch.Tensor]) -> tuple[Floats, Floats]:
    """(f(x), f(x')), float64 (E,): the output where its multiplier, by wire in `outside`, is not zero."""
    totals = np.zeros(observation.examples), np.zeros(observation.examples)
    for wire, gradient in outside.items():
        multiplier, (value, reference) = _multiplier(observation, wire, gradient), pair(observation, wire)
        if multiplier.numbers is None or reference is None or reference.numbers is None or value.numbers is None:
            continue
        for total, numbers in zip(totals, (value.numbers, reference.numbers), strict=True):
            chosen = np.where(multiplier.numbers != 0, numbers * multiplier.numbers, 0)
            total += per_example(chosen, wire.place, observation.examples).sum(1, dtype=np.float64)
    return totals


def attribution(observation: Observation, wire: Wire) -> torch.Tensor:
    """m·Δ of a model input, of the input's shape; of zeros where no multiplier came."""
    value, reference = pair(observation, wire)
    multiplier = None if wire.multiplier is None else _multiplier(observation, wire, wire.multiplier).numbers
    difference = difference_of(value, reference)
    if multiplier is None or difference is None:
        product = np.zeros(value.shape, dtype=np.float32)
    else:
        product = np.asarray(multiplier * difference)
    return torch.from_numpy(product).to(wire.value.dtype)


def _multiplier(observation: Observation, wire: Wire, gradient: torch.Tensor) -> HostTensor:
    """The part of a gradient of the shape of `wire` that is DeepLIFT's multiplier: the half of the input run."""
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
    """Δ; None where the reference is not known or has another shape, and for what is no numbers.

    `finite`: both are known to be.
    """
    if reference is None or reference.shape != value.shape or value.numbers is None or reference.numbers is None:
        return None
    return subtract(value.numbers, reference.numbers, finite)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two gradients hold the same numbers, bit for bit."""
    if one is other:
        return True
    return identical(as_array(one).raw, as_array(other).raw) if one.is_cpu else torch.equal(one, other)


def _is_loss(arrived: torch.Tensor, together: torch.Tensor | None, parts: Sequence[torch.Tensor]) -> bool:
    """Whether what arrived differs from the sum of the consumers' parts by more than rounding: it was overwritten."""
    gap = arrived if together is None else together - arrived
    # Of multipliers that are large where Δ is 0, a small part may still carry a large flow.
    rounding = min(1e-3, 16 * torch.finfo(gap.dtype).eps)
    size = torch.linalg.vector_norm(gap)
    gradients = [arrived, *parts]
    if together is not None and not torch.isfinite(size):  # NaN and infinities that both have are no gap
        gap = gap.masked_fill((together == arrived) | (together.isnan() & arrived.isnan()), 0)
        size = torch.linalg.vector_norm(gap)
        gradients = [gradient.nan_to_num(0, 0, 0) for gradient in gradients]
    norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
    return bool(size > rounding * sum(norms)) or not bool(torch.isfinite(size))
