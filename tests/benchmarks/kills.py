"""What a recording leaves that ends too soon: `python -m tests.benchmarks.kills [--what kill] [--count 200]`.

`--what` names how it ends: kill (-9), interrupt (Ctrl-C), process (the same, in a process of its own from its start),
memory (none left), disk (full), watch (a full disk under somebody's own attribution), or all; each at random moments.
Counted are files that do not open, calls and tensors that had been committed but are not shown, raw tracebacks, and
wrong exit codes. Exit code 1 where there is one of them.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch

from tests.benchmarks.results import add_option, printed
from tests.ends import ENDINGS, Bench, outcome


def main() -> int:
    """Print a table for each way to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--what", choices=[*ENDINGS, "all"], nargs="+", default=["kill"])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    add_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    faults = 0
    with tempfile.TemporaryDirectory() as folder, printed(__file__, options.write) as line:
        bench = Bench(Path(folder))
        for what in ENDINGS if "all" in options.what else options.what:
            rng = random.Random(options.seed)
            found: Counter[str] = Counter()
            for _ in range(options.count):
                ended, path = ENDINGS[what](rng, bench)
                found[outcome(what, ended, path)] += 1
                for left in path.parent.glob(f"*{path.name}*"):
                    left.unlink()
            taken = f"one takes {bench.seconds:.2f} s, {bench.bytes:,} bytes"
            line(f"| of {options.count} | {what}; {taken} |\n|---:|---|")
            for word, count in found.most_common():
                line(f"| {count} | {word} |")
            line("")
            faults += sum(count for word, count in found.items() if word.startswith("FAULT"))
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
