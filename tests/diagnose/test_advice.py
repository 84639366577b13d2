"""Advice works: the options that a finding prints are taken by the command line, and the delta falls."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import tracer
from tests.diagnose.case import Case
from tests.diagnose.minimal import CASES, MORE
from tests.diagnose.models import Between, normal
from tests.models import MODELS
from tracer import cli
from tracer.records import Finding, Floats
from tracer.tracefile.trace import Trace

ROOT = Path(__file__).parents[2]
ALL: dict[str, Case] = {
    **{kind.replace("-", "_"): case for kind, case in CASES.items()},
    **{f"more_{number}": Case(model) for number, (_kind, model, _pattern) in enumerate(MORE)},
}
NOT_ALL = ("no-grad-call",)  # it says itself that method exact does not attribute everything


def options_in(finding: Finding) -> tuple[list[str], bool]:
    """The patterns of the rules that an advice prints, and whether it names method exact."""
    return re.findall(r"--rule '?([^' ,]+)'?", finding.advice), "method exact" in finding.advice


def traced(name: str, case: Case, folder: Path, options: Sequence[str], capsys: pytest.CaptureFixture[str]) -> Trace:
    """The trace that the command line makes of a minimal model with these options."""
    tensors = {"input": case.x} if case.baseline is None else {"input": case.x, "baseline": case.baseline}
    extra = case.options.get("additional_forward_args")
    save_file({**tensors, **({} if extra is None else {"extra": extra})}, folder / "inputs.safetensors")
    file = folder / "run.dltrace"
    given = ["trace", f"tests.diagnose.factories:{name}", "--inputs", str(folder / "inputs.safetensors"), "--target"]
    code = cli.main([*given, "1", "--no-repair", "--force", "-o", str(file), *options])
    assert code == 0, capsys.readouterr().err
    return tracer.open_trace(file)


def size(delta: Floats) -> float:
    return float(np.abs(delta).sum())


def assert_holds(trace: Trace) -> None:
    """The delta is 0 but for rounding."""
    run = trace.run
    bound = 1e-2 if any(edge.dtype == "float16" for edge in trace.edges(0)) else 1e-5
    assert (np.abs(run.delta) <= bound * np.abs(run.output - run.output_reference) + 1e-7).all()


@pytest.mark.parametrize("name", ALL)
def test_the_options_of_an_advice_do_what_it_says(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    case = ALL[name]
    trace = case.record()
    findings = tracer.diagnose(trace)
    base = [] if case.method == "captum" else ["--method", case.method]
    for finding in findings:
        rules, everything = options_in(finding)
        assert not (everything and case.method == "exact")
        if everything and finding.kind not in NOT_ALL:
            assert_holds(traced(name, case, tmp_path, ["--method", "exact"], capsys))
        if rules:
            options = [word for rule in rules for word in ("--rule", rule)]
            after = traced(name, case, tmp_path, [*base, *options], capsys)
            assert size(after.delta) < size(trace.delta)
            if len(findings) == 1:
                assert_holds(after)


@pytest.mark.parametrize("method", ["captum", "gradient"])
@pytest.mark.parametrize("name", MODELS)
def test_of_several_faults_the_first_is_worth_most(name: str, method: Any) -> None:
    """Made exact, what is first leaves hardly more than what leaves least; no advice makes the delta larger."""
    make, width = MODELS[name]
    torch.manual_seed(0)
    model, generator = make().eval(), torch.Generator().manual_seed(1)
    x, baseline = (torch.randn(2, width, generator=generator) for _ in range(2))
    trace = tracer.record(model, x, baseline, target=0, method=method, capture="summary")
    findings, after = tracer.diagnose(trace), []
    for finding in findings:
        rules, everything = options_in(finding)
        assert rules or everything
        if rules:
            measured = tracer.record(model, x, baseline, target=0, method=method, capture="summary", rules=rules)
            after.append(size(measured.delta))
            if "together" in finding.advice:
                assert after.pop() <= 0.05 * size(trace.delta)
    assert all(left < size(trace.delta) for left in after)
    assert not after or after[0] <= 1.1 * min(after) + 1e-6


FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "cross_entropy": lambda h: F.cross_entropy(h, torch.zeros(len(h), dtype=torch.long), reduction="none"),
    "local_response_norm": lambda h: F.local_response_norm(3 * h[:, None], 2).sum((1, 2)),
    "norm": lambda h: h.norm(dim=1),
    "glu": lambda h: F.glu(h).sum(1),
    "logsumexp": lambda h: h.logsumexp(1),
    "topk": lambda h: h.topk(2, 1)[0].sum(1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_runs_as_several_ops_is_ruled_by_its_name(name: str) -> None:
    torch.manual_seed(0)
    model = Between(lambda h: FUNCTIONS[name](h)[:, None], classes=1).eval()
    trace = tracer.record(model, normal(2, 4, seed=1), normal(2, 4, seed=2), target=1)
    (finding,) = tracer.diagnose(trace)
    rules, _everything = options_in(finding)
    assert rules == [f"{name}=exact"]
    assert_holds(tracer.record(model, normal(2, 4, seed=1), normal(2, 4, seed=2), target=1, rules=rules))


MASKS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "boolean": lambda h: h * (h > 0.2),
    "float": lambda h: h * (h > 0.2).float(),
    "two": lambda h: h * ((h > 0) & ~(h > 1)),
    "integers": lambda h: h * (3 * h).long(),
    "count": lambda h: h / (h > 0).sum(1, keepdim=True),
}


@pytest.mark.parametrize("name", MASKS)
def test_what_the_input_decides_is_advised_to_be_attributed_to_it(name: str) -> None:
    torch.manual_seed(0)
    model = Between(MASKS[name]).eval()
    x, baseline = normal(2, 4, seed=1), normal(2, 4, seed=2)
    (finding,) = tracer.diagnose(tracer.record(model, x, baseline, target=1))
    assert finding.kind == "differing-constant" and "--method exact" in finding.advice
    assert_holds(tracer.record(model, x, baseline, target=1, method="exact"))


@pytest.mark.parametrize("detached", [lambda h: h.detach() > 0, lambda h: (h > 0).detach()])
def test_of_a_choice_that_the_input_does_not_decide_no_rule_is_advised(
    detached: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    torch.manual_seed(0)
    for function, kind in (
        (lambda h: torch.where(detached(h), h, 0.1 * h + 1), "discrete-choice"),
        (lambda h: h * detached(h), "differing-constant"),
    ):
        trace = tracer.record(Between(function).eval(), normal(2, 4, seed=1), normal(2, 4, seed=2), target=1)
        (finding,) = tracer.diagnose(trace)
        assert finding.kind == kind and options_in(finding) == ([], False)


def test_a_product_with_integers_that_differ_is_attributed_as_far_as_it_goes() -> None:
    torch.manual_seed(0)
    model = Between(lambda h: h * (3 * h).detach().round().long()).eval()
    trace = tracer.record(model, normal(2, 4, seed=1), normal(2, 4, seed=2), target=1, method="exact")
    assert [finding.kind for finding in tracer.diagnose(trace)] == ["differing-constant"]


@pytest.mark.parametrize("rule", ["captum", "gradient"])
def test_an_exact_run_is_not_told_to_be_exact(rule: str) -> None:
    """Its other rules are what keeps it from being exact."""
    case = CASES["unsupported-module"]
    trace = case.record(method="exact", rules=[f"GELU={rule}"])
    (finding,) = tracer.diagnose(trace)
    assert finding.advice == "make it exact with --rule 'GELU=exact', or leave out the rules that are not exact"
    stale = CASES["stale-gradient"].record(method="exact", rules=["Tanh=captum", "Sigmoid=captum"])
    (finding,) = tracer.diagnose(stale)
    assert finding.kind == "stale-gradient" and "--method exact" not in finding.advice
