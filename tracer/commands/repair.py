"""`deeplift-tracer repair FILE|MODEL`: which rules to change, in what order, and the delta after each."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from tracer.analysis.candidates import By
from tracer.analysis.ladder import Repair, headline, ladder_lines, stored_repair
from tracer.analysis.verdict import HOLDS
from tracer.commands import arguments, subject_options, terminal
from tracer.commands.output_file import check_out
from tracer.counterfactuals import measured
from tracer.errors import InputError, TraceFileError
from tracer.records import Counterfactual, Progress
from tracer.subject.run import DEMO, RunOptions
from tracer.text import json_figure
from tracer.tracefile.trace import Trace, open_trace

if TYPE_CHECKING:
    from tracer.subject.tensors import TensorSubject
    from tracer.subject.text import Subject

_SCHEMA = 1
_INTERRUPTED = 130
_DESCRIPTION = """\
Run an attribution again with some calls made exact, and find the fewest changes that bring its delta under a bound.
Given a trace FILE, the model, text and reference are loaded again as the file says (so give only files that you
trust), and what is measured is written into it. Given a MODEL and the options of 'deeplift-tracer trace', it is
recorded first. Ctrl-C ends the measuring; what was measured until then is kept.
"""
_EPILOG = """\
examples:
  deeplift-tracer repair run.dltrace
  deeplift-tracer repair run.dltrace --by layer --no-save
  deeplift-tracer repair owner/classifier --text "a great film" -o run.dltrace
"""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    command = commands.add_parser(
        "repair",
        help="find which rules to change for the delta to vanish",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("model", metavar="FILE|MODEL", help="a trace file, or a model as for 'deeplift-tracer trace'")
    command.add_argument(
        "--bound", type=bound, default=HOLDS, metavar="R", help=f"the relative delta to reach (default: {HOLDS:g})"
    )
    command.add_argument(
        "--by",
        choices=get_args(By),
        default="family",
        help="what to make exact at a time: a family of ops (default), a layer, or a single call (the ten worst)",
    )
    command.add_argument("--json", action="store_true", help="print JSON (NaN is null, infinities are strings)")
    command.add_argument("--no-save", action="store_true", help="do not write what is measured into FILE")
    command.add_argument("-o", "--out", metavar="FILE", type=Path, help="with a MODEL: keep its trace in FILE")
    command.add_argument("--force", action="store_true", help="with -o: overwrite FILE")
    subject_options.add_subject_options(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, print the ladder, and give the exit code back: 130 where Ctrl-C ended the measuring."""
    file = Path(options.model)
    with redirect_stdout(sys.stderr), terminal.progress() as progress:
        if file.is_file():
            found, saved = _of_file(file, options, progress)
        elif file.suffix == ".dltrace":
            raise TraceFileError(f"{file} does not exist: give a trace file, or a model")
        else:
            found, saved = _of_model(options, progress)
    if saved is not None:
        print(f"written into {saved}", file=sys.stderr)
    if options.json:
        print(json.dumps(repair_data(found), indent=1, allow_nan=False))
    else:
        print(headline(found))
        lines = list(ladder_lines(found, terminal.terminal_width()))
        print("\n".join(["", *lines] if lines else []))
    return _INTERRUPTED if found.interrupted else 0


def repair_data(found: Repair) -> dict[str, Any]:
    """The repair as strict JSON takes it; figures are sums over the examples, relative deltas those of the worst."""
    return {
        "schema": _SCHEMA,
        "headline": headline(found),
        "delta": json_figure(float(found.delta.sum())),
        "relative_delta": json_figure(found.relative(found.delta)),
        "worst_example": found.worst(found.delta),
        "bound": found.bound,
        "reached": found.reached,
        "interrupted": found.interrupted,
        "rules": list(found.rules),
        "ladder": [_measured_data(rung, found) for rung in found.ladder],
        "singles": [_measured_data(single, found) for single in found.singles],
        "notes": list(found.notes),
    }


def bound(text: str) -> float:
    """A number above 0."""
    value = arguments.bound(text)
    if not value:
        raise argparse.ArgumentTypeError("rounding lets no delta reach 0: give a bound of 1e-6 or more")
    return value


def _of_file(file: Path, options: argparse.Namespace, progress: Progress) -> tuple[Repair, Path | None]:
    """The repair of a saved trace, and the file if something was written into it."""
    _refuse_subject_options(options)
    with open_trace(file) as recorded:
        if recorded.run.status != "complete":
            raise TraceFileError(f"the run in {file} is not complete: only a complete run can be measured again")
        if not recorded.run.command:
            if recorded.counterfactuals:
                print(f"{file} was recorded from Python: what was measured then", file=sys.stderr)
                return stored_repair(recorded, options.bound), None
            raise InputError(
                f"{file} was recorded from Python and does not say how its model is loaded: call tracer.repair(model, "
                "inputs, baselines, target=..., trace=tracer.open_trace(FILE)) with the model at hand"
            )
        made = RunOptions.from_json(recorded.run.command)
        progress(f"Loading {recorded.run.model}", 0, 0)
        return _measured(_load(made), made, recorded, options, progress)


def _of_model(options: argparse.Namespace, progress: Progress) -> tuple[Repair, Path | None]:
    """The repair of a model's attribution, recorded first; without -o in memory."""
    if options.out is not None:
        check_out(options.out, options.force)
    made = subject_options.run_options(options)
    made.check()
    progress(f"Loading {made.model}", 0, 0)
    subject = made.load()
    from tracer.recording.subject import record_subject

    with record_subject(
        subject, made, options.out, progress, force=options.force, panel=options.out is not None,
        capture="summary" if options.out is None else "tensors",
    ) as recorded:  # fmt: skip
        return _measured(subject, made, recorded, options, progress)


def _measured(
    subject: Subject | TensorSubject,
    made: RunOptions,
    recorded: Trace,
    options: argparse.Namespace,
    progress: Progress,
) -> tuple[Repair, Path | None]:
    save = not options.no_save
    found = measured.measure(subject, made, recorded, progress, bound=options.bound, by=options.by, save=save)
    return found, recorded.path if save and found.counterfactuals else None


def _load(made: RunOptions) -> Subject | TensorSubject:
    if made.model == DEMO:
        from tracer.demo.run import demo_subject

        return demo_subject()
    return made.load()


def _refuse_subject_options(options: argparse.Namespace) -> None:
    """InputError for options that say what to attribute: the file says it."""
    given = {name: getattr(options, name) for name in ("text", "inputs", "task", "position", "target", "reference")}
    given |= {"reference-positions": options.reference_positions, "rule": options.rules, "explicit": options.explicit}
    given |= {"out": options.out}
    wrong = next((name for name, value in given.items() if value not in (None, [], ())), None)
    if wrong is not None:
        raise InputError(f"--{wrong} goes with a MODEL: {options.model} is a trace, which says what was attributed")


def _measured_data(run: Counterfactual, found: Repair) -> dict[str, Any]:
    return {
        "step": run.step,
        "change": run.change,
        "rules": list(run.rules),
        "delta": json_figure(float(run.delta.sum())),
        "relative_delta": json_figure(found.relative(run.delta)),
        "worst_example": found.worst(run.delta),
        "seconds": json_figure(run.seconds),
    }
