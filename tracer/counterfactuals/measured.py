"""What would repair a recorded subject, measured, and written into its trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracer.analysis.candidates import By
from tracer.analysis.verdict import HOLDS

if TYPE_CHECKING:
    from tracer.analysis.ladder import Repair
    from tracer.records import Progress
    from tracer.subject.run import RunOptions
    from tracer.subject.tensors import TensorSubject
    from tracer.subject.text import Subject
    from tracer.tracefile.trace import Trace


def measure(
    subject: Subject | TensorSubject,
    options: RunOptions,
    trace: Trace,
    progress: Progress,
    *,
    bound: float = HOLDS,
    by: By = "family",
    limit_s: float | None = None,
    save: bool = True,
) -> Repair:
    """The repair of the run that `options` made of `subject`, and `trace` holds; other arguments as in `repair`.

    With `save` what was measured is written into the trace, and what `diagnose` finds now that it is known. Single
    changes that were measured earlier stay there.
    """
    from tracer.counterfactuals.search import repair
    from tracer.diagnosis.faults import diagnose
    from tracer.recording.options import Details
    from tracer.tracefile.amend import amend

    found = repair(
        subject.model,
        subject.inputs,
        subject.baselines,
        target=subject.target,
        additional_forward_args=subject.additional_forward_args or None,
        explicit=options.explicit,
        method=options.method,  # type: ignore[arg-type]
        rules=options.rules,
        bound=bound,
        by=by,
        trace=trace,
        details=Details(names=subject.names),
        limit_s=limit_s,
        progress=progress,
    )
    if save and found.counterfactuals:
        again = {measured.pattern for measured in found.singles}
        earlier = [old for old in trace.counterfactuals if old.step == 0 and old.pattern not in again]
        amend(trace, counterfactuals=[*found.singles, *earlier, *found.ladder])
        amend(trace, findings=diagnose(trace))
    return found
