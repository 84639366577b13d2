"""Records the attribution of a subject, a model with its text or tensors, with its sanity panel and its findings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracer.diagnosis.faults import diagnose
from tracer.model.explicit import explicit
from tracer.model.tensors import as_tuple
from tracer.recording.options import Details
from tracer.recording.record import record
from tracer.records import HookReport, Panel, Progress
from tracer.subject.run import METHODS, RunOptions
from tracer.subject.sanity_panel import sanity_panel, tensor_panel
from tracer.subject.tensors import TensorSubject
from tracer.subject.text import Subject
from tracer.tracefile.amend import amend
from tracer.tracefile.trace import Trace


def record_subject(
    subject: Subject | TensorSubject,
    options: RunOptions,
    path: Path | None,
    progress: Progress,
    *,
    capture: str = "tensors",
    force: bool = False,
    like: Panel | None = None,
    panel: bool = True,
    max_bytes: int | None = None,
) -> Trace:
    """The trace of `subject` by the method and rules of `options`, in the file `path` or, None, in memory.

    `like` is the sanity panel of another run on this subject: the rankings that do not depend on the run come from it;
    `panel` false leaves it out. A file gets what `diagnose` finds, too.
    """
    rules = options.rules
    name = METHODS[options.method]
    name += f", {len(rules)} own rule{'s' if len(rules) > 1 else ''}" if rules else ""

    def make_panel(attributions: tuple[Any, ...], delta: Any, hooks: HookReport | None) -> Panel:
        if isinstance(subject, Subject):
            return sanity_panel(subject, attributions, float(delta.sum()), name, hooks, progress=progress, like=like)
        return tensor_panel(subject, attributions, float(delta[0]), name, hooks, progress=progress)

    with explicit(
        subject.model, options.explicit, (*as_tuple(subject.inputs), *subject.additional_forward_args)
    ) as variant:
        progress(f"{name}, {variant}", 0, 0)
        trace = record(
            subject.model,
            subject.inputs,
            subject.baselines,
            target=subject.target,
            method=options.method,  # type: ignore[arg-type]
            rules=rules,
            path=path,
            capture=capture,  # type: ignore[arg-type]
            additional_forward_args=subject.additional_forward_args or None,
            force=force,
            details=Details(
                model=subject.model_name,
                type=type(getattr(subject.model, "inner", subject.model)).__name__,
                variant=variant,
                target=subject.target_name,
                text=subject.text,
                reference=subject.reference,
                tokens=subject.token_rows,
                reference_tokens=subject.reference_token_rows,
                names=subject.names,
                command=options.to_json(),
            ),
            panel=make_panel if panel else None,
            max_bytes=max_bytes,
        )
    if path is not None:
        amend(trace, findings=diagnose(trace))
    return trace
