"""What observing a captum run costs: `python -m tests.benchmarks.observing [--rounds N]`.

Prints ratios of medians, measured in one run, in turn: captum alone, watched with figures only, watched with tensors.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from captum.attr import DeepLift
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

import tracer
from tracer.explicit import explicit
from tracer.subject.classifier import EmbeddingClassifier

SHAPES = {
    "MiniLM, 32 tokens": (BertConfig(num_hidden_layers=6, hidden_size=384, intermediate_size=1536), 32),
    "BERT-base, 128 tokens": (BertConfig(), 128),
}


def subject(config: BertConfig, tokens: int) -> tuple[nn.Module, tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor]:
    """(model, extras, input, reference) of a random model of that shape."""
    torch.manual_seed(0)
    model = EmbeddingClassifier(BertForSequenceClassification(config).eval(), ("attention_mask",), True)
    mask = torch.ones(1, tokens, dtype=torch.long)
    return model, (mask,), torch.randn(1, tokens, config.hidden_size), torch.zeros(1, tokens, config.hidden_size)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore")
    print(f"{torch.get_num_threads()} threads, medians of {rounds} rounds")
    for name, (config, tokens) in SHAPES.items():
        model, extras, x, reference = subject(config, tokens)
        with explicit(model, {"softmax", "gelu"}, (x, *extras)), tempfile.TemporaryDirectory() as folder:
            paths = model.paths()

            def plain() -> None:
                DeepLift(model).attribute(x, reference, 1, extras)

            def watched(capture: str, path: Path | None) -> Callable[[], None]:
                def run() -> None:
                    details = tracer.Details(names=paths)
                    with tracer.watch(model, path, capture, force=True, details=details) as watching:
                        DeepLift(model).attribute(x, reference, 1, extras)
                    watching.trace.close()

                return run

            def seconds(work: Callable[[], None]) -> float:
                start = time.perf_counter()
                work()
                return time.perf_counter() - start

            runs = {
                "captum alone": plain,
                "summary": watched("summary", None),
                "tensors, in memory": watched("tensors", None),
                "tensors, to a file": watched("tensors", Path(folder) / "run.dltrace"),
            }
            first = seconds(runs["summary"]) - seconds(plain)
            times = {label: [] for label in runs}
            for _ in range(rounds):
                for label, work in runs.items():
                    times[label].append(seconds(work))
            base = statistics.median(times["captum alone"])
            print(f"{name}: captum alone {base * 1000:.0f} ms; the first watched call {first * 1000:+.0f} ms")
            for label in list(runs)[1:]:
                print(f"  {label:<22} {statistics.median(times[label]) / base:.2f} x")


if __name__ == "__main__":
    main()
