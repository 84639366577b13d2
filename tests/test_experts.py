"""Mixtures of experts of transformers: one rule for all implementations, exact where the runs choose differently."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import tracer
from tests.architectures import ARCHITECTURES, Named, pair_for
from tracer.exact.deeplift import DeepLift

MIXTURES = ["Mixtral", "Qwen2-MoE", "Qwen3-MoE", "OLMoE", "GPT-OSS", "DeepSeek-V3"]
IMPLEMENTATIONS = ["eager", "grouped_mm", "batched_mm"]
TARGET = (-1, 2)


def attributed(name: str, experts: str, dtype: torch.dtype, zero: bool = False) -> tuple[Any, Tensor, Tensor]:
    """The `DeepLift` object after a run, its attributions and deltas."""
    architecture = replace(ARCHITECTURES[name], experts=experts)
    model = Named(architecture.build(architecture.attention[-1], dtype), *architecture.passed)
    x, x_ref = pair_for(architecture, dtype)
    lift = DeepLift(model)
    found, delta = lift.attribute(x, 0 * x_ref if zero else x_ref, target=TARGET, return_convergence_delta=True)
    return lift, found, delta


@pytest.mark.parametrize("zero", [False, True], ids=["another", "zero"])
@pytest.mark.parametrize("name", MIXTURES)
def test_all_implementations_agree_and_conserve(name: str, zero: bool) -> None:
    runs = [attributed(name, experts, torch.float32, zero) for experts in IMPLEMENTATIONS]
    for lift, found, delta in runs:
        assert lift.notes == ()
        change = (lift.outputs[0] - lift.outputs[1]).abs()
        assert (delta.abs() <= 1e-4 * change).all()
        # They compute one function, and round differently.
        assert torch.allclose(found, runs[0][1], rtol=1e-2, atol=1e-4 * float(runs[0][1].abs().max()))


def test_the_runs_choose_other_experts() -> None:
    """Else none of this would be tried."""
    for name in MIXTURES:
        lift, _found, _delta = attributed(name, "eager", torch.float32)
        assert sum(note.amount for note in lift.decided) > 0, name


@pytest.mark.parametrize("name", MIXTURES)
def test_bfloat16_rounds_and_no_more(name: str) -> None:
    lift, found, delta = attributed(name, "eager", torch.bfloat16)
    assert lift.notes == ()
    assert (delta.abs() <= 5e-2 * found.double().abs().flatten(1).sum(1)).all()


def test_a_trace_shows_the_experts_as_one_call() -> None:
    architecture = ARCHITECTURES["Mixtral"]
    model = Named(architecture.build("eager", torch.float32), *architecture.passed)
    with tracer.record(model, *pair_for(architecture, torch.float32), target=TARGET, method="exact") as trace:
        rows = [node for node in trace.nodes if node.type == "mixture_of_experts"]
        assert len(rows) == 2 and all(node.children == () for node in rows)
        assert not [node for node in trace.nodes if "experts.act_fn" in node.path]
        assert {finding.kind for finding in tracer.diagnose(trace)} <= {"decided"}
        assert abs(float(sum(node.self_leak.sum() for node in trace.nodes)) - float(trace.delta.sum())) < 1e-5


def test_the_model_is_left_as_it_was() -> None:
    from transformers.integrations import moe

    attributed("Mixtral", "eager", torch.float32)
    assert "get_interface" not in vars(moe.ALL_EXPERTS_FUNCTIONS)
