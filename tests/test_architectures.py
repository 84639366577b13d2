"""Exact rules on unmodified models of many architectures, random weights, attention sharp."""

from __future__ import annotations

import warnings

import pytest
import torch

from tests.architectures import ARCHITECTURES, Named, casts, pair_for, target_for
from tracer.exact.deeplift import DeepLift
from tracer.model.output import logits_of

warnings.filterwarnings("ignore")

# Routing to experts is a choice that differs between the runs; an expert then meets other tokens in each.
CONTINUOUS = [name for name, architecture in ARCHITECTURES.items() if not architecture.routes]
CAST = 1e-6
BERT_FAMILY = {
    "BERT", "RoBERTa", "XLM-R", "CamemBERT", "ELECTRA", "ALBERT", "DistilBERT", "MPNet", "DeBERTa", "DeBERTa-v2",
}  # fmt: skip


def limits(name: str, dtype: torch.dtype, cast: bool) -> tuple[float, float]:
    """Bounds on each example's delta relative to its own f(x) − f(x'), and, relative to the largest attribution, on an
    example alone against the same example in the batch.

    Batches of other sizes are multiplied by other kernels, whose sums round differently. In float64 that is 1e-13; in
    float32 weights 20 times the usual size carry a rounding of 6e-8 on to 6e-6. A model that casts to float32 inside
    has float32's delta, the larger the more an example's differences cancel, whatever dtype it is given in; relative to
    the larger difference of the two examples it stays below `CAST`.
    """
    delta = 1e-9 if dtype == torch.float64 and not cast else 1e-5 if name in BERT_FAMILY else 1e-4
    return delta, 1e-5 if dtype == torch.float32 else 1e-6 if cast else 1e-9


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_exact_rules_conserve(name: str, attention: str) -> None:
    architecture = ARCHITECTURES[name]
    if attention not in architecture.attention:
        pytest.skip(f"{name} has no {attention} attention")
    for dtype in (torch.float64, torch.float32):
        model = Named(architecture.build(attention, dtype), *architecture.passed)
        x, x_ref = pair_for(architecture, dtype)
        delta_limit, alone_limit = limits(name, dtype, casts(model, x))
        with torch.no_grad():
            target = target_for(logits_of(model(x)), logits_of(model(x_ref)))
        lift = DeepLift(model)
        found = lift.evaluate((x,), (x_ref,), target)
        attributions = found.multipliers[0] * (x - x_ref)
        difference = (found.output - found.output_reference).double()
        delta = attributions.double().flatten(1).sum(1) - difference
        assert float((delta / difference).abs().max()) <= delta_limit
        if dtype == torch.float64:
            assert float(delta.abs().max() / difference.abs().max()) <= CAST
        assert {note.what for note in lift.notes} <= {"approximated"}
        alone = DeepLift(model).attribute(x[:1], x_ref[:1], target=target)
        assert float((alone[0] - attributions[0]).abs().max()) <= alone_limit * float(attributions[0].abs().max())
