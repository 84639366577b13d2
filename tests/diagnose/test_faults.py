"""Each fault that a trace shows by itself is found and named first on its minimal model, and not on the clean twin."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr._core import deep_lift
from torch import nn

import tracer
from tests.diagnose.case import Case
from tests.diagnose.minimal import CASES, LEAKING, MORE
from tests.diagnose.models import Between, Classifier, Pooled, normal
from tests.models import MODELS
from tests.synthetic import write_synthetic
from tests.test_trace import changed
from tracer.diagnosis.gathering import gather
from tracer.diagnosis.leftover import leftovers
from tracer.diagnosis.outcome import discrete_choice
from tracer.diagnosis.taken_for_linear import norm_of
from tracer.errors import InputError
from tracer.records import Finding, Status
from tracer.tracefile.trace import Trace


@cache
def recorded(kind: str, capture: str = "tensors") -> Trace:
    """The trace of a minimal model."""
    return CASES[kind].record(capture=capture)


def kinds(trace: Trace, example: int | None = None) -> list[str]:
    """The kinds of the findings, in their order."""
    return [finding.kind for finding in tracer.diagnose(trace, example)]


def first(kind: str) -> Finding:
    """The first finding on a minimal model."""
    return tracer.diagnose(recorded(kind))[0]


@pytest.mark.parametrize("kind", CASES)
def test_the_fault_is_named_first(kind: str) -> None:
    trace = recorded(kind)
    finding = tracer.diagnose(trace)[0]
    assert finding.kind == kind
    assert finding.caused_by == ""
    if finding.node is None:
        assert kind not in LEAKING and finding.nodes == ()
        return
    assert finding.node == finding.nodes[0]
    node = trace.nodes[finding.node]
    assert (finding.path, finding.call, finding.source) == (node.path, node.call, node.source)


@pytest.mark.parametrize("kind", CASES)
def test_the_clean_twin_shows_nothing(kind: str) -> None:
    trace = CASES[kind].record_twin()
    assert trace.run.status == "complete"
    assert tracer.diagnose(trace) == ()


@pytest.mark.parametrize("kind", CASES)
def test_figures_alone_give_the_same_kinds(kind: str) -> None:
    assert kinds(recorded(kind, "summary")) == kinds(recorded(kind))


@pytest.mark.parametrize("kind", [kind for kind in LEAKING if len(CASES[kind].x) > 1 and kind != "batch-coupled"])
def test_one_example_shows_it_too(kind: str) -> None:
    trace = recorded(kind)
    found = [kinds(trace, example) for example in range(trace.run.examples)]
    assert any(one and one[0] == kind for one in found)
    assert {name for one in found for name in one} >= set(kinds(trace))


@pytest.mark.parametrize(("kind", "model", "pattern"), MORE)
def test_other_ways_to_make_it(kind: str, model: Callable[[], nn.Module], pattern: str) -> None:
    case = Case(model, repaired=pattern)
    assert tracer.diagnose(case.record())[0].kind == kind
    assert tracer.diagnose(case.record_twin()) == ()


def test_advice_to_rule_calls_exactly_is_true() -> None:
    """Whatever pattern an advice names, with it the finding is gone."""
    tried = 0
    for case in [*LEAKING.values(), *(Case(model) for _kind, model, _pattern in MORE)]:
        for finding in tracer.diagnose(case.record()):
            for pattern in re.findall(r"--rule '([^']+)=exact'", finding.advice):
                repaired = tracer.diagnose(case.record(rules=[f"{pattern}=exact"]))
                assert finding.nodes not in [left.nodes for left in repaired], (finding.kind, pattern)
                tried += 1
    assert tried >= 15


def test_advice_to_use_exact_rules_is_true() -> None:
    unable = {"saturated-output", "differing-constant"}  # their advice names no method
    for kind, case in LEAKING.items():
        found = tracer.diagnose(recorded(kind))
        assert all("--method exact" in finding.advice for finding in found) == (kind not in unable)
        if kind not in unable:
            left = tracer.diagnose(case.record(method="exact"))
            assert [finding.kind for finding in left] == ["decided"] * (kind == "discrete-choice")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_exact_runs_show_nothing(name: str, dtype: torch.dtype) -> None:
    make, width = MODELS[name]
    torch.manual_seed(0)
    model = make().eval().to(dtype)
    x, baseline = normal(3, width, seed=1).to(dtype), normal(3, width, seed=2).to(dtype)
    trace = tracer.record(model, x, baseline, target=1, method="exact", capture="summary")
    assert tracer.diagnose(trace) == ()
    assert tracer.diagnose(trace, example=2) == ()


def test_every_example_can_cancel_another_one() -> None:
    """Leaks of two examples that are each other's negative are leaks."""
    case = CASES["linearised-norm"]
    x, baseline = case.x[:1], normal(1, 4, seed=9)
    torch.manual_seed(0)
    mirrored = Between(nn.LayerNorm(6)).eval()
    with torch.no_grad():
        mirrored.first.bias.zero_()
    trace = tracer.record(mirrored, torch.cat([x, -x]), torch.cat([baseline, -baseline]), target=1)
    assert abs(trace.delta.sum()) < 1e-6 < 1e-2 < abs(trace.delta[0])
    assert kinds(trace, 0) == kinds(trace, 1) == ["linearised-norm"]


def test_a_rule_that_does_not_conserve(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*args: object, **options: object) -> torch.Tensor:
        return 0.71 * deep_lift.nonlinear(*args, **options)

    monkeypatch.setitem(deep_lift.SUPPORTED_NON_LINEAR, nn.Sigmoid, short)
    (finding,) = tracer.diagnose(Case(lambda: Between(nn.Sigmoid())).record())
    assert finding.kind == "unconserving-rule"
    assert "captum's rule of Sigmoid does not conserve: it sends back 0.71 of what it should; " in finding.message
    assert finding.share == pytest.approx(1, rel=1e-4)
    assert dict(finding.evidence)["sent back"] == pytest.approx(0.71, rel=1e-5)


def test_a_pool_whose_windows_do_not_overlap_is_not_said_to_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*args: object, **options: object) -> torch.Tensor:
        return 0.5 * deep_lift.maxpool1d(*args, **options)

    monkeypatch.setitem(deep_lift.SUPPORTED_NON_LINEAR, nn.MaxPool1d, short)
    case = CASES["pool-overlap"]
    (finding,) = tracer.diagnose(case.record_twin())
    assert finding.kind == "unconserving-rule"
    assert "captum's rule of MaxPool1d does not conserve: it sends back 0.5 of what it should" in finding.message


def test_an_approximated_rule_that_is_not_good_enough() -> None:
    class Root(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)  # type: ignore[attr-defined]
            return x.abs().sqrt()

        @staticmethod
        def backward(ctx: object, *gradients: torch.Tensor) -> torch.Tensor:
            (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
            return gradients[0] * x.sign() / (2 * x.abs().sqrt())

    class Rooted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = Root.apply(x)
            return out

    (finding,) = tracer.diagnose(Case(lambda: Between(Rooted()), method="exact").record())
    assert finding.kind == "approximated-rule"
    assert finding.message.startswith("there is no exact rule for ")


def test_a_relu_before_a_pool_is_stale_and_the_pool_is_not_to_blame() -> None:
    class Net(Pooled):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.last(self.pool(self.relu(self.conv(x[:, None]))).flatten(1))
            return out

    def make() -> nn.Module:
        net = Net(2, 2)
        net.relu = nn.ReLU()
        return net

    case = Case(make, x=normal(2, 12, seed=5), baseline=normal(2, 12, seed=6))
    (finding,) = tracer.diagnose(case.record())
    assert finding.kind == "stale-gradient"
    assert "relu (ReLU) hands its output straight to pool (MaxPool1d)" in finding.message
    assert 0 < dict(finding.evidence)["elements with another gradient"] < 1


def test_an_output_that_no_example_moves_stands_before_what_its_softmax_does() -> None:
    """captum's softmax rule leaks there too: but with any other rule the attributions would be nothing as well."""

    def sure() -> nn.Sequential:
        last = nn.Linear(4, 4)
        nn.init.normal_(last.weight, std=20)
        nn.init.zeros_(last.bias)
        return nn.Sequential(nn.Linear(4, 4), last, nn.Softmax(-1))

    trace = Case(sure, x=normal(4, 4, seed=1), baseline=normal(4, 4, seed=2)).record()
    flat = [
        [min(abs(value), abs(1 - value)) < 1e-3 for value in ends]
        for ends in zip(trace.run.output, trace.run.output_reference, strict=True)
    ]
    assert flat == [[True, True]] * 4
    assert kinds(trace) == ["saturated-output", "softmax-normalised", "batch-coupled"]
    assert [finding.share > 0.9 for finding in tracer.diagnose(trace)[1:]] == [True, True]
    # Beside one that moves, what captum's rule does to all of them comes first.
    torch.manual_seed(0)
    first = sure()[0]
    even = torch.linalg.solve(first.weight, -first.bias).detach()[None]  # all logits are 0 there
    moved = Case(sure, x=torch.cat([normal(4, 4, seed=1), even]), baseline=normal(5, 4, seed=2)).record()
    assert abs(moved.run.output[-1] - 0.25) < 1e-3 and "saturated-output" in kinds(moved)[1:]
    assert kinds(moved)[0] == "softmax-normalised"


def test_probabilities_that_stay_at_one_end_explain_nothing_by_any_rule() -> None:
    def sure() -> nn.Module:
        return Classifier(True, scale=300)

    both = CASES["saturated-output"]
    place = int(recorded("saturated-output").run.output.argmax())
    x, baseline = both.x[place : place + 1], both.baseline[place : place + 1]
    for other, expected in ((0.9 * x, ["saturated-output"]), (baseline, [])):
        trace = Case(sure, x=x, baseline=other, method="exact").record()
        flat = [min(abs(value), abs(1 - value)) < 1e-3 for value in (*trace.run.output, *trace.run.output_reference)]
        assert flat == [True, True]
        assert kinds(trace) == expected
        assert all(math.isnan(finding.share) for finding in tracer.diagnose(trace))


def test_flows_given_to_the_wrong_examples_are_no_leaks() -> None:
    """A linear call that leaks +1 in one example and −1 in the other has rows that are not examples."""
    evidence = gather(recorded("unseen-op"))
    columns, size = evidence.columns, evidence.size.copy()
    assert columns.types[1] == "Linear"
    size[1] = 2.0
    wrong = replace(evidence, size=size)
    assert wrong.leaking[1]
    assert list(leftovers(wrong, [0, 2])) == []
    real = replace(wrong, columns=replace(columns, self_leak=size))
    assert [(finding.kind, finding.nodes) for finding in leftovers(real, [0, 2])] == [("unconserving-rule", (1,))]
    gathered = replace(columns, types=[*columns.types[:1], "gather", *columns.types[2:]])
    assert list(discrete_choice.find(replace(wrong, columns=gathered))) == []
    (choice,) = discrete_choice.find(replace(wrong, columns=replace(gathered, self_leak=size)))
    assert choice.nodes == (1,)


def test_leaks_that_cancel_are_flows_in_a_wrong_place() -> None:
    """Where the delta is nothing, calls that leak +1 and −1 show a ledger that misplaced a flow, and no fault."""
    evidence = gather(CASES["unseen-op"].record_twin())
    leaks = evidence.self_leak.copy()
    leaks[1:3] = 1.0, -1.0
    columns = replace(evidence.columns, self_leak=leaks)
    wrong = replace(evidence, columns=columns, self_leak=leaks, size=abs(leaks))
    assert not wrong.leaking.any()


def test_batch_norm_is_no_normalisation_of_one_example() -> None:
    assert norm_of("op", "mul", "FrozenBatchNorm2d") == ""
    assert norm_of("op", "mul", "LlamaRMSNorm") == "LlamaRMSNorm"
    assert norm_of("op", "silu", "MambaRMSNormGated") == ""
    assert norm_of("module", "LayerNorm", "LayerNorm") == "LayerNorm"


def test_issue_numbers() -> None:
    expected = {
        "unseen-op": (351, 1082, 1085), "unsupported-module": (1357,), "softmax-normalised": (519, 1367),
        "dropped-difference": (519,), "exploding-secant": (519,), "linearised-product": (1085,),
        "stale-gradient": (1104,), "batch-coupled": (1276, 519), "integer-input": (347,), "non-tensor-output": (480,),
        "reused-module": (199, 578, 934), "in-place-target": (382, 415), "half-underflow": (835,),
        "shared-extras": (375,), "doubled-batch": (798, 975, 1177), "multipliers-returned": (35, 170),
    }  # fmt: skip
    assert {kind: first(kind).issues for kind in CASES if first(kind).issues} == expected


def test_shares_of_what_leaks() -> None:
    trace = recorded("exploding-secant")
    leaks = sum(abs(trace.leaks(example)[1]) for example in range(2))
    for finding in tracer.diagnose(trace):
        assert finding.share == pytest.approx(leaks[list(finding.nodes)].sum() / leaks.sum(), rel=1e-9)
    assert math.isnan(first("batch-coupled").share)


def test_an_unknown_example() -> None:
    with pytest.raises(InputError, match="there is no example 2: the trace holds 2, 0 to 1"):
        tracer.diagnose(recorded("unseen-op"), example=2)


@pytest.mark.parametrize("status", ["recording", "failed"])
@pytest.mark.parametrize("examples", [1, 3])
def test_a_run_that_did_not_end_shows_no_leaks(status: Status, examples: int, tmp_path: Path) -> None:
    path = tmp_path / "a.dltrace"
    writer = write_synthetic(path, examples=examples, status=status)
    with tracer.open_trace(path) as trace:
        assert tracer.diagnose(trace) == ()
    writer.close()


def test_a_synthetic_trace_blames_the_call_that_leaks_most() -> None:
    finding = tracer.diagnose(write_synthetic(None, examples=2).trace())[0]
    assert finding.path == "encoder.layer.0.block.0/softmax_1"
    assert finding.share > 0.99


@pytest.mark.parametrize("version", [1, 2])
def test_older_traces_are_diagnosed_too(version: int) -> None:
    path = Path(__file__).parents[1] / f"golden/schema-{version}.dltrace"
    with tracer.open_trace(path) as trace:
        assert all(finding.message and finding.advice for finding in tracer.diagnose(trace))


def test_a_saved_trace_is_diagnosed_without_torch(tmp_path: Path) -> None:
    path = tmp_path / "a.dltrace"
    CASES["unseen-op"].record(path=path).close()
    code = (
        "import sys, tracer\n"
        f"print(*(finding.kind for finding in tracer.diagnose(tracer.open_trace({str(path)!r}))))\n"
        "from tracer.diagnosis import evidence\n"  # the function stays callable once the package is imported by name
        f"print(len(tracer.diagnose(tracer.open_trace({str(path)!r}))), 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["unseen-op", "1", "False"]


def test_the_package_can_be_called_when_it_is_imported_first() -> None:
    code = "import tracer.diagnosis.evidence, tracer\nprint(callable(tracer.diagnose))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]


class _Branches(nn.Module):
    """tanh(h) and relu(h), of one tensor or of two."""

    def __init__(self, apart: bool) -> None:
        super().__init__()
        self.first, self.tanh, self.relu, self.last = nn.Linear(4, 6), nn.Tanh(), nn.ReLU(), nn.Linear(12, 3)
        self.apart = apart

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        own, other = (h.clone(), h.clone()) if self.apart else (h, h)
        out: torch.Tensor = self.last(torch.cat([self.tanh(own), self.relu(other)], -1))
        return out


def test_a_path_is_lost_between_two_ruled_modules_on_one_tensor() -> None:
    (finding,) = tracer.diagnose(Case(lambda: _Branches(False)).record())
    assert (finding.kind, finding.path) == ("lost-path", "tanh")
    assert finding.message.startswith("tanh and relu take the same tensor, and captum's rule for the second overwrites")
    assert tracer.diagnose(Case(lambda: _Branches(True)).record()) == ()


class _Masked(nn.Module):
    """A mask of the same -inf-like constant in both runs, then softmax as a module."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.softmax, self.last = nn.Linear(4, 6), nn.Softmax(-1), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = x.new_tensor([0.0, 0.0, 0.0, 0.0, 1.0, 1.0]) * torch.finfo(x.dtype).min
        out: torch.Tensor = self.last(self.softmax(self.first(x) + mask))
        return out


def test_differences_under_a_mask_are_not_taken_for_a_mask_that_differs() -> None:
    found = {finding.kind: finding for finding in tracer.diagnose(Case(_Masked).record())}
    assert "differing-constant" not in found
    assert next(iter(found)) == "softmax-normalised"
    assert found["masked-difference"].path == "/add"
    assert "put" in found["masked-difference"].message
    assert "--rule 'softmax=exact'" in found["masked-difference"].advice
    assert tracer.diagnose(Case(_Masked).record(rules=["softmax=exact"])) == ()


@pytest.mark.parametrize("kind", ["dropped-difference", "stale-gradient"])
@pytest.mark.parametrize(
    "odd",
    [np.zeros((2**46, 0)), np.broadcast_to(np.zeros(()), (2**40, 1)), np.zeros((3, 1)), np.zeros((2, 4), np.complex64)],
    ids=["empty", "endless", "broadcast", "complex"],
)
def test_tensors_that_do_not_go_together_are_no_evidence(
    kind: str, odd: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = recorded(kind)
    plain = tracer.diagnose(recorded(kind, "summary"))
    tensor = Trace.tensor
    monkeypatch.setattr(
        Trace, "tensor", lambda self, node, name, slot=0: odd if name == "output" else tensor(self, node, name, slot)
    )
    assert [finding.kind for finding in tracer.diagnose(trace)] == [finding.kind for finding in plain]


def test_a_softmax_that_is_said_to_take_two_tensors(tmp_path: Path) -> None:
    whole = tmp_path / "whole.dltrace"
    CASES["dropped-difference"].record(path=whole, capture="summary").close()
    more = "CREATE TEMP TABLE more AS SELECT edge.* FROM edge JOIN node ON id = node WHERE type = 'Softmax'"
    second = "INSERT INTO edge SELECT * FROM more WHERE direction = 'in'"
    path = changed(whole, tmp_path / "run.dltrace", more, "UPDATE more SET slot = 1", second)
    with tracer.open_trace(path) as trace:
        assert "dropped-difference" in kinds(trace)
