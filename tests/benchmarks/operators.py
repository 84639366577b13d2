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
from collections.abc import Iterator

import torch

from tests.benchmarks.results import add_option, printed
from tests.operators import CLASSES, REASONS, TOLERANCE, Result, name_of, operators, worst


def _reason(name: str, result: Result) -> str:
    return result.why() if result.found == "no reference" else REASONS.get(name) or result.why()


def table(dtype: torch.dtype, most: int) -> Iterator[str]:
    """Both tables of a dtype, by up to `most` samples of an operator, line by line."""
    found = {name_of(info): worst(info, dtype, most) for info in operators(dtype)}
    counts = Counter(result.found for result in found.values())
    compared = sum(count for kind, count in counts.items() if kind != "no reference")
    exact = max(r.relative for r in found.values() if r.found == "exact")
    yield f"| {str(dtype).removeprefix('torch.')} | operators | share | worst relative delta |"
    yield "|---|---|---|---|"
    for kind in CLASSES:
        share = "" if kind == "no reference" else f"{counts[kind] / compared:.1%}"
        yield f"| {kind} | {counts[kind]} | {share} | {f'{exact:.0e}' if kind == 'exact' else ''} |"
    yield ""
    yield f"| not exact to {TOLERANCE[dtype]:.0e} | class | relative delta | reason |"
    yield "|---|---|---|---|"
    for name, result in found.items():
        if result.found != "exact":
            size = f"{result.relative:.0e}" if result.found in ("told", "silent") else ""
            yield f"| {name} | {result.found} | {size} | {_reason(name, result)} |"
    yield ""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=["float64", "float32"], help="one of them alone")
    parser.add_argument("--samples", type=int, default=3, help="of each operator, at most")
    add_option(parser)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with printed(__file__, options.write) as line:
        for name in [options.dtype] if options.dtype else ["float64", "float32"]:
            for text in table(getattr(torch, name), options.samples):
                line(text)


if __name__ == "__main__":
    main()
