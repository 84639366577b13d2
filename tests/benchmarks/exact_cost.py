"""What an exact attribution costs: `python -m tests.benchmarks.exact_cost [--rounds N] [--threads N]`.

BERT-base shapes with random weights, 128 tokens, one example, float32, at the embedding output. Against two others on
the same model, in turn in one run: a plain forward and backward of the doubled batch (input and reference; the gradient
of both selected outputs in the doubled input), and captum's Integrated Gradients with 50 steps, one or ten at once,
whichever is faster here. No parameter requires a gradient, which spares the other two work; exact rules see to that
themselves. Prints ratios of medians, with those of the fastest calls beside them: other work on a machine slows some.
Memory is the growth of the peak resident set in the first call, in a process of its own for each.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence

import torch
from captum.attr import IntegratedGradients
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

from tests.benchmarks.results import add_option, printed
from tests.process_memory import peak_memory
from tracer.exact.deeplift import DeepLift
from tracer.subject.classifier import EmbeddingClassifier

TOKENS, TARGET, STEPS = 128, 1, 50
EXACT, DOUBLED, INTEGRATED = "exact", "doubled batch", f"IG-{STEPS}"
TIME_BUDGET, SPEED_BUDGET, MEMORY_BUDGET = 1.3, 10.0, 1.3
STEPS_AT_ONCE = (1, 10)

Work = Callable[[], object]


def jobs(attention: str = "sdpa") -> dict[str, Work]:
    """What is compared, by name; `attention` is transformers' name of the implementation."""
    torch.manual_seed(0)
    config = BertConfig()
    config._attn_implementation = attention
    inner = BertForSequenceClassification(config)
    inner.train(False)
    model = EmbeddingClassifier(inner.requires_grad_(False), ("attention_mask",), True)
    mask = torch.ones(1, TOKENS, dtype=torch.long)
    x = torch.randn(1, TOKENS, config.hidden_size)
    reference = torch.zeros_like(x)
    doubled_mask = torch.cat([mask, mask])

    def doubled() -> Tensor:
        both = torch.cat([x, reference]).requires_grad_()
        return torch.autograd.grad(model(both, doubled_mask)[:, TARGET].sum(), both)[0]

    def exact() -> Tensor:
        found: Tensor = DeepLift(model).attribute(x, reference, TARGET, (mask,))
        return found

    def integrated(at_once: int) -> Work:
        return lambda: IntegratedGradients(model).attribute(
            x, reference, TARGET, (mask,), n_steps=STEPS, internal_batch_size=at_once
        )

    return {DOUBLED: doubled, EXACT: exact, **{f"{INTEGRATED} by {n}": integrated(n) for n in STEPS_AT_ONCE}}


def seconds(work: Work) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def timed(works: dict[str, Work], rounds: int, times_a_round: dict[str, int] | None = None) -> dict[str, list[float]]:
    """Seconds of every call of every work, each taking its turn in every round, once or `times_a_round`."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name] += [seconds(work) for _ in range((times_a_round or {}).get(name, 1))]
    return times


def ratios(over: Sequence[float], under: Sequence[float]) -> tuple[float, float]:
    """(ratio of the medians, ratio of the fastest)."""
    return statistics.median(over) / statistics.median(under), min(over) / min(under)


def growth(name: str, attention: str, threads: int) -> float:
    """MiB that the peak resident set grows by in the first call of a work, in a new process."""
    settings = ["--memory", name, "--attention", attention, "--threads", str(threads)]
    command = [sys.executable, "-m", __spec__.name, *settings]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def shown(found: dict[str, list[float]], unit: str, factor: float = 1.0) -> str:
    """The median of each."""
    return ", ".join(f"{name} {statistics.median(values) * factor:.0f} {unit}" for name, values in found.items())


def verdict(what: str, found: tuple[float, float], budget: float, at_most: bool = True) -> str:
    """A row with both ratios, the budget, and whether the ratio of the medians keeps it."""
    kept = found[0] <= budget if at_most else found[0] >= budget
    sign, outcome = "≤" if at_most else "≥", "kept" if kept else "missed"
    return f"| {what} | {found[0]:.2f} × | {found[1]:.2f} × | {sign} {budget:g} ×, {outcome} |"


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--ig-rounds", type=int, default=3)
    parser.add_argument("--memory-rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa")
    parser.add_argument("--memory", metavar="WORK", help=argparse.SUPPRESS)
    add_option(parser)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    if options.memory:
        work = jobs(options.attention)[options.memory]
        before = peak_memory()
        work()
        print((peak_memory() - before) / 2**20)
        return

    with printed(__file__, options.write) as line:
        compare(options, line)


def compare(options: argparse.Namespace, line: Callable[[str], None]) -> None:
    """Measure memory and time and give `line` a table of the ratios, and what was measured below it."""
    setting = f"{TOKENS} tokens, {options.attention} attention, float32, {options.threads} threads"
    line(f"BERT-base shapes, {setting}\n")
    line("| ratio | of the medians | of the least | budget |\n|---|---|---|---|")
    grown: dict[str, list[float]] = {DOUBLED: [], EXACT: []}
    for _ in range(options.memory_rounds):
        for name, values in grown.items():
            values.append(growth(name, options.attention, options.threads))
    line(verdict(f"peak memory, {EXACT} / {DOUBLED}", ratios(grown[EXACT], grown[DOUBLED]), MEMORY_BUDGET))

    works = jobs(options.attention)
    compared = {name: works[name] for name in (DOUBLED, EXACT)}
    timed(compared, 2)  # not counted: the first calls are slow
    times = timed(compared, options.rounds)
    line(verdict(f"time, {EXACT} / {DOUBLED}", ratios(times[EXACT], times[DOUBLED]), TIME_BUDGET))

    compared = {name: work for name, work in works.items() if name != DOUBLED}
    with_ig = timed(compared, options.ig_rounds, {EXACT: 9})
    best = min((name for name in with_ig if name != EXACT), key=lambda name: statistics.median(with_ig[name]))
    line(verdict(f"time, {best} / {EXACT}", ratios(with_ig[best], with_ig[EXACT]), SPEED_BUDGET, at_most=False))

    line(f"\nPeak memory, {options.memory_rounds} processes each: {shown(grown, 'MiB')}.")
    line(f"Time, {options.rounds} rounds in turn: {shown(times, 'ms', 1000)};")
    line(f"{options.ig_rounds} rounds in turn: {shown(with_ig, 'ms', 1000)}.")


if __name__ == "__main__":
    main()
