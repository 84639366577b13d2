"""What observing a captum run costs: `python -m tests.benchmarks.observing [--rounds N]`.

Prints ratios of medians, measured in one run, in turn: captum alone, watched with figures only, watched with tensors.
"""

from __future__ import annotations

import argparse
import compileall
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Literal

import torch
from captum.attr import DeepLift
from transformers import BertConfig, BertForSequenceClassification

import tracer
from tests.benchmarks.results import add_option, printed
from tracer.model.explicit import explicit
from tracer.subject.classifier import EmbeddingClassifier

SHAPES = {
    "MiniLM, 32 tokens": (BertConfig(num_hidden_layers=6, hidden_size=384, intermediate_size=1536), 32),
    "BERT-base, 128 tokens": (BertConfig(), 128),
}
VARIANTS: dict[str, set[str]] = {"as shipped": set(), "softmax and GELU made modules": {"softmax", "gelu"}}
WAYS = FIGURES, IN_MEMORY, TO_FILE = "figures only", "tensors, in memory", "tensors, to a file"


def subject(
    config: BertConfig, tokens: int
) -> tuple[EmbeddingClassifier, tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor]:
    """(model, extras, input, reference) of a random model of that shape."""
    torch.manual_seed(0)
    model = EmbeddingClassifier(BertForSequenceClassification(config).eval(), ("attention_mask",), True)
    mask = torch.ones(1, tokens, dtype=torch.long)
    return model, (mask,), torch.randn(1, tokens, config.hidden_size), torch.zeros(1, tokens, config.hidden_size)


def seconds(work: Callable[[], None]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(
    config: BertConfig, tokens: int, kinds: set[str], rounds: int, folder: Path
) -> tuple[float, float, dict[str, float]]:
    """(seconds of captum alone, extra seconds of the first watched call, ratio of medians for each way of watching).

    `kinds` are the functional ops that are made modules first.
    """
    model, extras, x, reference = subject(config, tokens)

    def plain() -> None:
        DeepLift(model).attribute(x, reference, 1, extras)

    def watched(capture: Literal["summary", "tensors"], path: Path | None) -> None:
        details = tracer.Details(names=model.paths())
        with tracer.watch(model, path, capture, force=True, details=details) as watching:
            plain()
        watching.trace.close()

    runs: dict[str, Callable[[], None]] = {
        "captum alone": plain,
        FIGURES: lambda: watched("summary", None),
        IN_MEMORY: lambda: watched("tensors", None),
        TO_FILE: lambda: watched("tensors", folder / "run.dltrace"),
    }
    with explicit(model, kinds, (x, *extras)):
        plain()
        first = seconds(runs[FIGURES]) - seconds(plain)
        times: dict[str, list[float]] = {label: [] for label in runs}
        for _ in range(rounds):
            for label, work in runs.items():
                times[label].append(seconds(work))
    base = statistics.median(times.pop("captum alone"))
    return base, first, {label: statistics.median(found) / base for label, found in times.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    add_option(parser)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    # As pip leaves a package: else the first call compiles what was edited since, again in each process where Python
    # may not write bytecode.
    compileall.compile_dir(Path(tracer.__file__).parent, quiet=1)
    with printed(__file__, options.write) as line:
        line(f"{torch.get_num_threads()} threads, medians of {options.rounds} rounds\n")
        line(f"| | captum alone | {' | '.join(WAYS)} |\n|---|---|---|---|---|")
        firsts = []
        for (name, (config, tokens)), (variant, kinds) in product(SHAPES.items(), VARIANTS.items()):
            with tempfile.TemporaryDirectory() as folder:
                base, first, ratios = measure(config, tokens, kinds, options.rounds, Path(folder))
            firsts.append(first)
            cells = " | ".join(f"{ratios[way]:.2f} ×" for way in WAYS)
            line(f"| {name}, {variant} | {base * 1000:.0f} ms | {cells} |")
        line(f"\nThe first watched call of the process took {firsts[0] * 1000:+.0f} ms.")


if __name__ == "__main__":
    main()
