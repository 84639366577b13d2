"""Fault injection: `python -m tests.benchmarks.injection [--injections 500] [--clean 100] [--seed 0]`.

Runs by exact rules in which one random call is tampered with, on small random models of many architectures, and what
`diagnose` names first: the guilty call, and the kind that its documentation gives to what was done. Counted are faults
that change the delta by at least 0.1 % of Σ |f(x) − f(x')|, in bfloat16 30 %; what changes it less is not a fault, and
drawn again. Every eighth trace holds tensors, the others figures only. Clean runs by exact rules must show nothing but
`decided`, which says what the input decides and is not a fault.

Prints two tables in Markdown and the misses; exit code 1 where a bound does not hold.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import torch

import tracer
from tests.architectures import ARCHITECTURES
from tests.benchmarks.results import add_option, printed
from tests.injection.faults import FAULTS
from tests.injection.judging import LEAST, LEAST_IN_HALF, Verdict, injected
from tests.injection.subject import Subject, explored, subject

RIGHT_CALL, RIGHT_KIND = 0.99, 0.95
INJECTED = (
    "BERT", "RoBERTa", "DistilBERT", "ELECTRA", "ModernBERT", "DeBERTa-v2", "GPT-2", "GPT-NeoX", "Llama", "Qwen3",
    "Gemma 2", "Phi", "T5", "BART", "ViT", "BEiT", "Swin", "ConvNeXT", "ResNet", "Wav2Vec2", "Mixtral", "Qwen3-MoE",
)  # fmt: skip
_IN_HALF = ("BERT", "ELECTRA", "GPT-2", "Llama", "Qwen3", "ViT")  # in bfloat16 too
_CLEAN = list(ARCHITECTURES)


def subjects() -> list[Subject]:
    """Fused and unfused attention in turn where the architecture has both; every fourth model in float64."""
    drawn = [(name, torch.float64 if place % 4 == 3 else torch.float32) for place, name in enumerate(INJECTED)]
    drawn += [(name, torch.bfloat16) for name in _IN_HALF]
    found = []
    for place, (name, dtype) in enumerate(drawn):
        attention = ARCHITECTURES[name].attention
        found.append(explored(subject(name, attention[place % len(attention)], dtype)))
        _progress("models", place + 1, len(drawn))
    return found


def verdicts(count: int, seed: int, chosen: Sequence[Subject]) -> tuple[list[Verdict], int]:
    """The verdicts on `count` injections, the faults in turn, and how many draws had no effect."""
    rng = random.Random(seed)
    found, without = [], 0
    names = list(FAULTS)
    for number in range(count):
        capture = "tensors" if number % 8 == 7 else "summary"
        verdict, idle = injected(names[number % len(names)], chosen, rng, capture)
        found.append(verdict)
        without += idle
        _progress("injections", number + 1, count)
    return found, without


def clean(count: int, seed: int) -> tuple[int, list[str]]:
    """How many architectures were run cleanly, and what was found on which of the `count` traces."""
    found = []
    for number in range(count):
        name = _CLEAN[number % len(_CLEAN)]
        turn = number // len(_CLEAN)
        attention = ARCHITECTURES[name].attention
        dtype = (torch.float32, torch.float64, torch.bfloat16)[turn % 3]
        one = subject(name, attention[turn % len(attention)], dtype, seed=seed + 2 + number)
        findings = [finding for finding in tracer.diagnose(one.record()) if finding.kind != "decided"]
        said = ", ".join(f"{finding.kind} at {finding.path}" for finding in findings)
        if said:
            found.append(f"{one.name}, seed {seed + 2 + number}: {said}")
        _progress("clean traces", number + 1, count)
    return min(count, len(_CLEAN)), found


def table(title: str, found: Sequence[Verdict], key: Callable[[Verdict], str]) -> Iterator[str]:
    """A row for each value of `key`, and one for all."""
    yield f"| {title} | injected | right call first | right kind first |"
    yield "|---|---|---|---|"
    for name in dict.fromkeys(map(key, found)):
        yield _row(name, [verdict for verdict in found if key(verdict) == name])
    yield _row("all", found)


def _row(name: str, found: Sequence[Verdict]) -> str:
    call, kind = (sum(flags) for flags in zip(*((v.right_call, v.right_kind) for v in found), strict=True))
    return f"| {name} | {len(found)} | {_part(call, len(found))} | {_part(kind, len(found))} |"


def _part(right: int, count: int) -> str:
    return f"{right} ({100 * right / count:.1f} %)"


def _architecture(verdict: Verdict) -> str:
    return verdict.injection.subject.name


def _progress(what: str, done: int, count: int) -> None:
    if done == count or done % 25 == 0:
        print(f"{what}: {done}/{count}", file=sys.stderr, flush=True)


def report(found: Sequence[Verdict], without: int, clean_traces: int, stained: Sequence[str]) -> Iterator[str]:
    """The lines of the two tables, of what was counted beside them, and of the misses."""
    yield from table("fault", found, lambda verdict: verdict.fault)
    yield ""
    yield from table("model", sorted(found, key=_architecture), _architecture)
    kinds = Counter(verdict.first for verdict in found if verdict.right_kind)
    shares = sorted(verdict.share for verdict in found)
    yield (
        f"\n{without} more draws changed the delta by less than {LEAST:.1%} ({LEAST_IN_HALF:.0%} in bfloat16) of "
        "Σ |f(x) − f(x')| and do not count; "
        f"those that do change it by {shares[0]:.2%} to {shares[-1]:.3g} times, half by {shares[len(shares) // 2]:.0%} "
        "or more."
    )
    yield "Named rightly: " + ", ".join(f"{kind} {count}" for kind, count in kinds.most_common()) + "."
    yield f"Clean: {clean_traces - len(stained)} of {clean_traces} traces show no fault."
    misses = [verdict for verdict in found if not (verdict.right_call and verdict.right_kind)]
    yield f"\nMisses: {len(misses) or 'none'}"
    for verdict in misses:
        what = verdict.injection
        yield (
            f"- {what.subject.name}: {verdict.fault}, {what.done}, at {what.path} #{what.call} "
            f"({verdict.share:.2%} of f(x) − f(x')); said {verdict.said}"
        )
    yield from (f"- clean {each}" for each in stained)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--injections", type=int, default=500)
    parser.add_argument("--clean", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    add_option(parser)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    started = time.perf_counter()
    found, without = verdicts(asked.injections, asked.seed, subjects())
    architectures, stained = clean(asked.clean, asked.seed)
    with printed(__file__, asked.write) as line:
        for each in report(found, without, asked.clean, stained):
            line(each)
        line(f"\nClean traces of {architectures} architectures; {time.perf_counter() - started:.0f} s.")
    calls, right_kinds = (
        sum(flags) / len(found) for flags in zip(*((v.right_call, v.right_kind) for v in found), strict=True)
    )
    return 0 if calls >= RIGHT_CALL and right_kinds >= RIGHT_KIND and not stained else 1


if __name__ == "__main__":
    sys.exit(main())
