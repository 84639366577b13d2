"""`assert_complete`: a test that a model's attributions add up to the change of its output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tracer.analysis.verdict import HOLDS, call_name, relative_deltas, verdict, worst_example
from tracer.text import clean, figure
from tracer.tracefile.columns import worst_first
from tracer.tracefile.trace import Trace

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tracer.recording.record import Method

_CALLS = 5
_SHARE = 1e-3
"""Calls with a smaller share of all leaks are left out."""
_FINDINGS = 3


def assert_complete(
    model: nn.Module,
    inputs: Tensor | tuple[Tensor, ...],
    baselines: Any = None,
    *,
    target: Any = None,
    additional_forward_args: Any = None,
    method: Method = "captum",
    max_relative_delta: float = HOLDS,
    rules: Sequence[str] = (),
) -> None:
    """Pass if |delta| ≤ `max_relative_delta` · |f(x) − f(x')| in every example, else raise AssertionError.

    Its message has the delta, the worst calls with their source lines, what is wrong with them and what to change. The
    arguments are those of `tracer.record`; "captum" tests the installed captum's DeepLift, "exact" the exact rules.
    Raises `tracer.errors.TracerError` if the attribution itself fails.
    """
    __tracebackhide__ = True
    from tracer.recording.record import record

    with record(
        model, inputs, baselines, target=target, additional_forward_args=additional_forward_args, method=method,
        rules=rules, capture="summary",
    ) as trace:  # fmt: skip
        relative = verdict(trace).relative_delta
        if relative <= max_relative_delta:
            return
        message = "\n".join(_ranking(trace, relative, max_relative_delta))
    raise AssertionError(message)


def _ranking(trace: Trace, relative: float, most: float) -> Iterator[str]:
    import tracer

    run = trace.run
    example = worst_example(relative_deltas(run))  # as in the headline: sums over the examples may cancel
    self_leak = trace.leaks(example)[1]
    which = f" in example {example}" if run.examples > 1 else ""
    yield f"the relative delta is {figure(relative)}, more than {figure(most)} ({run.method}, {run.variant})"
    yield verdict(trace).headline
    least = _SHARE * float(np.abs(self_leak).sum())
    worst = [place for place in worst_first(self_leak)[:_CALLS].tolist() if not abs(float(self_leak[place])) <= least]
    if worst:
        yield f"worst calls{which}, of {len(trace.nodes)}:"
    for place in worst:
        node = trace.nodes[place]
        leak = figure(float(self_leak[place]), signed=True)
        yield f"  {leak:>11}  {call_name(node)} ({clean(node.type, 60)})"
        if node.source:
            yield f"  {'':>11}  {clean(node.source)}"
    findings = tracer.diagnose(trace, example)
    for finding in findings[:_FINDINGS]:
        yield f"{finding.kind}: {clean(finding.message)}"
        yield f"  {clean(finding.advice)}"
    more = len(findings) - _FINDINGS
    if more > 0:
        yield f"and {more} more finding{'s' if more > 1 else ''}"
