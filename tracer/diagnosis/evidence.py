"""What a trace shows about each call, as columns: what every fault's function looks at."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tracer import ops
from tracer.analysis.verdict import changes
from tracer.diagnosis.taken_for_linear import linearised_fault
from tracer.errors import InputError, TraceFileError
from tracer.records import Bools, Direction, Edge, EvidenceName, Finding, FindingKind, Floats, Node, Note, NoteKind
from tracer.rules.rulebook import Rulebook, fits, recorded_names
from tracer.tracefile.columns import Columns, Ints
from tracer.tracefile.trace import TensorName, Trace

# Linear calls may be computed in less precision than their tensors have: convolutions on a GPU, in TF32.
_LINEAR_PRECISION = 2e-3
# Leaks cancel where the delta is under the first share of f(x) − f(x') and under the second share of the leaks.
_HOLDS, _CANCELS = 1e-5, 1e-3
# A finding is left out under the first share of f(x) − f(x'), and under the second if it has little of the leaks too.
_NOTHING, _LITTLE, _LITTLE_SHARE = 1e-5, 1e-3, 1e-2

_CONDITIONS: tuple[NoteKind, ...] = ("hook skipped", "subclass ignored", "training mode")


@dataclass(frozen=True)
class Evidence:
    """The figures of all N calls of a trace, of one example or over all of them, arrays of shape (N,).

    `leaks_by_example` (N, E) are the self leaks of the examples shown, signed, `self_leak` is their sum and `size` that
    of their sizes. `rounding` is what precision can cost a call: eps·Σ‖m‖·(‖x‖ + ‖x'‖) over its edges, each in its own
    dtype and without masked elements, in half precision the root of a sum of squares (`gathering`); a leak of up to
    `allowed` is not a fault. `traffic` = Σ ‖m‖·‖Δ‖ at the outputs, an upper bound of Σ |m·Δ|. `operands` counts the
    varying tensors that a call takes, one taken twice as two, and `elements` what is in them. `handed_to` says which
    call takes the very tensor of another, and `unread` whose multipliers no call reads (see `handed_on`): their leaks
    count for the call that read too early. `change` = Σ |f(x) − f(x')|, `total` = Σ size.
    """

    trace: Trace
    example: int | None
    columns: Columns
    leaks_by_example: Floats
    self_leak: Floats
    size: Floats
    rounding: Floats
    traffic: Floats
    operands: Ints
    elements: Floats
    rules: list[str]
    largest_secant: Floats
    small: Ints
    dropped: Ints
    allowed: Floats
    handed_to: dict[int, int]
    unread: frozenset[int]
    change: float
    total: float

    @cached_property
    def leaking(self) -> Bools:
        """(N,) whether a call's self leak is more than rounding; False for all in a run that is not complete.

        The model's own row holds what no other call explains, so it is allowed the rounding of all calls.
        """
        if self.trace.run.status != "complete":
            return np.zeros(len(self.size), dtype=np.bool_)
        size = np.where(np.isfinite(self.size), self.size, 0.0)
        found: Bools = size > self.allowed
        # A fault leaves a delta: leaks that cancel are flows that the ledger gave to the wrong call.
        run = self.trace.run
        change, delta = (float(np.abs(v).sum()) for v in (changes(run), run.delta))
        if delta <= min(_HOLDS * change, _CANCELS * float(size[found].sum())):
            found[:] = False
        return found

    @cached_property
    def leaks(self) -> list[int]:
        """The leaking calls in execution order."""
        found: list[int] = np.flatnonzero(self.leaking).tolist()
        return found

    @cached_property
    def module_paths(self) -> list[str]:
        """(N,) the path of the module that a call is; for an op, that of the module or function around it."""
        kinds, paths = self.columns.kinds, self.columns.paths
        return [p if k == "module" else p.rpartition("/")[0] for k, p in zip(kinds, paths, strict=True)]

    @cached_property
    def module_types(self) -> list[str]:
        """(N,) the type of the innermost module: the call's own, or the one that an op stands in."""
        found: list[str] = []
        columns = self.columns
        for kind, name, above in zip(columns.kinds, columns.types, columns.parent.tolist(), strict=True):
            found.append(name if kind == "module" else found[above] if above >= 0 else "")
        return found

    @cached_property
    def noted(self) -> dict[NoteKind, list[Note]]:
        """The run's notes by their kind."""
        found: dict[NoteKind, list[Note]] = defaultdict(list)
        for note in self.trace.notes:
            found[note.kind].append(note)
        return found

    @cached_property
    def accounted(self) -> dict[int, Note]:
        """The calls whose leaks come from how the run was made, which has findings of its own: id → note."""
        return self.at(note for kind in _CONDITIONS for note in self.noted.get(kind, ()))

    def at(self, notes: Iterable[Note]) -> dict[int, Note]:
        """The calls that the notes are about, and the ops inside such a module: id → note."""
        wanted: dict[str, list[Note]] = defaultdict(list)
        for note in notes:
            wanted[note.path].append(note)
        if not wanted:
            return {}
        found: dict[int, Note] = {}
        calls, paths = self.columns.call.tolist(), self.columns.paths
        for index, (path, module) in enumerate(zip(paths, self.module_paths, strict=True)):
            if path in wanted:
                fitting = [note for note in wanted[path] if note.call in (None, calls[index])]
            else:
                fitting = wanted[module] if module and module in wanted else []
            if fitting:
                found[index] = fitting[0]
        return found

    def suspects(self, rules: Iterable[str] = ("autograd", "gradient")) -> Iterator[int]:
        """The leaking calls whose multipliers one of `rules` made, in execution order."""
        wanted = frozenset(rules)
        return (index for index in self.leaks if self.rules[index] in wanted)

    @cached_property
    def _rulebook(self) -> Rulebook:
        run = self.trace.run
        default, *overrides = run.rulebook.split() or [run.method]
        try:
            return Rulebook.parse(default, overrides)
        except InputError:  # an untrusted file may say anything
            return Rulebook("gradient")

    def names(self, node: int) -> tuple[str, ...]:
        """The names of a call that a rulebook's patterns are matched with."""
        columns = self.columns
        return recorded_names(columns.kinds[node], columns.types[node], columns.paths[node], self.module_types[node])

    def ruled_exactly(self, node: int) -> bool:
        """Whether the run's rules ask for an exact rule for a call."""
        names = self.names(node)
        fitting = [each.rule for each in self._rulebook.overrides if fits((each.pattern,), names)]
        return (fitting[-1] if fitting else self._rulebook.default) == "exact"

    def by_type(self, nodes: Iterable[int]) -> dict[str, list[int]]:
        """The calls by their type."""
        found: dict[str, list[int]] = defaultdict(list)
        for node in nodes:
            found[self.columns.types[node]].append(node)
        return found

    def in_sum(self, node: int) -> bool:
        """Whether a call's leak, summed over all examples, is still one.

        If not, the rows of its tensors are not examples (routed tokens, gathered rows), and its flows were given to the
        wrong ones.
        """
        return bool(abs(self.columns.self_leak[node]) > self.allowed[node])

    def share(self, nodes: Sequence[int]) -> float:
        """Σ |self leak| of these calls / Σ |self leak| of all; NaN where nothing leaks."""
        return float(self.size[list(nodes)].sum()) / self.total if 0 < self.total < math.inf else math.nan

    def matters(self, nodes: Sequence[int]) -> bool:
        """Whether these calls leak enough to be a finding, against f(x) − f(x') and against all leaks."""
        size = float(self.size[list(nodes)].sum())
        little = size < _LITTLE * self.change and not self.share(nodes) >= _LITTLE_SHARE
        return size > 0 and not (size < _NOTHING * self.change or little)

    def precise(self, node: int) -> bool:
        """Whether a linear call leaks more than a lower precision inside it would."""
        return bool(self.size[node] > _LINEAR_PRECISION * self.traffic[node])

    def is_call(self, node: object) -> bool:
        """Whether a query's `node` is one of the N calls: an edge in an untrusted file may be of none."""
        return isinstance(node, int) and 0 <= node < len(self.size)

    def node(self, index: int) -> Node:
        """The record of one call."""
        return self.trace.nodes[index]

    def worst_first(self, nodes: Iterable[int]) -> tuple[int, ...]:
        """The calls by falling |self leak|, the earlier one first where two are equal."""
        ids = np.array(sorted(nodes), dtype=np.int64)
        ordered: list[int] = ids[np.argsort(-self.size[ids], kind="stable")].tolist()
        return tuple(ordered)

    def sent_back(self, node: int) -> float:
        """Σ flow in / Σ flow out of a call: 1 for a rule that conserves; NaN where nothing arrives."""
        flows = {"in": 0.0, "out": 0.0}
        for edge in self.trace.edges(node):
            flows[edge.direction] += float(edge.flow.sum() if self.example is None else edge.flow[self.example])
        return flows["in"] / flows["out"] if flows["out"] else math.nan

    @cached_property
    def linearised(self) -> dict[str, list[int]]:
        """The leaking calls that sent back the plain gradient, by fault."""
        columns, run = self.columns, self.trace.run
        observed = run.method == "captum" and not run.rulebook
        several = (self.operands > 1).tolist()
        found: dict[str, list[int]] = defaultdict(list)
        for node in self.suspects():
            kind, name = columns.kinds[node], columns.types[node]
            if kind not in ("module", "op") or columns.end[node] > node + 1:
                continue
            if ops.kind(name) == "quotient" and not several[node]:
                varying = [edge.name for edge in self.edges(node, "in")]
                fault = "" if ops.is_linear(name, varying) else "unseen-op"
            else:
                fault = linearised_fault(kind, name, self.module_types[node], several[node], observed)
            if fault:
                found[fault].append(node)
        return found

    def shown(self, values: Floats) -> Floats:
        """The examples shown of all (E, ...)."""
        return values if self.example is None else values[self.example : self.example + 1]

    def edges(self, node: int, direction: Direction) -> list[Edge]:
        """The tensors that a call takes ("in"), or those that it gives ("out"), by slot."""
        return [edge for edge in self.trace.edges(node) if edge.direction == direction]

    def argument(self, node: int) -> Edge | None:
        """The tensor that a call takes; None where it takes none or several."""
        taken = self.edges(node, "in")
        return taken[0] if len(taken) == 1 else None

    def both_sides(self, node: int) -> tuple[Floats, ...] | None:
        """x, x', m_in, y, y' and m_out of an elementwise call, float64 of one shape, of the examples shown.

        None where one of them was not recorded, they differ in shape, or are complex.
        """
        names: tuple[TensorName, ...] = (
            "input", "reference", "multiplier_in", "output", "output_reference", "multiplier_out",
        )  # fmt: skip
        try:
            tensors = [self.trace.tensor(node, name) for name in names]
        except TraceFileError:
            return None
        shape = tensors[0].shape
        if any(tensor.shape != shape or np.iscomplexobj(tensor) for tensor in tensors):
            return None
        if shape and shape[0] == self.trace.run.examples:
            tensors = [self.shown(tensor) for tensor in tensors]
        return tuple(tensor.astype(np.float64) for tensor in tensors)

    def finding(
        self,
        kind: FindingKind,
        nodes: Iterable[int],
        message: str,
        advice: str,
        *,
        issues: tuple[int, ...] = (),
        evidence: Iterable[tuple[EvidenceName, float]] = (),
        leaks: bool = True,
    ) -> Finding:
        """A finding on these calls, the worst at its head; `leaks` False where leaks do not show the fault."""
        ranked = self.worst_first(nodes)
        first = self.node(ranked[0]) if ranked else None
        return Finding(
            kind=kind,
            node=first.id if first else None,
            path=first.path if first else "",
            call=first.call if first else 0,
            source=first.source if first else None,
            share=self.share(ranked) if ranked and leaks else math.nan,
            message=message,
            advice=advice,
            issues=issues,
            nodes=ranked,
            evidence=tuple(evidence),
        )
