"""The demo: captum issue #519 told on the bundled model, in three variants of captum's run and one with exact rules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tracer.analysis.agreement import cosine, spearman
from tracer.analysis.ladder import Repair, ladder_lines
from tracer.analysis.verdict import call_name, ranking_warning, verdict
from tracer.counterfactuals.measured import measure
from tracer.demo.model import TARGET, TEXT, demo_model
from tracer.errors import TraceFileError
from tracer.recording.subject import record_subject
from tracer.records import Panel, Progress
from tracer.report.contents import ranked
from tracer.subject.run import DEMO, RunOptions
from tracer.subject.text import Subject, make_subject
from tracer.text import clean, figure, multiple, shorten
from tracer.tracefile.trace import Trace

# File name, method, and which functional ops are made modules.
RUNS = (
    ("shipped", "captum", ()),
    ("softmax", "captum", ("softmax",)),
    ("softmax-gelu", "captum", ("softmax", "gelu")),
    ("exact", "exact", ()),
)
_TOP_TOKENS = 3


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The table to print, and the file of the trace with the largest delta."""

    table: str
    worst: Path


@dataclass(frozen=True, slots=True)
class _Row:
    what: str
    delta: float
    relative: float
    cosine: float
    spearman: float
    worst: str
    tokens: str
    path: Path


def run_demo(folder: Path, progress: Progress) -> DemoResult:
    """Record the sentence of captum issue #519 in each way into `folder`; traces of an earlier demo are replaced."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TraceFileError(f"cannot make the folder {folder} ({error.strerror}): give another with --out") from error
    progress("Loading the demo's model", 0, 0)
    subject = demo_subject()
    rows: list[_Row] = []
    repairs: dict[Path, Repair] = {}
    panel: Panel | None = None
    for name, method, kinds in RUNS:
        path = folder / f"{name}.dltrace"
        options = RunOptions(DEMO, method=method, explicit=kinds)
        with record_subject(subject, options, path, progress, force=True, like=panel) as trace:
            panel = trace.run.panel
            rows.append(_row(trace, path))
            if method == "captum":
                repairs[path] = measure(subject, options, trace, progress)
                if repairs[path].interrupted:
                    raise KeyboardInterrupt
    assert panel is not None
    worst = max(rows, key=lambda row: abs(row.delta))
    lines = [*_table(rows, panel, subject.target), *_story(repairs[worst.path], worst), *_files(rows, worst)]
    return DemoResult("\n".join(lines) + "\n", worst.path)


def demo_subject() -> Subject:
    """The demo's sentence on its model, against padding at the first position, as in the notebook of issue #519."""
    model, tokenizer = demo_model()
    return make_subject(model, tokenizer, TEXT, target=TARGET, reference="pad", reference_positions="zero")


def _row(trace: Trace, path: Path) -> _Row:
    run = trace.run
    judged = verdict(trace)
    worst = (
        "no call leaks" if judged.level == "holds" or judged.worst is None else f"worst call: {call_name(judged.worst)}"
    )
    own = run.panel.rankings[-1]
    gradients = next(ranking for ranking in run.panel.rankings if ranking.name.startswith("Integrated Gradients"))
    return _Row(
        what=f"{run.method}, {run.variant}",
        delta=float(run.delta.sum()),
        relative=run.relative_delta,
        cosine=cosine(own.scores, gradients.scores),
        spearman=spearman(own.scores, gradients.scores),
        worst=worst,
        tokens=" ".join(clean(token) for token, _score, _normalised in ranked(own, run.tokens[0])[:_TOP_TOKENS]),
        path=path,
    )


def _table(rows: list[_Row], panel: Panel, target: int) -> list[str]:
    """Lines of at most 120 columns: a headline, two lines a run, what to trust, and how to look closer."""
    output, reference = panel.output[target], panel.output_reference[target]
    lines = [
        f'DeepLIFT on "{TEXT}"',
        f"f(x) = {figure(output)}, f(x') = {figure(reference)}: the attributions should add up to "
        f"{figure(output - reference, signed=True)}. IG: Integrated Gradients, 100 steps.",
        "",
        f"{'run':<34}{'delta':>11}{'of the change':>17}{'cosine IG':>11}{'Spearman IG':>13}   top tokens",
    ]
    for row in rows:
        lines.append(
            f"{row.what:<34}{figure(row.delta, signed=True):>11}{multiple(row.relative):>17}{row.cosine:>11.2f}"
            f"{row.spearman:>13.2f}   {shorten(row.tokens, 30)}"
        )
        lines.append(f"    {row.worst}")
    lines.append("")
    lines += [f"Note: {clean(warning)}." for ranking in panel.rankings[:-1] if (warning := ranking_warning(ranking))]
    return lines


def _story(repair: Repair, row: _Row) -> list[str]:
    """What it takes to bring the worst run's delta down, rung by rung."""
    return [f"What would repair {row.what}? Measured, run by run:", *ladder_lines(repair, 90), ""]


def _files(rows: list[_Row], worst: _Row) -> list[str]:
    return [
        f"Traces: {', '.join(str(row.path) for row in rows)}",
        f"Look at one again: deeplift-tracer view {worst.path}",
    ]
