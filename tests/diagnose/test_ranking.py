"""Causes stand before their symptoms: with counterfactuals, which prove it, and without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import tracer
from tests.diagnose.case import Case
from tests.diagnose.minimal import CASES
from tests.diagnose.models import Explosion
from tracer.records import Counterfactual, Finding, Floats
from tracer.text import figure, times
from tracer.tracefile.amend import amend
from tracer.tracefile.trace import Trace


class Square(nn.Module):
    """x·x."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x


def three_faults() -> nn.Module:
    """A GELU, a LayerNorm and a product."""
    return nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.LayerNorm(6), Square(), nn.Linear(6, 3))


def measured(pattern: str, delta: Sequence[float], self_leak: Floats, step: int = 0) -> Counterfactual:
    """A counterfactual of one pattern."""
    return Counterfactual(step, f"{pattern} exact", pattern, (f"{pattern}=exact",), np.array(delta), self_leak)


def found(trace: Trace) -> dict[str, Finding]:
    """The findings by kind, in their order."""
    return {finding.kind: finding for finding in tracer.diagnose(trace)}


def with_leaks(trace: Trace, factors: dict[str, float]) -> Floats:
    """The self leaks of a trace, those of some types multiplied."""
    columns = trace.columns
    return columns.self_leak * [factors.get(name, 1.0) for name in columns.types]


@pytest.fixture
def trace() -> Trace:
    """A GELU before a softmax whose secants explode: the GELU's leak is honest, and a hundred times too large."""
    return CASES["exploding-secant"].record()


def test_without_measurements_what_lies_before_an_explosion_is_its_symptom(trace: Trace) -> None:
    findings = found(trace)
    assert list(findings)[:2] == ["exploding-secant", "unsupported-module"]
    assert findings["unsupported-module"].caused_by == "exploding-secant"
    assert findings["softmax-normalised"].caused_by == ""  # the same call: another side of it, no symptom
    assert all(finding.delta_after is None for finding in findings.values())
    assert dict(findings["exploding-secant"].evidence)["blown up"] == pytest.approx(0.4, abs=0.01)


def test_without_an_explosion_nothing_is_a_symptom() -> None:
    findings = tracer.diagnose(Case(three_faults).record())
    assert {finding.kind for finding in findings} == {"unsupported-module", "linearised-norm", "linearised-product"}
    assert [finding.share for finding in findings] == sorted((f.share for f in findings), reverse=True)
    assert {finding.caused_by for finding in findings} == {""}


def test_the_repair_of_the_model_confirms_the_cause(trace: Trace) -> None:
    case = CASES["exploding-secant"]
    torch.manual_seed(0)
    repair = tracer.repair(Explosion().eval(), case.x, case.baseline, target=1)
    amend(trace, counterfactuals=repair.counterfactuals)
    findings = found(trace)
    assert list(findings)[:2] == ["exploding-secant", "unsupported-module"]
    assert findings["unsupported-module"].caused_by == "exploding-secant"
    after = {run.pattern: float(run.delta.sum()) for run in repair.counterfactuals if run.step == 0}
    assert findings["exploding-secant"].delta_after == findings["softmax-normalised"].delta_after == after["softmax"]
    assert findings["unsupported-module"].delta_after == after["gelu"]
    assert findings["exploding-secant"].advice.startswith("make it exact with --rule 'softmax=exact'")


def test_a_measurement_overrules_the_estimate(trace: Trace) -> None:
    """The GELU keeps its leak when softmax is exact: it is a cause of its own."""
    leaks = with_leaks(trace, {"Softmax": 0.0})
    amend(trace, counterfactuals=[measured("softmax", [0.1, 0.1], leaks)])
    assert found(trace)["unsupported-module"].caused_by == ""


def test_the_other_way_round(trace: Trace) -> None:
    leaks = with_leaks(trace, {"Softmax": 0.01, "GELU": 0.0})
    amend(trace, counterfactuals=[measured("gelu", [0.0, 0.0], leaks)])
    findings = found(trace)
    assert next(iter(findings)) == "unsupported-module"
    assert findings["softmax-normalised"].caused_by == findings["exploding-secant"].caused_by == "unsupported-module"


def test_of_two_that_remove_one_another_neither_is_the_cause(trace: Trace) -> None:
    softmax = measured("softmax", [0.0, 0.0], with_leaks(trace, {"Softmax": 0.0, "GELU": 0.01}))
    gelu = measured("gelu", [0.0, 0.1], with_leaks(trace, {"Softmax": 0.01, "GELU": 0.0}))
    amend(trace, counterfactuals=[softmax, gelu])
    assert {finding.caused_by for finding in tracer.diagnose(trace)} == {""}
    stronger = replace(gelu, self_leak=with_leaks(trace, {"Softmax": 0.06, "GELU": 0.0}))
    amend(trace, counterfactuals=[softmax, stronger])
    assert found(trace)["unsupported-module"].caused_by == "exploding-secant"


def test_a_call_that_did_not_occur_proves_nothing(trace: Trace) -> None:
    unknown = with_leaks(trace, {"Softmax": 0.0, "GELU": np.nan})
    amend(trace, counterfactuals=[measured("softmax", [0.0, 0.0], unknown)])
    assert found(trace)["unsupported-module"].caused_by == ""


def test_rungs_of_the_ladder_are_no_changes_on_their_own(trace: Trace) -> None:
    amend(trace, counterfactuals=[measured("gelu", [0.0, 0.0], with_leaks(trace, {"GELU": 0.0}), step=1)])
    assert all(finding.delta_after is None for finding in tracer.diagnose(trace))


def test_causes_stand_by_what_is_left_after_them() -> None:
    trace = Case(three_faults).record()
    total = float(abs(trace.delta).sum())
    leaks = trace.columns.self_leak
    for order in (["LayerNorm", "gelu", "mul"], ["mul", "LayerNorm", "gelu"]):
        left = [0.1, 0.5, 3.0]
        runs = [measured(p, [part * total, 0.0], leaks) for p, part in zip(order, left, strict=True)]
        amend(trace, counterfactuals=runs)
        findings = tracer.diagnose(trace)
        kinds = {"LayerNorm": "linearised-norm", "gelu": "unsupported-module", "mul": "linearised-product"}
        assert [finding.kind for finding in findings] == [kinds[name] for name in order]
        assert [finding.delta_after for finding in findings] == pytest.approx([part * total for part in left])
        assert findings[0].advice.startswith("make it exact with ")
        share = times(float(3 * total / abs(trace.run.output - trace.run.output_reference)[0]))
        assert findings[2].advice == (
            f"on its own an exact rule for it makes the delta {figure(3 * total, signed=True)} in example 0, "
            f"{share} the output's change there; "
            "make it exact together with the other findings, or everything with --method exact"
        )
