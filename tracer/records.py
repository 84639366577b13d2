"""The records that the recorder makes, the trace file keeps and every view shows: plain data, no torch.

Sizes: `E` is the number of examples. Flows, leaks and deltas are float64 of shape (E,), one number an example.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Progress = Callable[[str, int, int], None]
"""Is told of long work: what is being done, steps done, steps in all (0: not known)."""
NodeKind = Literal["module", "op", "unobserved", "lost"]
Direction = Literal["in", "out"]
Status = Literal["recording", "complete", "failed"]
NoteKind = Literal[
    # Where a method is not exact.
    "approximated", "cut", "decided", "differing constant", "discrete choice", "unseen",
    # How the model ran, and what captum did with it.
    "batch coupled", "coupled examples", "hook skipped", "in-place input", "integer input", "keyword call",
    "doubled batch", "multipliers returned", "no module", "no-grad call", "non-tensor output", "other module",
    "other without grad", "overwritten output", "pool settings", "reused module", "shared extras", "subclass ignored",
    "training mode",
]  # fmt: skip
FaultKind = Literal[
    "integer-input", "no-module", "non-tensor-output", "keyword-call", "no-grad-call", "reused-module",
    "in-place-target", "doubled-batch", "unseen-op", "unsupported-module", "softmax-normalised", "dropped-difference",
    "exploding-secant", "linearised-product", "linearised-norm", "stale-gradient", "lost-path", "hook-skipped",
    "subclass-ignored", "training-mode", "half-underflow", "non-finite", "pool-overlap", "batch-coupled",
    "coupled-examples", "shared-extras", "other-without-grad", "multipliers-returned", "other-module",
    "saturated-output", "discrete-choice", "decided",
]  # fmt: skip
"""The faults that `tracer.diagnose` names; of two findings that weigh the same, the earlier here stands first."""
LeftoverKind = Literal[
    "unconserving-rule", "unobserved-code", "approximated-rule", "masked-difference", "differing-constant",
]  # fmt: skip
"""What leaks and is none of these faults."""
FindingKind = FaultKind | LeftoverKind
EvidenceName = Literal[
    "blown up", "calls", "captum's delta", "change of f", "decided", "difference of f(x')",
    "difference without grad", "dropped elements", "elements",
    "elements with another gradient", "equal inputs", "example once exact", "flow", "its delta once exact",
    "largest gain", "largest secant", "modules", "non-finite multipliers", "non-finite numbers", "output",
    "output at the reference", "relative difference", "sent back",
]  # fmt: skip

DECIDED, UNDECIDED = "decided by the input", "not decided by the input"
"""What a note on a discrete choice in captum's own run says of it."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Figures of one tensor: `minimum`, `maximum` and `mean` over its finite elements, `norm` the 2-norm of them."""

    count: int
    nonfinite: int
    minimum: float
    maximum: float
    mean: float
    norm: float


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A stored tensor: its content hash, or None where only figures were kept (`elided` says so)."""

    hash: bytes | None
    dtype: str
    shape: tuple[int, ...]
    elided: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """A tensor on its way into or out of a call, as the input run and the reference run had it.

    `flow` = Σ m·Δt over everything but the example axis, float64 (E,). `name` is the argument's name ("input",
    "args.0", "kwargs.mask", "output", "output.last_hidden_state"). `shape` is the shape of one run's tensor
    (examples included, the doubled batch halved). A tensor is None where it was not captured or does not exist
    (a multiplier that never came).
    """

    direction: Direction
    slot: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    flow: Floats
    value_statistics: Statistics | None = None
    reference_statistics: Statistics | None = None
    difference_statistics: Statistics | None = None
    multiplier_statistics: Statistics | None = None
    value: TensorRef | None = None
    reference: TensorRef | None = None
    multiplier: TensorRef | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One call of a module or functional op, with its place in the tree and its row of the ledger.

    `id` is the preorder number and the order of starting; the subtree is `id … end − 1`. `(path, call)` is unique:
    `call` counts the calls of that path, from 0. An op's path is its module's path, "/", and the op's name. The model
    itself has the path "". Kind "unobserved" is what ran unseen between observed calls, "lost" is a flow that was sent
    back to a tensor and overwritten on the way (`type` says what is known about it).

    `leak` = Σ flow in − Σ flow out of the subtree, `self_leak` what its children do not explain, both (E,);
    the self leaks of all nodes sum to the convergence delta. `gain` = ‖m_in‖₂ / ‖m_out‖₂. `relative_leak` =
    |leak| / Σ|m_out·Δout|. `largest_secant` = the largest |m_in / m_out| where both have one shape, NaN elsewhere;
    `small_differences` counts elements with |Δin| < 1e-10, `dropped_differences` those of them whose Δout is not
    small; `nonfinite` counts non-finite multipliers. `rule` names the rule that made the multipliers ("autograd",
    "captum", ...).
    """

    id: int
    parent: int | None
    end: int
    depth: int
    path: str
    call: int
    kind: NodeKind
    type: str
    source: str | None
    rule: str
    leak: Floats
    self_leak: Floats
    gain: float
    relative_leak: float
    largest_secant: float
    small_differences: int
    dropped_differences: int
    nonfinite: int
    seconds: float
    children: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Ranking:
    """One way of scoring the tokens: raw `scores`, one a token in reading order, of the first example.

    `delta` is the method's own convergence delta (None where it has none, as attention), `relative_delta` =
    |delta| / |f(x) − f(x')|. `note` is a warning in words, "" if there is none.
    """

    name: str
    scores: tuple[float, ...]
    delta: float | None = None
    relative_delta: float | None = None
    note: str = ""

    @property
    def normalised(self) -> tuple[float, ...]:
        """The scores divided by their 2-norm, as in the notebook of captum issue #519."""
        norm = float(np.linalg.norm(self.scores)) or 1.0
        return tuple(score / norm for score in self.scores)


@dataclass(frozen=True, slots=True)
class HookReport:
    """What captum saw of the model: module types with a rule of captum's, and non-linearities without one.

    `hooked` and `unhooked` map a type's name to its number of calls; functional ops stand under their op's name.
    """

    version: str
    path: str
    hooked: dict[str, int] = field(default_factory=dict)
    unhooked: dict[str, int] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """ "1 of 13 non-linearities hooked": one number to see whether captum ruled anything at all."""
        seen = sum(self.hooked.values())
        return f"{seen} of {seen + sum(self.unhooked.values())} non-linearities hooked"


@dataclass(frozen=True, slots=True)
class Panel:
    """The sanity panel of the notebook of captum issue #519: is the model right, is a method to be trusted?"""

    output: tuple[float, ...] = ()
    output_reference: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    rankings: tuple[Ranking, ...] = ()
    hooks: HookReport | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the recorder noticed about a run and that no number in the ledger shows.

    `path` is a module's path or "path/op" ("" for the whole run), `call` its number where one call is meant. `detail`
    says it in words or gives the settings that matter, `amount` is a number that belongs to it (NaN: none), `source`
    the line of code.
    """

    kind: NoteKind
    path: str = ""
    call: int | None = None
    detail: str = ""
    amount: float = math.nan
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault that a trace shows: what is wrong, where, what proves it, and what to change.

    `node` is the id of the call to look at first (None: the whole run), `nodes` all calls that show the fault, worst
    first. `share` = Σ|self leak| of `nodes` / Σ|self leak| of all calls; NaN where it does not show as a leak.
    `evidence` are the numbers behind `message`, by name; `issues` numbers of captum issues. `caused_by` is the kind of
    the finding of which this one is a symptom, "" for a cause of its own. `delta_after` is the delta, summed over
    examples, measured with these calls made exact; None where that was not measured.
    """

    kind: FindingKind
    node: int | None
    path: str
    call: int
    source: str | None
    share: float
    message: str
    advice: str
    issues: tuple[int, ...] = ()
    nodes: tuple[int, ...] = ()
    evidence: tuple[tuple[EvidenceName, float], ...] = ()
    caused_by: FindingKind | Literal[""] = ""
    delta_after: float | None = None


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """The same attribution run again with other rules for some calls: measured, not estimated.

    `step` 0 is a change on its own, k ≥ 1 rung k of the repair ladder, with the changes of all rungs before it.
    `change` says in words what this run adds, `pattern` is the pattern of the calls that it makes exact, `rules` are
    all overrides of the run. `delta` is float64 (E,). `self_leak` is that of each node of the trace in this run,
    summed over examples, float64 (N,), NaN where the call did not occur; empty where only the delta was measured.
    """

    step: int
    change: str
    pattern: str
    rules: tuple[str, ...]
    delta: Floats
    self_leak: Floats
    seconds: float = math.nan


@dataclass(frozen=True, slots=True)
class Run:
    """The head of a trace: what ran on what, and what came out. Arrays are float64 (E,).

    `output` is f(x) at the target, `delta` = Σ attributions − (f(x) − f(x')), as the method itself gives it.
    `tokens` has one row an example; empty where the input is not a text. `variant` says how the model was changed ("as
    shipped", "softmax explicit", ...). `message` says why a run failed, or what in it was not exact. `command` is the
    JSON of the command-line options that make the same run again; "" where it was started from Python.
    """

    model: str
    method: str
    variant: str
    status: Status
    message: str
    started: str
    seconds: float
    capture: str
    rulebook: str
    versions: dict[str, str]
    target: str
    text: str
    reference: str
    tokens: tuple[tuple[str, ...], ...]
    reference_tokens: tuple[tuple[str, ...], ...]
    output: Floats
    output_reference: Floats
    delta: Floats
    panel: Panel
    command: str = ""

    @property
    def examples(self) -> int:
        """The number of examples, E."""
        return int(self.delta.shape[0])

    @property
    def relative_delta(self) -> float:
        """|Σ delta| / |Σ f(x) − f(x')| over the examples; infinite where only the output's change is 0."""
        with np.errstate(over="ignore", invalid="ignore"):  # the same infinity in both has no difference
            change = abs(float(np.sum(self.output - self.output_reference)))
        delta = abs(float(np.sum(self.delta)))
        return delta / change if change else (0.0 if delta == 0 else float("inf"))
