"""`tracer.repair`: run an attribution again with other rules, and find the fewest changes that make its delta vanish.

Each figure is measured in a run of the same attribution: the installed captum is emulated (`tracer.exact.doubled`),
and only some calls are made exact.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from tracer.analysis.candidates import EVERYTHING, By, Candidate, candidates, covered
from tracer.analysis.ladder import Repair, worst_relative
from tracer.analysis.verdict import HOLDS, changes
from tracer.counterfactuals.attribution import Attribution, with_added
from tracer.errors import InputError, TracerError
from tracer.model.exclusive import in_use
from tracer.model.explicit import explicit as made_explicit
from tracer.model.hooks import module_paths
from tracer.model.process import no_warnings
from tracer.model.tensors import as_tuple
from tracer.model.undo import undoing_all
from tracer.recording.options import Details
from tracer.recording.record import Method
from tracer.records import Counterfactual, Floats, Progress
from tracer.rules.rulebook import Rulebook
from tracer.tracefile.trace import Trace

_AGREES = 1e-2
"""Up to this share of itself the delta of a repeated run may differ: exploding multipliers magnify rounding."""


@undoing_all
def repair(
    model: nn.Module,
    inputs: Tensor | tuple[Tensor, ...],
    baselines: Any = None,
    *,
    target: Any = None,
    additional_forward_args: Any = None,
    baseline_forward_args: Any = None,
    explicit: Sequence[str] = (),
    method: Method = "captum",
    rules: Sequence[str] = (),
    bound: float = HOLDS,
    by: By = "family",
    trace: Trace | None = None,
    details: Details | None = None,
    limit_s: float | None = None,
    progress: Progress | None = None,
) -> Repair:
    """The repair of one attribution: what each change alone does to the delta, and the ladder of fewest changes.

    The attribution is that of `record` with the same arguments; `explicit` names functional ops to be made modules for
    the time ("softmax", "gelu"). `by` says what is made exact at a time: a "family" of ops, a "layer" (a block of a
    numbered list, or a part of the model), or a single "call" (the ten worst). The ladder ends when the relative delta
    of every example is at most `bound`; where all families together do not reach it, the last rung makes everything
    exact. A ladder that reaches the bound needs each of its rungs.

    `trace` is a trace of this very run (None: it is run once more); `details.names` the modules' paths in it. `limit_s`
    ends the measuring after that time; Ctrl-C ends it at once; either way what was measured is given back, marked
    `interrupted`. `progress` is called with (text, runs done, runs at most). The model is left as it was. Raises
    `InputError` where `trace` is of another run.
    """
    if not bound > 0:
        raise InputError(f"bound is {bound}; expected a relative delta above 0, such as {HOLDS:g}")
    Rulebook.parse(method, rules)
    details = details or Details()
    before = set(model.modules())
    with in_use(model), made_explicit(model, explicit, (*as_tuple(inputs), *as_tuple(additional_forward_args))):
        names = module_paths(model) if details.names is None else with_added(details.names, model, before)
        attribution = Attribution(
            model=model,
            call=(inputs, baselines, target, additional_forward_args),
            baseline_forward_args=baseline_forward_args,
            method=method,
            base=tuple(rules),
            details=replace(details, names=names),
        )
        own = attribution.recorded(attribution.base) if trace is None else trace
        run = own.run
        found = Repair(own, run.delta, changes(run), (), (), bound)
        if found.relative(run.delta) <= bound:
            return found
        return _Search(attribution, found, candidates(own, by, bound), trace is not None, limit_s, progress).run(by)


_Rung = tuple[Candidate, Counterfactual]


class _OutOfTime(Exception):
    """`limit_s` is over."""


class _OtherRun(InputError):
    """The given trace is of another model or of other inputs."""


class _Search:
    """Runs the candidates one by one, and then each on top of those before it."""

    def __init__(
        self,
        attribution: Attribution,
        start: Repair,
        pool: Sequence[Candidate],
        check: bool,
        limit_s: float | None,
        progress: Progress | None,
    ) -> None:
        self._attribution = attribution
        self._found = start
        self._pool = list(pool)
        self._check = check
        self._progress = progress
        self._deadline = None if limit_s is None else time.monotonic() + limit_s
        self._limit_s = limit_s
        columns = start.trace.columns
        self._places = {
            place: node for node, place in enumerate(zip(columns.paths, columns.call.tolist(), strict=True))
        }
        self._singles: list[_Rung] = []
        self._ladder: list[_Rung] = []
        self._notes: list[str] = []
        self._covered: dict[str, set[int]] = {}
        self._runs = 0
        count = len(self._pool)
        # The run itself, each change alone, the rungs' trials and recordings, and what it takes to shorten the ladder.
        self._most = 1 + count + count * (count - 1) // 2 + max(count - 1, 0) + 2 * max(count - 2, 0)

    def run(self, by: By) -> Repair:
        """The repair, as far as it comes."""
        interrupted = False
        try:
            with no_warnings.on():
                self._tell(f"What if: {self._most} runs at most", 0)
                self._confirm()
                self._measure_singles()
                self._climb()
                if by == "family" and not self._reached():
                    self._everything()
                self._cut()
                self._shorten()
            self._tell("What if: done", self._most)
        except KeyboardInterrupt:
            interrupted = True
            self._notes.append("interrupted: not every change was tried")
        except _OutOfTime:
            interrupted = True
            self._notes.append(f"stopped after {self._limit_s:g} s: not every change was tried")
        singles = sorted(
            (measured for _candidate, measured in self._singles), key=lambda one: self._found.relative(one.delta)
        )
        ladder = tuple(replace(rung, step=step) for step, (_candidate, rung) in enumerate(self._ladder, 1))
        return replace(
            self._found, singles=tuple(singles), ladder=ladder, notes=tuple(self._notes), interrupted=interrupted
        )

    def _confirm(self) -> None:
        """Compare the emulation with the run itself; a trace that was given must be of this model and inputs."""
        run = self._found.trace.run
        if not self._pool or not (self._check or (self._attribution.method == "captum" and not self._attribution.base)):
            return
        self._begin("the run itself")
        with self._skipping("the run itself"):
            again = self._attribution.emulated().run
            change = np.abs(self._found.change)
            values = (run.output, again.output), (run.output_reference, again.output_reference)
            tolerance = 1e-3 * change + 1e-6 * np.abs(run.output)
            if self._check and not all(_close(a, b, tolerance) for a, b in values):
                raise _OtherRun(
                    f"the trace is of another run: it has f(x) = {run.output.tolist()}, f(x') = "
                    f"{run.output_reference.tolist()}, this model and these inputs give {again.output.tolist()} and "
                    f"{again.output_reference.tolist()}"
                )
            allowed = _AGREES * np.abs(run.delta) + self._found.bound * change
            if not _close(run.delta, again.delta, allowed):
                self._notes.append(
                    f"the rules emulated give a delta of {again.delta.tolist()}, the run itself gave "
                    f"{run.delta.tolist()}: the figures are those of the emulation"
                )

    def _measure_singles(self) -> None:
        for candidate in list(self._pool):
            self._begin(candidate.change)
            with self._skipping(candidate.change):
                self._singles.append((candidate, self._recorded([candidate])))
                continue
            self._pool.remove(candidate)

    def _climb(self) -> None:
        """Add rungs, each time the best change of those left, until the bound holds."""
        if self._singles:
            self._ladder.append(min(self._singles, key=lambda single: self._relative(single[1].delta)))
        while self._ladder and not self._reached() and len(self._ladder) < len(self._pool):
            below = [candidate for candidate, _rung in self._ladder]
            best: tuple[float, Candidate] | None = None
            for candidate in self._left():
                self._begin(f"{candidate.change}, too")
                with self._skipping(f"{candidate.change} on top"):
                    relative = self._relative(self._attribution.delta(self._overrides([*below, candidate])))
                    if best is None or relative < best[0]:
                        best = relative, candidate
            if best is None:
                return
            rung = self._rung(self._ladder, best[1])
            if rung is None:
                self._pool.remove(best[1])
            else:
                self._ladder.append(rung)

    def _everything(self) -> None:
        rung = self._rung(self._ladder, EVERYTHING)
        if rung is not None:
            self._ladder.append(rung)

    def _cut(self) -> None:
        """Of a ladder that does not reach the bound, drop the last rungs that made the delta larger again."""
        if self._ladder and not self._reached():
            relative = [self._relative(rung.delta) for _candidate, rung in self._ladder]
            self._ladder = self._ladder[: relative.index(min(relative)) + 1]

    def _shorten(self) -> None:
        """Take out rungs that the bound does not need: what was best when it was chosen may be needless later."""
        before = [candidate for candidate, _rung in self._ladder]
        chosen = list(before)
        if not self._reached() or EVERYTHING in before or len(before) < 3:  # of two, neither holds alone
            return
        for candidate in before[:-1]:
            others = [other for other in chosen if other is not candidate]
            self._begin(f"without {candidate.change}")
            with self._skipping(f"without {candidate.change}"):
                if self._relative(self._attribution.delta(self._overrides(others))) <= self._found.bound:
                    chosen = others
        same = next((i for i, (a, b) in enumerate(zip(before, chosen, strict=False)) if a is not b), len(chosen))
        ladder = self._ladder[:same]
        for candidate in chosen[same:]:
            rung = self._rung(ladder, candidate)
            if rung is None:
                return
            ladder.append(rung)
        self._ladder = ladder

    def _rung(self, below: Sequence[_Rung], candidate: Candidate) -> _Rung | None:
        """The candidate on top of what is below it, recorded; None where that fails."""
        self._begin(f"rung {len(below) + 1}, {candidate.change}")
        with self._skipping(candidate.change):
            return candidate, self._recorded([*(other for other, _measured in below), candidate])
        return None

    def _recorded(self, changes: Sequence[Candidate]) -> Counterfactual:
        """The run with these changes, named after the last."""
        rules = self._overrides(changes)
        clock = time.perf_counter()
        trace = self._attribution.recorded(rules)
        self_leak = np.full(len(self._places), np.nan)
        columns = trace.columns
        for path, call, leak in zip(columns.paths, columns.call.tolist(), columns.self_leak.tolist(), strict=True):
            node = self._places.get((path, call))
            if node is not None:
                self_leak[node] = leak
        trace.close()
        return Counterfactual(
            step=0,
            change=changes[-1].change,
            pattern=changes[-1].pattern,
            rules=rules,
            delta=trace.run.delta,
            self_leak=self_leak,
            seconds=time.perf_counter() - clock,
        )

    def _overrides(self, changes: Sequence[Candidate]) -> tuple[str, ...]:
        """The run's own overrides and those of the changes, in order, without those that later ones cover entirely.

        A rulebook refuses an override that holds for no call.
        """
        rules = [*self._attribution.base, *(rule for candidate in changes for rule in candidate.rules)]
        kept: list[str] = []
        held: set[int] = set()
        for rule in reversed(rules):
            calls = self._calls_of(rule)
            if not kept or not calls <= held or not calls:
                kept.append(rule)
                held |= calls
        return tuple(reversed(kept if EVERYTHING not in changes else kept[:1]))

    def _calls_of(self, rule: str) -> set[int]:
        if rule not in self._covered:
            self._covered[rule] = set(covered(self._found.trace, [rule]))
        return self._covered[rule]

    def _left(self) -> list[Candidate]:
        taken = [candidate for candidate, _rung in self._ladder]
        return [candidate for candidate in self._pool if candidate not in taken]

    def _reached(self) -> bool:
        return bool(self._ladder) and self._relative(self._ladder[-1][1].delta) <= self._found.bound

    def _relative(self, delta: Floats) -> float:
        return worst_relative(delta, self._found.change)

    def _begin(self, what: str) -> None:
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise _OutOfTime
        self._runs += 1
        self._most = max(self._most, self._runs)
        self._tell(f"What if: {what}", self._runs - 1)

    def _tell(self, text: str, done: int) -> None:
        if self._progress is not None:
            self._progress(text, done, self._most)

    @contextmanager
    def _skipping(self, what: str) -> Iterator[None]:
        """Note a run that fails, and go on with the others."""
        try:
            yield
        except _OtherRun:
            raise
        except TracerError as error:
            self._notes.append(f"{what} was not measured: {error}")
        except Exception as error:  # a model can fail in any way
            self._notes.append(f"{what} was not measured: {type(error).__name__}: {error}")


def _close(a: Floats, b: Floats, allowed: Floats) -> bool:
    """Whether two arrays (E,) differ by no more than `allowed`; NaN equals NaN, and infinity itself."""
    same = (a == b) | (np.isnan(a) & np.isnan(b)) if a.shape == b.shape else np.zeros(1, bool)
    return a.shape == b.shape and bool(np.all(same | (np.abs(a - b) <= allowed)))
