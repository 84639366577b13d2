"""The demo: captum issue #519 told on the bundled model, in three variants."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tracer.columns import worst_first
from tracer.commands.progress import Report
from tracer.commands.trace import trace_subject
from tracer.demo.model import TARGET, TEXT, demo_model
from tracer.errors import TraceFileError
from tracer.plain import clean, figure, multiple, shorten
from tracer.records import Panel
from tracer.report import ranked
from tracer.subject import make_subject
from tracer.trace import Trace
from tracer.verdict import call_name, ranking_warning

VARIANTS = (("shipped", ()), ("softmax", ("softmax",)), ("softmax-gelu", ("softmax", "gelu")))
_TOP_TOKENS = 3


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The table to print, and the file of the trace with the largest delta."""

    table: str
    worst: Path


@dataclass(frozen=True, slots=True)
class _Row:
    variant: str
    delta: float
    relative: float
    worst: str
    tokens: str
    path: Path


def run_demo(folder: Path, report: Report) -> DemoResult:
    """Record the sentence of captum issue #519 in each variant into `folder`; traces of an earlier demo are replaced."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TraceFileError(f"cannot make the folder {folder} ({error.strerror}): give another with --out") from error
    report("Loading the demo's model", 0, 0)
    model, tokenizer = demo_model()
    subject = make_subject(model, tokenizer, TEXT, target=TARGET, reference="pad", reference_positions="zero")
    rows: list[_Row] = []
    panel: Panel | None = None
    for name, kinds in VARIANTS:
        path = folder / f"{name}.dltrace"
        with trace_subject(subject, kinds, path, report, force=True, like=panel) as trace:
            panel = trace.run.panel
            rows.append(_row(trace, path))
    assert panel is not None
    worst = max(rows, key=lambda row: abs(row.delta))
    return DemoResult("\n".join(_table(rows, panel, subject.target)) + "\n", worst.path)


def _row(trace: Trace, path: Path) -> _Row:
    run = trace.run
    worst = trace.nodes[int(worst_first(trace.leaks()[1])[0])]
    top = ranked(run.panel.rankings[-1], run.tokens[0])[:_TOP_TOKENS]
    tokens = " ".join(clean(token) for token, _score, _normalised in top)
    return _Row(run.variant, float(run.delta.sum()), run.relative_delta, call_name(worst), tokens, path)


def _table(rows: list[_Row], panel: Panel, target: int) -> list[str]:
    """Lines of at most 100 columns: a headline, a row a variant, what to trust, and where the traces are."""
    output, reference = panel.output[target], panel.output_reference[target]
    lines = [
        f'captum\'s DeepLift on "{TEXT}"',
        f"f(x) = {figure(output)}, f(x') = {figure(reference)}: the attributions should add up to "
        f"{figure(output - reference, signed=True)}.",
        "",
        f"{'model':<26}{'delta':>12}{'of the change':>16}   {'top tokens':<27}trace",
    ]
    for row in rows:
        relative = multiple(row.relative)
        lines.append(
            f"{row.variant:<26}{figure(row.delta, signed=True):>12}{relative:>16}   {shorten(row.tokens, 25):<27}{row.path}"
        )
        lines.append(f"{'':<26}worst call: {row.worst}")
    lines.append("")
    for ranking in panel.rankings[:-1]:
        if warning := ranking_warning(ranking):
            lines.append(f"Note: {clean(warning)}.")
    lines.append(f"Look at one again: deeplift-tracer view {max(rows, key=lambda row: abs(row.delta)).path}")
    return lines
