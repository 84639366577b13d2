"""Choices in the ledger: what makes a mask or an index is a row, and no row leaks, whoever takes its result."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import tracer
from tests.rules.pairs import Model
from tests.rules.test_choices import CASES, drawn

ACROSS = {"msort", "median of all", "argmax of all"}
"""Cases in which the two rows of the input are no examples."""


def model_of(name: str) -> Model:
    def function(t: Tensor) -> Tensor:
        out = CASES[name](t)
        return out.reshape(2, -1).sin().sum(1) if out.dim() and out.shape[0] == 2 else out.sin().sum()

    return Model(function)


@pytest.mark.parametrize("zero", [False, True], ids=["another", "zero"])
@pytest.mark.parametrize("name", CASES)
def test_no_row_of_an_exact_run_leaks(name: str, zero: bool) -> None:
    with tracer.record(model_of(name), drawn(0), drawn(100) * (0 if zero else 1), method="exact") as trace:
        kinds = {finding.kind for finding in tracer.diagnose(trace)}
        if name in ACROSS:
            assert ("coupled-examples" in kinds) == (float(abs(trace.delta).max()) > 1e-9)
            assert abs(float(trace.delta.sum())) < 1e-12
        else:
            assert kinds <= {"decided"}
            assert max(float(abs(node.self_leak).max()) for node in trace.nodes) < 1e-12


def test_a_mask_with_two_takers_is_one_row_whose_parts_add_up() -> None:
    """Its twin sends back what both of them send: each part counted once."""

    def function(t: Tensor) -> Tensor:
        mask = t > 0.1
        return (torch.where(mask, t * t, -t) + t.sin() * mask).sum(1)

    with tracer.record(Model(function), drawn(0), drawn(100), method="exact") as trace:
        (made,) = [node for node in trace.nodes if node.type == "gt"]
        assert max(float(abs(node.self_leak).max()) for node in trace.nodes) < 1e-12
        into, out = (
            sum(float(edge.flow.sum()) for edge in trace.edges(made) if edge.direction == way) for way in ("in", "out")
        )
        assert into == pytest.approx(out, abs=1e-12) and abs(out) > 0.1
        takers = [node.type for node in trace.nodes for edge in trace.edges(node) if edge.direction == "in"]
        assert takers.count("where") == 3 and takers.count("mul") == 3  # t * t, t.sin() * mask


def test_a_finding_points_at_the_row_that_decides() -> None:
    with tracer.record(model_of("where"), drawn(0), drawn(100), method="exact") as trace:
        (finding,) = tracer.diagnose(trace)
        assert (finding.kind, finding.path) == ("decided", "/gt")
        assert finding.node is not None and trace.nodes[finding.node].type == "gt"
