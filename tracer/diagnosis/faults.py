"""Diagnosis: what is wrong with an attribution, proved by its trace, and what to change.

`diagnose(trace)` works from the trace alone. Each fault is one pure function, Evidence → Findings, with its name and
conditions at its head (`fault.fault`). What leaks and is none of the faults is named by `leftover`.
"""

from __future__ import annotations

import math
from typing import get_args

import numpy as np

from tracer.diagnosis import (
    coupling,
    gradient_path,
    linearised,
    nonfinite,
    outcome,
    run_conditions,
    run_endings,
    softmax,
)
from tracer.diagnosis.evidence import Evidence
from tracer.diagnosis.fault import Fault
from tracer.diagnosis.gathering import gather
from tracer.diagnosis.leftover import leftovers
from tracer.diagnosis.ranking import ranked
from tracer.records import FaultKind, Finding
from tracer.tracefile.trace import Trace

_MODULES = (run_endings, linearised, softmax, gradient_path, run_conditions, nonfinite, coupling, outcome)
_KINDS = get_args(FaultKind)
FAULTS: tuple[Fault, ...] = tuple(
    sorted(
        (each for module in _MODULES for each in vars(module).values() if isinstance(each, Fault)),
        key=lambda each: _KINDS.index(each.kind),
    )
)
"""All faults in the order of `FaultKind`: of two findings that weigh the same, the earlier stands first."""
_ENDING = frozenset(fault.kind for fault in FAULTS if fault.ends_run)
_HARMFUL = frozenset(fault.kind for fault in FAULTS if fault.harmful)


@np.errstate(over="ignore", invalid="ignore")  # a trace may hold any figures
def diagnose(trace: Trace, example: int | None = None) -> tuple[Finding, ...]:
    """The faults that a trace shows, worst first and symptoms under their causes; () where nothing is wrong.

    Over all examples, or for one of them. Reads figures of all calls at once, tensors of suspicious calls only where
    they were recorded; loads no torch. InputError for an example that the trace lacks, TraceFileError for a damaged
    file.
    """
    evidence = gather(trace, example)
    found = [finding for fault in FAULTS for finding in fault.find(evidence)]
    # A finding that does not show as a leak, such as "decided", explains none of its calls' leaks.
    named = {node for finding in found if not math.isnan(finding.share) for node in finding.nodes}
    found += leftovers(evidence, named)
    return ranked(evidence, [finding for finding in found if _counts(evidence, finding)], _ENDING)


def ended_by(trace: Trace) -> Finding | None:
    """The fault that ended a failed run, as far as its notes and its error say; None where none is known."""
    if trace.run.status != "failed":
        return None
    with np.errstate(over="ignore", invalid="ignore"):  # a trace may hold any figures
        evidence = gather(trace)
        return next((finding for fault in FAULTS if fault.ends_run for finding in fault.find(evidence)), None)


def _counts(evidence: Evidence, finding: Finding) -> bool:
    """Whether a finding leaks enough to be named, or does harm without leaking."""
    return finding.kind in _HARMFUL or math.isnan(finding.share) or evidence.matters(finding.nodes)
