"""The faults, by name: each is drawn for a random call of a subject, with what `diagnose` ought to say of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial

from torch import nn

from tests.injection import tampering
from tests.injection.subject import CHAINED, SOFTMAX, Ruled, Subject
from tracer.tracefile.trace import Trace

_GELU = ("gelu", "GELU")


@dataclass(frozen=True, slots=True)
class Injection:
    """One fault: what is done to which call, and what `diagnose` ought to say of it.

    `kinds` are the right names. With `lost` the guilty row is the lost path of a tensor that the call takes, and not
    the call's own. `around` makes the circumstances of the run.
    """

    subject: Subject
    path: str
    call: int
    done: str
    kinds: frozenset[str]
    rules: tuple[str, ...] = ()
    lost: bool = False
    around: Callable[[], AbstractContextManager[object]] = field(default=nullcontext)

    def run(self, capture: str = "summary") -> Trace:
        """The trace of a run with the fault."""
        with self.around():
            return self.subject.record(self.rules, capture)


Draw = Callable[[Subject, random.Random], Injection | None]


def _scaled(subject: Subject, rng: random.Random) -> Injection | None:
    factor = rng.choice((rng.uniform(0.5, 0.9), rng.uniform(1.1, 2.0)))
    return _rewritten(subject, rng, f"scaled by {factor:.2f}", tampering.scaled(factor))


def _dropped(subject: Subject, rng: random.Random) -> Injection | None:
    return _rewritten(subject, rng, "dropped", tampering.dropped)


def _noisy(subject: Subject, rng: random.Random) -> Injection | None:
    return _rewritten(subject, rng, "noise of 1e-2", tampering.noisy(1e-2, rng.randrange(2**31)))


def _rewritten(subject: Subject, rng: random.Random, done: str, rewrite: tampering.Rewrite) -> Injection | None:
    call = _pick(rng, subject.calls)
    around = partial(tampering.rewritten, call.number, rewrite)
    return Injection(subject, call.path, call.call, done, frozenset({"unconserving-rule"}), around=around)


def _gradient(subject: Subject, rng: random.Random) -> Injection | None:
    call = _pick(rng, subject.calls)
    around = partial(tampering.linearised, call.number)
    return Injection(subject, call.path, call.call, f"gradient for {call.type}", _only(call.linearised), around=around)


def _captums(wanted: Callable[[Ruled], bool], subject: Subject, rng: random.Random) -> Injection | None:
    """captum's rule for one call among exact ones, in a doubled batch: the gradient where its table lacks the type."""
    calls = [call for call in subject.calls if wanted(call)]
    if not calls:
        return None
    call = rng.choice(calls)
    return Injection(
        subject, call.path, call.call, f"captum's {call.type}", _only(call.linearised), (f"{call.path}=captum",),
        around=partial(tampering.alone, call.number),
    )  # fmt: skip


def _captums_softmax(subject: Subject, rng: random.Random) -> Injection | None:
    """captum's rule for an explicit softmax, or for one that it does not see.

    The explicit one has up to three faults at once, of which any may be the largest.
    """
    if not subject.softmaxes or rng.random() < 0.3:
        return _captums(lambda call: call.type in SOFTMAX, subject, rng)
    path = rng.choice(list(subject.softmaxes))
    kinds = ["softmax-normalised", "exploding-secant", *(["dropped-difference"] if subject.softmaxes[path] else [])]
    return Injection(
        subject, path, 0, "captum's nn.Softmax", frozenset(kinds), (f"{path}=captum",), around=subject.softmax_explicit
    )


def _stale(subject: Subject, rng: random.Random) -> Injection | None:
    """Two modules under captum's rule in a row in place of an activation: the first reads its gradient too early."""
    if not subject.activations:
        return None
    path = rng.choice(subject.activations)
    kinds = rng.sample(CHAINED, 2)
    done = f"{kinds[0].__name__} straight into {kinds[1].__name__}"
    chain = nn.Sequential(*(kind() for kind in kinds))
    rules = tuple(f"{path}.{place}=captum" for place in range(2))
    around = partial(_in_place_of, subject.model, path, chain)
    return Injection(subject, f"{path}.0", 0, done, _only("stale-gradient"), rules, around=around)


def _lost(subject: Subject, rng: random.Random) -> Injection | None:
    """What one call sends back to a tensor overwrites what the others send back to it."""
    places = [(call, place) for call in subject.calls for place, shared in enumerate(call.shared) if shared]
    if subject.linears and (not places or rng.random() < 0.5):
        path = rng.choice(subject.linears)
        around: Callable[[], AbstractContextManager[object]]
        around = partial(tampering.path_lost_to, subject.model.get_submodule(path))
        done, number = "input of a Linear overwritten", 0
    elif places:
        call, operand = rng.choice(places)
        around = partial(tampering.path_lost, call.number, operand)
        path, number, done = call.path, call.call, f"operand {operand} of {call.type} overwritten"
    else:
        return None
    return Injection(subject, path, number, done, _only("lost-path"), lost=True, around=around)


FAULTS: dict[str, Draw] = {
    "scaled by 0.5–0.9 or 1.1–2": _scaled,
    "dropped": _dropped,
    "noise of 1e-2": _noisy,
    "the gradient": _gradient,
    "captum's GELU": partial(_captums, lambda call: call.type in _GELU),
    "captum's softmax": _captums_softmax,
    "captum's LayerNorm": partial(_captums, lambda call: "norm" in call.type.lower()),
    "captum's product": partial(_captums, lambda call: call.linearised == "linearised-product"),
    "stale gradient": _stale,
    "lost path": _lost,
}


def _pick(rng: random.Random, calls: Sequence[Ruled]) -> Ruled:
    """A call of a random type, or else there would be products above all."""
    kind = rng.choice(sorted({call.type for call in calls}))
    return rng.choice([call for call in calls if call.type == kind])


def _only(kind: str) -> frozenset[str]:
    return frozenset({kind})


@contextmanager
def _in_place_of(model: nn.Module, path: str, other: nn.Module) -> Iterator[None]:
    parent_path, _, name = path.rpartition(".")
    parent = model.get_submodule(parent_path)
    before = parent._modules[name]
    parent._modules[name] = other.eval()
    try:
        yield
    finally:
        parent._modules[name] = before
