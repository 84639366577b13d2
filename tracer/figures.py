"""Single numbers out of a trace's figures: of one example or of all, relative, and as strict JSON takes them. Pure."""

from __future__ import annotations

import math

from tracer.errors import InputError
from tracer.records import Floats


def of_example(values: Floats, example: int | None) -> float:
    """The sum over the examples, or the figure of one; InputError where there is no such example."""
    if example is None:
        return float(sum(values.tolist()))
    if not 0 <= example < len(values):
        held = f"the trace holds {len(values)}, 0 to {len(values) - 1}" if len(values) else "the trace holds none"
        raise InputError(f"there is no example {example}: {held}")
    return float(values[example])


def relative(delta: float, change: float) -> float:
    """|delta| / |change|; infinite where the output does not change but the delta is not 0."""
    return abs(delta) / abs(change) if change else (0.0 if delta == 0 else math.inf)


def json_figure(value: float | None) -> float | str | None:
    """`value` as strict JSON takes it: NaN is None, infinities are "inf" and "-inf"."""
    if value is None or math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)
