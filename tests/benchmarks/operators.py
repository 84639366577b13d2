"""PyTorch's own operator database under exact rules: `python -m tests.benchmarks.operators [--dtype float32]`.

For every differentiable operator of `op_db` that takes the dtype, up to `--samples` of its samples: the sample is the
input, the same elements in another order are the reference, Σ w·tanh(op(x)) is explained; once with the first tensor
varying, once with all of them and the results scaled to where the tanh is steep. The worst counts. The first table has
the number of operators by class, the second each operator that is not exact, with the reason.

exact: |delta| over |f(x) − f(x')| up to 1e-8 (float32: 1e-5). told: more, and a note says so. silent: more, and none.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter

import torch

from tests.benchmarks.results import add_option, printed
from tests.operators import CLASSES, REASONS, TOLERANCE, name_of, operators, worst


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=["float64", "float32"], default="float64")
    parser.add_argument("--samples", type=int, default=3, help="of each operator, at most")
    add_option(parser)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    dtype = getattr(torch, options.dtype)
    found = {name_of(info): worst(info, dtype, options.samples) for info in operators(dtype)}
    counts = Counter(result.found for result in found.values())
    compared = sum(count for kind, count in counts.items() if kind != "no reference")
    exact = max(r.relative for r in found.values() if r.found == "exact")
    with printed(__file__, options.write) as line:
        line(f"| {options.dtype} | operators | share | worst relative delta |")
        line("|---|---|---|---|")
        for kind in CLASSES:
            share = "" if kind == "no reference" else f"{counts[kind] / compared:.1%}"
            line(f"| {kind} | {counts[kind]} | {share} | {f'{exact:.0e}' if kind == 'exact' else ''} |")
        line("")
        line(f"Not exact to {TOLERANCE[dtype]:.0e}:")
        line("")
        line("| operator | class | relative delta | reason |")
        line("|---|---|---|---|")
        for name, result in found.items():
            if result.found != "exact":
                size = f"{result.relative:.0e}" if result.found in ("told", "silent") else ""
                line(f"| {name} | {result.found} | {size} | {REASONS.get(name) or result.why()} |")


if __name__ == "__main__":
    main()
