"""The whole story of captum issue #519 on the bundled model: the demo's traces, table and report."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tracer
from tests.rounding import of_delta, of_sum
from tracer.analysis.candidates import candidates
from tracer.analysis.ladder import stored_repair
from tracer.cli import main
from tracer.demo.model import TARGET, TEXT, demo_model
from tracer.demo.run import RUNS, DemoResult, run_demo
from tracer.model.explicit import explicit
from tracer.subject.text import make_subject
from tracer.text import figure
from tracer.tracefile.trace import Trace

pytestmark = pytest.mark.slow
LONGEST_SUM = 1536  # MiniLM's intermediate size


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def result(folder: Path) -> DemoResult:
    steps: list[tuple[str, int, int]] = []
    demo = run_demo(folder, lambda *step: steps.append(step))
    assert ("Integrated Gradients", 100, 100) in steps
    return demo


@pytest.fixture(scope="module")
def traces(result: DemoResult, folder: Path) -> Iterator[dict[str, Trace]]:
    opened = {name: tracer.open_trace(folder / f"{name}.dltrace") for name, _method, _kinds in RUNS}
    yield opened
    for trace in opened.values():
        trace.close()


def rounding(trace: Trace) -> float:
    """How far rounding may part Σ self leaks from captum's delta.

    A tensor's multiplier is the sum of those of its consumers, four at most (queries, keys, values, what is added to
    them), and captum sums the attributions up in float32.
    """
    attributions = torch.from_numpy(trace.attributions[0])
    return float(of_delta(trace, 4)[0]) + of_sum(torch.float32, attributions.numel(), attributions)


def test_the_delta_explodes_when_captum_rules_softmax(traces: dict[str, Trace]) -> None:
    change = traces["shipped"].run.output - traces["shipped"].run.output_reference
    assert 1.5 < change[0] < 3.5
    assert 0.2 < traces["shipped"].run.relative_delta < 2
    assert traces["softmax"].run.relative_delta > 5_000
    assert traces["softmax-gelu"].run.relative_delta > 100_000


@pytest.mark.rounding
@pytest.mark.parametrize("name", [name for name, _method, _kinds in RUNS])
def test_self_leaks_sum_to_captums_delta(traces: dict[str, Trace], name: str) -> None:
    trace = traces[name]
    total = trace.leaks()[1].sum()
    assert abs(total - trace.delta[0]) <= rounding(trace) <= 1e-3 * max(1, abs(trace.delta[0]))
    assert abs(trace.nodes[0].self_leak[0]) <= of_delta(trace, 4)[0]  # what no call accounts for


@pytest.mark.parametrize("name", ["softmax", "softmax-gelu"])
def test_the_worst_call_is_in_the_first_layer(traces: dict[str, Trace], name: str) -> None:
    assert traces[name].worst(1)[0].path.startswith("bert.encoder.layer.0.")


@pytest.mark.rounding
def test_exact_rules_make_the_delta_vanish_on_the_model_as_shipped(traces: dict[str, Trace]) -> None:
    run = traces["exact"].run
    assert (run.method, run.variant) == ("exact", "as shipped")
    bound = of_delta(traces["exact"], LONGEST_SUM)[0]
    assert abs(run.delta[0]) <= bound <= 1e-4
    scores = dict(zip(run.tokens[0], run.panel.rankings[-1].scores, strict=True))
    assert {token for token, _ in sorted(scores.items(), key=lambda item: -item[1])[:2]} == {"amazing", "great"}
    assert max(abs(node.self_leak[0]) for node in traces["exact"].nodes) <= bound
    rules = {node.rule for node in traces["exact"].nodes}
    assert rules == {"autograd", "exact"}


def test_multipliers_grow_towards_the_input(traces: dict[str, Trace]) -> None:
    trace = traces["softmax-gelu"]
    norms = [
        float(np.linalg.norm(trace.tensor(trace.find(f"bert.encoder.layer.{layer}"), "multiplier_in")))
        for layer in range(6)
    ]
    assert norms[0] > 100 * norms[4]


def test_captum_hooked_what_was_made_explicit(traces: dict[str, Trace]) -> None:
    hooked = {name: trace.run.panel.hooks.hooked for name, trace in traces.items() if trace.run.panel.hooks}
    assert hooked["shipped"] == {"Tanh": 1}
    assert hooked["softmax"] == {"Tanh": 1, "Softmax": 6}
    assert hooked["softmax-gelu"] == {"Tanh": 1, "Softmax": 6, "GELU": 6}


def test_the_panel_warns_of_integrated_gradients_itself(traces: dict[str, Trace]) -> None:
    names = [ranking.name for ranking in traces["shipped"].run.panel.rankings]
    assert names == ["attention", "Integrated Gradients, 100 steps", "DeepLIFT (captum)"]
    gradients = traces["shipped"].run.panel.rankings[1]
    assert gradients.delta is not None
    assert gradients.relative_delta is not None
    assert gradients.relative_delta > 0.05
    assert "has not converged" in gradients.note
    assert traces["softmax"].run.panel.rankings[1] == gradients


def test_the_table_says_it_all(result: DemoResult, folder: Path) -> None:
    lines = result.table.splitlines()
    assert TEXT in lines[0]
    assert "the attributions should add up to +" in lines[1]
    for run in (
        "captum, as shipped",
        "captum, softmax explicit",
        "captum, softmax and GELU explicit",
        "exact, as shipped",
    ):
        assert sum(line.startswith(run) for line in lines) == 1
    assert sum("worst call: bert.encoder.layer." in line for line in lines) == 3
    exact = next(index for index, line in enumerate(lines) if line.startswith("exact, as shipped"))
    assert lines[exact + 1].strip() == "no call leaks"
    notes = [line for line in lines if line.startswith(("Note: ", "Traces: ", "Look at one again: "))]
    assert max(len(line) for line in lines if line not in notes) <= 120  # the others hold file names and warnings
    assert any("Integrated Gradients has not converged" in line for line in lines)
    assert result.worst == folder / "softmax-gelu.dltrace"
    assert str(result.worst) in lines[-1]


@pytest.mark.rounding
def test_the_worst_run_is_repaired_rung_by_rung(traces: dict[str, Trace], result: DemoResult) -> None:
    lines = result.table.splitlines()
    title = lines.index("What would repair captum, softmax and GELU explicit? Measured, run by run:")
    rows = [line.split("  ") for line in lines[title + 2 : title + 6]]
    found = stored_repair(traces["softmax-gelu"])
    assert [rung.change for rung in found.ladder] == [
        "softmax exact (6 calls)", "LayerNorm exact (12 calls)", "products exact (12 calls)",
    ]  # fmt: skip
    assert "as recorded" in rows[0]
    for row, rung in zip(rows[1:], found.ladder, strict=True):
        assert rung.change in row and figure(float(rung.delta[0]), signed=True) in "".join(row)
    after = [abs(float(rung.delta[0])) for rung in found.ladder]
    assert 100 < after[0] < 10_000 and 1 < after[1] < 100
    assert after[2] <= of_delta(traces["exact"], LONGEST_SUM)[0]
    assert lines[title + 7] == "to confirm: --rule softmax=exact --rule layer_norm=exact --rule matmul=exact"


def test_the_largest_leak_is_not_the_cause(traces: dict[str, Trace]) -> None:
    """Making the family with the largest leaks exact leaves the delta; softmax, with far smaller ones, removes it."""
    trace = traces["softmax-gelu"]
    single = {run.pattern: abs(float(run.delta[0])) for run in trace.counterfactuals if run.step == 0}
    leaks = {candidate.pattern: candidate.size for candidate in candidates(trace)}
    assert max(leaks, key=leaks.__getitem__) == "matmul" and leaks["softmax"] < leaks["matmul"] / 5
    assert single["matmul"] > 0.5 * abs(trace.delta[0]) and single["softmax"] < 1e-3 * abs(trace.delta[0])


@pytest.mark.parametrize("name", ["shipped", "softmax", "softmax-gelu"])
def test_every_captum_trace_holds_its_ladder_and_says_how_it_was_made(traces: dict[str, Trace], name: str) -> None:
    found = stored_repair(traces[name])
    assert found.reached and len(found.singles) >= 3
    assert all(not np.isnan(run.self_leak).any() for run in found.counterfactuals)
    assert json.loads(traces[name].run.command)["model"] == "(demo)"


def test_the_report_has_the_keys_of_the_contract(traces: dict[str, Trace], capsys: pytest.CaptureFixture[str]) -> None:
    trace = traces["softmax"]
    assert main(["report", str(trace.path), "--json"]) == 0
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    wanted = {"schema", "model", "method", "target", "output", "output_reference", "delta", "relative_delta", "tokens"}
    assert wanted | {"self_leak_sum", "nodes", "findings"} <= set(data)
    assert abs(data["self_leak_sum"] - data["delta"]) <= rounding(trace)
    assert data["nodes"][0].keys() >= {"path", "call", "kind", "type", "source", "leak", "self_leak", "gain"}
    assert data["nodes"][0]["path"].startswith("bert.encoder.layer.0.")
    assert len(data["nodes"]) == len(trace.nodes)
    assert data["tokens"][0]["token"] == "[CLS]"
    assert sum(token["attribution"] for token in data["tokens"]) == pytest.approx(
        data["delta"] + data["output"] - data["output_reference"], rel=0, abs=rounding(trace)
    )


@pytest.mark.parametrize("kinds", [(), ("softmax",), ("softmax", "gelu")])
@pytest.mark.parametrize("positions", ["zero", "same"])
def test_in_double_precision_the_ledger_closes_and_captum_is_not_disturbed(
    kinds: tuple[str, ...], positions: Any
) -> None:
    from captum.attr import DeepLift

    model, tokenizer = demo_model()
    subject = make_subject(model.double(), tokenizer, TEXT, target=TARGET, reference_positions=positions)
    extras = subject.additional_forward_args
    with explicit(subject.model, kinds, (subject.inputs, *extras)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call = (subject.inputs, subject.baselines, subject.target, extras)
        attributions, delta = DeepLift(subject.model).attribute(*call, return_convergence_delta=True)
        with tracer.watch(subject.model, capture="summary", details=tracer.Details(names=subject.names)) as watching:
            watched = DeepLift(subject.model).attribute(*call)
        emulated = tracer.record(
            subject.model,
            subject.inputs,
            subject.baselines,
            target=subject.target,
            rules=["*=captum"],
            capture="summary",
            additional_forward_args=extras,
            details=tracer.Details(names=subject.names),
        )
    assert torch.equal(watched, attributions)
    total = watching.trace.leaks()[1].sum()
    assert total == pytest.approx(delta.item(), rel=1e-9)
    assert all(node.kind in ("module", "op") for node in watching.trace.nodes)
    # captum's rulebook, emulated, is captum: attributions and every call's leak
    assert emulated.run.rulebook == "captum *=captum"
    assert np.allclose(emulated.attributions[0], attributions.detach().numpy(), rtol=1e-6, atol=1e-12)
    scale = max(abs(node.leak[0]) for node in watching.trace.nodes)
    for real, ours in zip(watching.trace.nodes, emulated.nodes, strict=True):
        assert (real.path, real.call) == (ours.path, ours.call)
        assert abs(real.leak[0] - ours.leak[0]) <= 1e-6 * max(abs(real.leak[0]), 1e-6 * scale), real.path
