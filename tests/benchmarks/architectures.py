"""The table of exact rules on unmodified models, small random configs: `python -m tests.benchmarks.architectures`.

One line an architecture, Markdown: |delta| of the worst of two examples over the larger |f(x) − f(x')|, in float32 and
float64, with fused attention (SDPA) where the architecture has it and op by op (eager), and in float32 against a
reference of zeros, captum's default. Weights are scaled up until attention is sharp. "casts": the model computes in
float32 inside even in float64.
"""

from __future__ import annotations

import argparse
import warnings

import torch

from tests.architectures import ARCHITECTURES, Architecture, Named, casts, pair_for, target_for
from tests.benchmarks.results import add_option, printed
from tracer.errors import TracerError
from tracer.exact.deeplift import DeepLift
from tracer.model.output import logits_of


def relative_delta(
    architecture: Architecture, attention: str, dtype: torch.dtype, zero: bool = False
) -> tuple[float, set[str], bool]:
    """(|delta| over |f(x) − f(x')| of the worst example, what the run notes, whether the model casts to float32)."""
    model = Named(architecture.build(attention, dtype), *architecture.passed)
    x, reference = pair_for(architecture, dtype)
    if zero:
        reference = torch.zeros_like(reference)
    with torch.no_grad():
        target = target_for(logits_of(model(x)), logits_of(model(reference)))
    lift = DeepLift(model)
    found = lift.evaluate((x,), (reference,), target)
    change = (found.output - found.output_reference).double()
    attributions = (found.multipliers[0].double() * (x - reference).double()).flatten(1).sum(1)
    worst = float((attributions - change).abs().max() / change.abs().max())
    return worst, {note.kind for note in lift.notes}, casts(model, x)


def row(name: str, architecture: Architecture) -> str:
    """The architecture's line of the table."""
    cells, remarks = [], set()
    runs = [(attention, dtype, False) for attention in ("sdpa", "eager") for dtype in (torch.float32, torch.float64)]
    for attention, dtype, zero in (*runs, (architecture.attention[0], torch.float32, True)):
        if attention not in architecture.attention:
            cells.append("–")
            continue
        try:
            worst, notes, cast = relative_delta(architecture, attention, dtype, zero)
        except TracerError as error:
            cells.append("fails")
            remarks.add(str(error))
            continue
        cells.append(f"{worst:.0e}")
        remarks |= notes | ({"casts"} if cast and dtype == torch.float64 else set())
    return f"| {name} | {' | '.join(cells)} | {', '.join(sorted(remarks))} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_option(parser)
    warnings.simplefilter("ignore")
    with printed(__file__, parser.parse_args().write) as line:
        line("| architecture | SDPA, float32 | SDPA, float64 | eager, float32 | eager, float64 | zeros | notes |")
        line("|---|---|---|---|---|---|---|")
        for name, architecture in ARCHITECTURES.items():
            line(row(name, architecture))


if __name__ == "__main__":
    main()
