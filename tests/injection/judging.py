"""Whether `diagnose` names the guilty row and the right kind first."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

import tracer
from tests.injection.faults import FAULTS, Injection
from tests.injection.subject import Subject
from tracer.records import Finding
from tracer.tracefile.trace import Trace

LEAST = 1e-3
"""A fault is one where it adds at least this share of Σ |f(x) − f(x')| to the delta."""
LEAST_IN_HALF = 0.3
"""The same in bfloat16, whose rounding alone is up to a twentieth of that change."""
_TRIES = 200


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `diagnose` said of an injection that changed the delta by `share` of f(x) − f(x'); `first` is the kind."""

    fault: str
    injection: Injection
    share: float
    said: str
    first: str
    right_call: bool
    right_kind: bool


def injected(fault: str, subjects: Sequence[Subject], rng: random.Random, capture: str) -> tuple[Verdict, int]:
    """The verdict on a fault of this name in a random subject, and how many were drawn before that had no effect."""
    without = 0
    for _ in range(_TRIES):
        injection = FAULTS[fault](rng.choice(subjects), rng)
        if injection is None:  # nothing of the kind in this model
            continue
        trace = injection.run(capture)
        share = effect(trace)
        if share >= least(injection.subject):
            return _judged(fault, injection, trace, share), without
        without += 1
    raise AssertionError(f"no fault of {_TRIES} named {fault!r} had an effect")


def least(subject: Subject) -> float:
    """The share from which a fault counts in a subject."""
    return LEAST_IN_HALF if subject.x.dtype == torch.bfloat16 else LEAST


def effect(trace: Trace) -> float:
    """Σ |delta| / Σ |f(x) − f(x')| over the examples."""
    run = trace.run
    return float(np.abs(run.delta).sum() / np.abs(run.output - run.output_reference).sum())


def _judged(fault: str, injection: Injection, trace: Trace, share: float) -> Verdict:
    findings = tracer.diagnose(trace)
    said = ", ".join(f"{finding.kind} at {finding.path} #{finding.call}" for finding in findings[:3]) or "nothing"
    if not findings:
        return Verdict(fault, injection, share, said, "", False, False)
    first = findings[0]
    guilty = (first.path, first.call) == (injection.path, injection.call)
    right_call = _is_lost(trace, first, injection) if injection.lost else guilty
    return Verdict(fault, injection, share, said, first.kind, right_call, first.kind in injection.kinds)


def _is_lost(trace: Trace, first: Finding, injection: Injection) -> bool:
    """Whether the finding's row is a lost path of a tensor that the call takes: one with the same figures."""
    if first.node is None or trace.nodes[first.node].kind != "lost":
        return False
    (lost,) = trace.edges(first.node)
    call = next(node for node in trace.nodes if (node.path, node.call) == (injection.path, injection.call))
    taken = [edge.value_statistics for edge in trace.edges(call.id) if edge.direction == "in"]
    return lost.value_statistics in taken
