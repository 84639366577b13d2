"""Exact rules on unmodified models of many architectures, random weights, attention sharp."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import tracer
from tests.architectures import ARCHITECTURES, Named, casts, pair_for, target_for
from tests.rounding import of_delta, seeded, unit, walk
from tracer.exact.deeplift import DeepLift
from tracer.model.output import logits_of
from tracer.tracefile.trace import Trace

warnings.filterwarnings("ignore")


def longest_sum(model: nn.Module) -> int:
    """How many products the largest matrix or kernel of a model sums up."""
    return max(parameter[0].numel() for parameter in model.parameters() if parameter.dim() > 1)


def of_alone(trace: Trace, terms: int) -> float:
    """How far rounding in float32 may part an example alone from the same in a batch, as a share of its attributions.

    Batches of other sizes are multiplied by other kernels, whose sums round differently: an attribution is rounded at
    each call, in a model given in float32 `terms` times.
    """
    rounded = [any(edge.dtype == "float32" for edge in trace.edges(node)) for node in trace.nodes]
    return walk(sum(rounded) * terms) * unit(torch.float32)


@pytest.mark.rounding
@pytest.mark.slow
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_exact_rules_conserve(name: str, attention: str) -> None:
    architecture = ARCHITECTURES[name]
    if attention not in architecture.attention:
        pytest.skip(f"{name} has no {attention} attention")
    for dtype in (torch.float64, torch.float32):
        model = Named(architecture.build(attention, dtype), *architecture.passed)
        x, x_ref = pair_for(architecture, dtype, seeded(1))
        with torch.no_grad():
            target = target_for(logits_of(model(x)), logits_of(model(x_ref)))
        lift = DeepLift(model)
        found = lift.evaluate((x,), (x_ref,), target)
        attributions = found.multipliers[0] * (x - x_ref)
        difference = (found.output - found.output_reference).double()
        delta = attributions.double().flatten(1).sum(1) - difference
        limit, alone_limit = 1e-9 * difference.abs(), 1e-9
        if dtype == torch.float32 or casts(model, x):
            trace = tracer.record(model, x, x_ref, target=target, method="exact")
            limit = torch.from_numpy(of_delta(trace, longest_sum(model)))
            alone_limit = max(1e-9, of_alone(trace, longest_sum(model) if dtype == torch.float32 else 1))
            assert (np.abs(trace.delta) <= limit.numpy()).all()
        assert (delta.abs() <= limit).all()
        assert {note.kind for note in lift.notes} <= {"approximated"}
        alone = DeepLift(model).attribute(x[:1], x_ref[:1], target=target)
        assert float((alone[0] - attributions[0]).abs().max()) <= alone_limit * float(attributions[0].abs().max())
