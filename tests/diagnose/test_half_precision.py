"""Half precision and autocast: what a float32 run shows is found there too, and rounding is not a fault."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import tracer
from tests.architectures import ARCHITECTURES, Named, pair_for
from tests.diagnose.case import Case
from tests.diagnose.minimal import LEAKING
from tracer.diagnosis.gathering import gather
from tracer.records import FindingKind

# Those that half precision changes are left out: captum's guard against small differences underflows (a fault of its
# own), the leak of the stale gradient is 2 % of the change, and a probability cast to float32 is no longer the output.
KINDS: list[FindingKind] = [
    "unseen-op", "unsupported-module", "softmax-normalised", "exploding-secant", "linearised-product",
    "linearised-norm", "lost-path", "pool-overlap", "discrete-choice", "unobserved-code", "differing-constant",
]  # fmt: skip


class Autocast(nn.Module):
    """A float32 model that computes in bfloat16."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out: Tensor = self.model(*args)
        return out.float()


def in_dtype(case: Case, dtype: torch.dtype) -> Case:
    baseline = None if case.baseline is None else case.baseline.to(dtype)
    return replace(case, model=lambda: case.model().to(dtype), x=case.x.to(dtype), baseline=baseline)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["bfloat16", "float16", "autocast"])
def test_the_findings_are_those_of_float32(kind: FindingKind, way: str) -> None:
    case = LEAKING[kind]
    half = (
        replace(case, model=lambda: Autocast(case.model()))
        if way == "autocast"
        else in_dtype(case, getattr(torch, way))
    )
    expected, found = ([f.kind for f in tracer.diagnose(each.record())] for each in (case, half))
    assert found == expected


def test_a_leak_of_half_the_change_is_seen_in_bfloat16() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 3)).eval()
    with tracer.record(model.bfloat16(), torch.randn(2, 16).bfloat16(), target=1) as trace:
        assert [(finding.kind, finding.path) for finding in tracer.diagnose(trace)] == [("unsupported-module", "2")]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("scale", [1.0, 20.0])
@pytest.mark.parametrize("name", ["BERT", "ALBERT", "GPT-2", "Llama"])
def test_rounding_is_no_fault(name: str, scale: float, dtype: torch.dtype) -> None:
    """Small multipliers of float16 are rounded to steps of 6e-8, which no share of their size describes."""
    architecture = replace(ARCHITECTURES[name], scale=scale)
    model = Named(architecture.build(architecture.attention[-1], dtype), *architecture.passed)
    target = (-1, 2) if "Causal" in architecture.model or "LMHead" in architecture.model else 1
    with tracer.record(model, *pair_for(architecture, dtype), target=target, method="exact") as trace:
        assert [finding.kind for finding in tracer.diagnose(trace)] == []
        evidence = gather(trace)
        inner = slice(1, None)
        assert (evidence.size[inner] <= evidence.rounding[inner] + 1e-12).all()
