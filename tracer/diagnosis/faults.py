"""Diagnosis: what is wrong with an attribution, proved by its trace, and what to change.

`diagnose(trace)` works from the trace alone. Each fault has one pure function, Evidence → Findings, and stands in one
table, `FAULTS`. Beside the named faults there are these kinds, for what leaks and is none of them:

- "unconserving-rule": a rule that ought to conserve (captum's for one element, the exact one, the gradient of a linear
  call) does not;
- "unobserved-code": what ran unseen by the recorder, as a custom autograd function, leaks;
- "approximated-rule": an op without an exact rule, whose slope was averaged along the way, leaks;
- "masked-difference": differences under a mask, which a rule behind it sends multipliers back to;
- "differing-constant": an operand that no gradient reaches differs between input and reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from tracer.diagnosis import run_conditions as circumstances
from tracer.diagnosis.coupling import batch_coupled, pool_overlap
from tracer.diagnosis.evidence import Evidence, gather
from tracer.diagnosis.gradient_path import lost_path, stale_gradient
from tracer.diagnosis.leftover import remainder
from tracer.diagnosis.linearised import linearised_norm, linearised_product, unseen_op, unsupported_module
from tracer.diagnosis.nonfinite import nonfinite
from tracer.diagnosis.outcome import discrete_choice, saturated_output
from tracer.diagnosis.ranking import ranked
from tracer.diagnosis.softmax import dropped_difference, exploding_secant, softmax_normalised
from tracer.records import Finding, FindingKind
from tracer.tracefile.trace import Trace

FAULTS: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    unseen_op,
    unsupported_module,
    softmax_normalised,
    dropped_difference,
    exploding_secant,
    linearised_product,
    linearised_norm,
    circumstances.reused_module,
    stale_gradient,
    lost_path,
    circumstances.hook_skipped,
    circumstances.subclass_ignored,
    circumstances.keyword_call,
    circumstances.training_mode,
    circumstances.half_underflow,
    nonfinite,
    pool_overlap,
    batch_coupled,
    circumstances.integer_input,
    circumstances.shared_extras,
    circumstances.non_tensor_output,
    circumstances.in_place_target,
    saturated_output,
    discrete_choice,
)

# What harms by more than its own leak: by what it does to other calls, or to the function that is explained.
_HARMFUL: set[FindingKind] = {"exploding-secant", "training-mode", "batch-coupled"}


@np.errstate(over="ignore", invalid="ignore")  # the figures of a trace may be anything
def diagnose(trace: Trace, example: int | None = None) -> tuple[Finding, ...]:
    """The faults that a trace shows, worst first and symptoms under their causes; () where nothing is wrong.

    Over all examples, or for one of them. Reads figures of all calls at once, tensors of suspicious calls only where
    they were recorded; loads no torch. InputError for an example that the trace has not, TraceFileError for a damaged
    file.
    """
    evidence = gather(trace, example)
    found = [finding for fault in FAULTS for finding in fault(evidence)]
    named = {node for finding in found for node in finding.nodes}
    found += remainder(evidence, named)
    return ranked(evidence, [finding for finding in found if _counts(evidence, finding)])


def _counts(evidence: Evidence, finding: Finding) -> bool:
    """Whether a finding leaks enough to be named, or harms otherwise."""
    return finding.kind in _HARMFUL or math.isnan(finding.share) or evidence.matters(finding.nodes)
