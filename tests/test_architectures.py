"""Exact rules on unmodified models of many architectures, random weights, attention sharp."""

from __future__ import annotations

import warnings

import pytest
import torch

from tests.architectures import ARCHITECTURES, Named, casts, pair_for, target_for
from tracer.deeplift import DeepLift
from tracer.logits import logits_of

warnings.filterwarnings("ignore")

# Routing to experts is a choice that differs between the runs; an expert then meets other tokens in each.
CONTINUOUS = [name for name, architecture in ARCHITECTURES.items() if not architecture.routes]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_exact_rules_conserve(name: str, attention: str) -> None:
    architecture = ARCHITECTURES[name]
    if attention not in architecture.attention:
        pytest.skip(f"{name} has no {attention} attention")
    for dtype in (torch.float64, torch.float32):
        model = Named(architecture.build(attention, dtype), *architecture.passed)
        x, x_ref = pair_for(architecture, dtype)
        limit = 1e-4 if dtype == torch.float32 else 1e-6 if casts(model, x) else 1e-9
        with torch.no_grad():
            target = target_for(logits_of(model(x)), logits_of(model(x_ref)))
        lift = DeepLift(model)
        found = lift.evaluate((x,), (x_ref,), target)
        attributions = found.multipliers[0] * (x - x_ref)
        difference = (found.output - found.output_reference).double()
        delta = attributions.double().flatten(1).sum(1) - difference
        assert float(delta.abs().max()) <= limit * float(difference.abs().max())
        assert {note.what for note in lift.notes} <= {"approximated"}
        alone = DeepLift(model).attribute(x[:1], x_ref[:1], target=target)
        assert float((alone[0] - attributions[0]).abs().max()) <= 1e-5 * float(attributions[0].abs().max())
