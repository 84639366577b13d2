"""What recording a large model needs in memory: `python -m tests.benchmarks.memory [--layers N] [--tokens N]`.

Prints the peak memory of captum alone and of watched runs, as ratios. Each runs in a process of its own, of BERT-large
shapes, and in each a small attribution has been watched before, so that code and caches are the same in all.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from transformers import BertConfig

from tests.benchmarks.results import add_option, printed
from tests.process_memory import peak_memory

WAYS = ("captum alone", "summary", "tensors, to a file")
ATTENTION = ("sdpa", "eager", "explicit")


def measured(way: str, attention: str, layers: int, tokens: int, folder: str) -> tuple[int, float]:
    """(peak bytes, seconds) of one attribution."""
    import torch
    from captum.attr import DeepLift

    import tracer
    from tests.benchmarks.observing import subject
    from tracer.model.explicit import explicit

    warnings.simplefilter("ignore")
    capture: Literal["summary", "tensors"] = "summary" if way == "summary" else "tensors"

    def attribution(config: BertConfig, length: int, watch: bool) -> None:
        config._attn_implementation = "sdpa" if attention == "sdpa" else "eager"
        model, extras, x, reference = subject(config, length)
        with ExitStack() as context:
            if attention == "explicit":
                context.enter_context(explicit(model, {"softmax", "gelu"}, (x, *extras)))
            if watch:
                details = tracer.Details(names=model.paths())
                path = Path(folder) / f"{length}.dltrace"
                context.enter_context(tracer.watch(model, path, capture, force=True, details=details))
            DeepLift(model).attribute(x, reference, 1, extras)

    torch.manual_seed(0)
    attribution(BertConfig(num_hidden_layers=2), 16, watch=True)
    sizes = {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}
    start = time.perf_counter()
    attribution(BertConfig(num_hidden_layers=layers, **sizes), tokens, watch=way != WAYS[0])
    return peak_memory(), time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--attention", choices=ATTENTION, nargs="+", default=list(ATTENTION))
    add_option(parser)
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with printed(__file__, given.write) as line:
        line(f"BERT-large shapes, {given.layers} layers, {given.tokens} tokens\n")
        line("| attention | recorded | peak memory | against captum alone | time |\n|---|---|---|---|---|")
        for attention in given.attention:
            base = 0
            for way in WAYS:
                with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, context.Pool(1) as pool:
                    peak, seconds = pool.apply(measured, (way, attention, given.layers, given.tokens, folder))
                base = base or peak
                line(f"| {attention} | {way} | {peak / 2**20:.0f} MiB | {peak / base:.2f} × | {seconds:.0f} s |")


if __name__ == "__main__":
    main()
