"""`assert_complete`: a test that a model's attributions add up to the change of its output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tracer.plain import clean, figure
from tracer.trace import Trace
from tracer.verdict import HOLDS, call_name, verdict

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tracer.methods import Method

_CALLS = 5
_SHARE = 1e-3
"""A call with less of all leaks is not worth a line."""
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
    """Pass where |delta| ≤ `max_relative_delta` · |f(x) − f(x')| in every example; else AssertionError.

    Its message is the ranking: the delta, the calls that make it with their source lines, what is wrong with them and
    what to change. The arguments are those of `tracer.record`; "captum" tests the installed captum's DeepLift, "exact"
    the exact rules. Raises `tracer.errors.TracerError` where the attribution itself fails.
    """
    __tracebackhide__ = True
    from tracer.methods import record

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
    yield f"the relative delta is {figure(relative)}, more than {figure(most)} ({run.method}, {run.variant})"
    yield verdict(trace).headline
    least = _SHARE * float(np.abs(trace.columns.self_leak).sum())
    worst = [node for node in trace.worst(_CALLS) if not abs(float(node.self_leak.sum())) <= least]
    if worst:
        yield f"worst calls, of {len(trace.nodes)}:"
    for node in worst:
        leak = figure(float(node.self_leak.sum()), signed=True)
        yield f"  {leak:>11}  {call_name(node)} ({clean(node.type, 60)})"
        if node.source:
            yield f"  {'':>11}  {clean(node.source)}"
    findings = tracer.diagnose(trace)
    for finding in findings[:_FINDINGS]:
        yield f"{finding.kind}: {clean(finding.message)}"
        yield f"  {clean(finding.advice)}"
    more = len(findings) - _FINDINGS
    if more > 0:
        yield f"and {more} more finding{'s' if more > 1 else ''}"
