"""Counterfactual runs and the repair ladder: every figure is a run that `record` with the same rules repeats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tracer
from tests.models import MODELS
from tests.synthetic import write_synthetic
from tests.tiny import TINY_TEXT, make_tiny
from tracer.analysis.candidates import Candidate, candidates, covered
from tracer.analysis.ladder import Repair, headline, ladder_lines, stored_repair, worst_relative
from tracer.counterfactuals.search import _Search, repair
from tracer.errors import InputError
from tracer.model.explicit import explicit
from tracer.subject.text import make_subject
from tracer.tracefile.amend import amend

BOUND = 1e-3


@pytest.fixture(scope="module")
def subject(tiny_tokenizer: Any) -> Any:
    """A tiny BERT with two layers in double precision, where captum's softmax rule does harm once it is a module."""
    return make_subject(make_tiny("bert").double(), tiny_tokenizer, TINY_TEXT, target=2)


def repaired(subject: Any, kinds: Sequence[str] = ("softmax",), **settings: Any) -> Repair:
    return repair(
        subject.model, subject.inputs, subject.baselines, target=subject.target,
        additional_forward_args=subject.additional_forward_args, explicit=kinds,
        details=tracer.Details(names=subject.names), **settings,
    )  # fmt: skip


def rerun(subject: Any, rules: Sequence[str], kinds: Sequence[str] = ("softmax",)) -> tracer.Trace:
    """A recording of its own with these rules."""
    extras = subject.additional_forward_args
    with explicit(subject.model, kinds, (subject.inputs, *extras)):
        return tracer.record(
            subject.model, subject.inputs, subject.baselines, target=subject.target, rules=rules, capture="summary",
            additional_forward_args=extras, details=tracer.Details(names=subject.names),
        )  # fmt: skip


def small(name: str, examples: int = 2) -> tuple[nn.Module, torch.Tensor]:
    kind, width = MODELS[name]
    torch.manual_seed(0)
    return kind().double().eval(), torch.randn(examples, width, dtype=torch.float64)


@pytest.fixture(scope="module")
def found(subject: Any) -> Repair:
    return repaired(subject)


def test_each_counterfactual_is_what_record_gives_with_its_rules(subject: Any, found: Repair) -> None:
    own = rerun(subject, ())
    assert np.array_equal(found.delta, own.delta)
    assert len(found.singles) == 4 and len(found.ladder) >= 2
    for measured in found.counterfactuals:
        again = rerun(subject, measured.rules)
        assert np.allclose(measured.delta, again.delta, rtol=1e-9, atol=1e-12), measured.change
        assert np.allclose(measured.self_leak, again.columns.self_leak, rtol=1e-6, atol=1e-12), measured.change
        assert measured.self_leak.sum() == pytest.approx(measured.delta.sum(), rel=1e-6, abs=1e-12)
        assert measured.seconds > 0


def test_the_nodes_of_a_counterfactual_are_those_of_the_trace(found: Repair) -> None:
    assert all(len(measured.self_leak) == len(found.trace.nodes) for measured in found.counterfactuals)
    softmax = next(single for single in found.singles if single.pattern == "softmax")
    exact = [node.id for node in found.trace.nodes if node.type == "Softmax"]
    assert len(exact) == 2
    assert np.abs(found.trace.columns.self_leak[exact]).max() > 1e-3
    assert np.abs(softmax.self_leak[exact]).max() < 1e-12


def test_the_ladder_reaches_the_bound_and_each_rung_is_the_best_of_those_left(subject: Any, found: Repair) -> None:
    assert found.reached and found.relative(found.ladder[-1].delta) < BOUND
    assert [rung.step for rung in found.ladder] == list(range(1, len(found.ladder) + 1))
    patterns = {single.pattern for single in found.singles}
    taken: list[str] = []
    for rung in found.ladder:
        tried = {p: rerun(subject, [f"{q}=exact" for q in (*taken, p)]).delta for p in patterns - set(taken)}
        assert rung.pattern == min(tried, key=lambda p: found.relative(tried[p]))
        taken.append(rung.pattern)
        assert rung.rules == tuple(f"{pattern}=exact" for pattern in taken)
    assert found.rules == found.ladder[-1].rules
    for rung in found.ladder[:-1]:
        assert found.relative(rung.delta) > BOUND


def test_no_rung_can_be_left_out(subject: Any, found: Repair) -> None:
    for rule in found.rules:
        left = rerun(subject, [other for other in found.rules if other != rule])
        assert found.relative(left.delta) > BOUND


@pytest.mark.parametrize("name", ["attention", "time major", "residual", "stale", "keywords", "in place", "unseen"])
def test_the_bound_is_reached_on_models_that_reuse_transpose_and_overwrite(name: str) -> None:
    model, x = small(name)
    found = repair(model, x, target=1)
    assert found.relative(found.delta) > BOUND
    assert found.reached and found.notes == ()
    assert np.abs(found.ladder[-1].delta).max() < 1e-6
    confirmed = tracer.record(model, x, target=1, rules=found.rules, capture="summary")
    assert np.allclose(confirmed.delta, found.ladder[-1].delta, atol=1e-12)


@pytest.mark.parametrize("name", ["attention", "time major"])
def test_exact_rules_in_captums_doubled_batch_find_each_half_on_any_axis(name: str) -> None:
    """Sequence-first tensors have their examples on axis 1, whose halves must not be mixed up with the steps."""
    model, x = small(name)
    emulated = tracer.record(model, x, target=1, rules=["*=exact"], capture="summary")
    exact = tracer.record(model, x, target=1, method="exact", capture="summary")
    assert np.allclose(emulated.attributions[0], exact.attributions[0], rtol=1e-6, atol=1e-9)


def test_a_lost_path_is_repaired_at_the_module_that_lost_it() -> None:
    model, x = small("residual")
    found = repair(model, x, target=1)
    assert [rung.rules for rung in found.ladder] == [("relu=exact",)]
    assert headline(found).endswith(": ReLU exact.")


def test_by_layer_and_by_call(subject: Any) -> None:
    layers = repaired(subject, by="layer")
    assert {single.pattern for single in layers.singles} == {"bert.encoder.layer.0*", "bert.encoder.layer.1*"}
    assert layers.reached and len(layers.ladder) == 2
    single = layers.singles[0]
    inside = covered(layers.trace, single.rules)
    assert all(layers.trace.nodes[node].path.startswith(single.pattern[:-1]) for node in inside)
    assert np.abs(single.self_leak[list(inside)]).max() < 1e-12
    calls = repaired(subject, by="call", bound=0.5)
    assert len(candidates(calls.trace, "call", most=3)) == 3 < len(calls.singles) <= 10
    for measured in calls.singles:
        nodes = covered(calls.trace, measured.rules)
        assert {calls.trace.nodes[node].path for node in nodes} == {measured.pattern}
        assert np.abs(measured.self_leak[list(nodes)]).max() < 1e-12


def test_a_layers_pattern_does_not_fit_a_layer_whose_number_begins_alike() -> None:
    with write_synthetic(None, layers=12).trace() as trace:
        found = {candidate.change.split(" ")[0]: candidate for candidate in candidates(trace, "layer")}
        assert len(found) == 12
        for layer, candidate in found.items():
            paths = {trace.nodes[node].path for node in covered(trace, candidate.rules)}
            assert paths and all(path.startswith((f"{layer}.", f"{layer}/")) for path in paths)


def test_candidates_are_families_largest_leak_first() -> None:
    with write_synthetic(None).trace() as trace:
        found = candidates(trace)
        assert [candidate.size for candidate in found] == sorted((c.size for c in found), reverse=True)
        names = {candidate.change.split(" exact")[0] for candidate in found}
        assert names >= {"softmax", "GELU", "LayerNorm", "products"}
        assert not names & {"Linear", "add", "Dropout"}
        for candidate in found:
            assert set(candidate.nodes) <= set(covered(trace, candidate.rules))
        with pytest.raises(InputError, match="by='op': expected 'family', 'layer' or 'call'"):
            candidates(trace, "op")  # type: ignore[arg-type]


class Ambiguous(nn.Module):
    """Children that are called like ops and types, an op inside a composite, a module whose op is not known."""

    def __init__(self) -> None:
        super().__init__()
        self.tanh, self.relu, self.clip, self.norm = nn.Sigmoid(), nn.Tanh(), nn.ReLU6(), nn.LayerNorm(4)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.ReLU6()) for _ in range(11))
        self.recurrent = nn.RNN(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm(self.clip(3 * self.relu(self.tanh(x)).tanh()))
        for layer in self.layers:
            h = h + layer(h).relu()
        h = nn.functional.normalize(h, dim=-1) + h / (1 + h * h)
        return self.recurrent(h.unsqueeze(0))[0].squeeze(0).exp()


@pytest.mark.parametrize("by", ["family", "layer", "call"])
@pytest.mark.parametrize("name", ["ambiguous", "attention", "keywords", "residual", "time major"])
def test_a_candidate_names_the_very_calls_that_its_rules_make_exact(name: str, by: Any) -> None:
    if name == "ambiguous":
        torch.manual_seed(0)
        model, x = Ambiguous().double().eval(), torch.randn(2, 4, dtype=torch.float64)
    else:
        model, x = small(name)
    with tracer.record(model, x, target=1, rules=["*=captum"], capture="summary") as own:
        found = candidates(own, by, most=100)
        places = {node.id: (node.path, node.call) for node in own.nodes}
        leaking = {places[node.id] for node in own.nodes if not node.children and abs(node.self_leak).sum() > 1e-9}
    assert found
    for candidate in found:
        meant = {places[node] for node in candidate.nodes}
        rules = ["*=captum", *candidate.rules]
        with tracer.record(model, x, target=1, rules=rules, capture="summary") as trace:
            ruled = [node for node in trace.nodes if node.rule not in ("captum", "autograd", "gradient")]
        exact = {(node.path, node.call) for node in ruled}
        assert leaking & meant <= exact <= meant, candidate
    if (name, by) == ("ambiguous", "call"):
        assert ("tanh/*",) in [candidate.patterns for candidate in found]  # "tanh" would fit the function too


def test_a_run_that_holds_is_left_alone() -> None:
    model, x = small("plain")
    told: list[Any] = []
    found = repair(model, x, target=1, progress=lambda *step: told.append(step))
    assert found.reached and found.counterfactuals == () and told == []
    assert headline(found).startswith("Nothing to repair: the delta is ")


def test_the_runs_own_rules_are_kept_unless_a_change_takes_their_calls() -> None:
    model, x = small("keywords")
    own = ("tanh=exact", "sigmoid=gradient")
    found = repair(model, x, target=1, rules=own)
    for measured in found.counterfactuals:
        again = tracer.record(model, x, target=1, rules=measured.rules, capture="summary")
        assert np.allclose(measured.delta, again.delta, atol=1e-12)
        assert measured.rules[0] == "tanh=exact" and f"{measured.pattern}=exact" in measured.rules
    assert found.reached and "sigmoid=gradient" not in found.rules
    assert any("sigmoid=gradient" in single.rules for single in found.singles)


def test_the_gradient_is_repaired_too() -> None:
    model, x = small("keywords")
    found = repair(model, x, target=1, method="gradient")
    again = tracer.record(model, x, target=1, method="gradient", rules=found.rules, capture="summary")
    assert found.reached and np.allclose(again.delta, found.ladder[-1].delta, atol=1e-12)


def test_every_example_must_hold_the_bound() -> None:
    delta, change = np.array([1e-4, 2e-2, 0.0]), np.array([1.0, -2.0, 0.0])
    assert worst_relative(delta, change) == pytest.approx(1e-2)
    assert worst_relative(np.array([1.0, np.nan]), np.array([1.0, 1.0])) == np.inf
    assert worst_relative(np.array([1.0]), np.array([0.0])) == np.inf


def state(model: nn.Module) -> list[Any]:
    """What a run could leave behind."""
    modules = [
        (path, type(module), module.training, sorted(vars(module)), len(module._forward_hooks))
        for path, module in model.named_modules()
    ]
    hooks = [(len(module._forward_pre_hooks), len(module._backward_hooks)) for module in model.modules()]
    return [modules, hooks, [(parameter.requires_grad, parameter.grad) for parameter in model.parameters()]]


def interrupting(at: int) -> Callable[[str, int, int], None]:
    def progress(_text: str, done: int, _total: int) -> None:
        if done == at:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize(("at", "singles", "rungs"), [(0, 0, 0), (3, 2, 0), (6, 4, 1)])
def test_ctrl_c_keeps_what_was_measured_and_leaves_the_model_alone(
    subject: Any, found: Repair, at: int, singles: int, rungs: int
) -> None:
    before = state(subject.model)
    stopped = repaired(subject, progress=interrupting(at))
    assert stopped.interrupted and not stopped.reached
    assert (len(stopped.singles), len(stopped.ladder)) == (singles, rungs)
    assert stopped.notes[-1] == "interrupted: not every change was tried"
    assert headline(stopped).startswith("Stopped early")
    assert state(subject.model) == before


def test_ctrl_c_inside_a_run_of_the_model(subject: Any) -> None:
    runs = 0

    def hook(_module: nn.Module, _args: Any) -> None:
        nonlocal runs
        runs += 1
        if runs == 8:
            raise KeyboardInterrupt

    handle = subject.model.register_forward_pre_hook(hook)
    before = state(subject.model)
    stopped = repaired(subject)
    assert stopped.interrupted and state(subject.model) == before
    handle.remove()


def test_the_model_is_left_as_it_was(subject: Any) -> None:
    before = state(subject.model)
    repaired(subject, ("softmax", "gelu"))
    assert state(subject.model) == before


def test_time_is_limited(subject: Any) -> None:
    stopped = repaired(subject, limit_s=0.0)
    assert stopped.interrupted and stopped.counterfactuals == ()
    assert stopped.notes == ("stopped after 0 s: not every change was tried",)


def test_progress_counts_up_to_the_most_that_it_can_be(subject: Any) -> None:
    told: list[tuple[str, int, int]] = []
    repaired(subject, progress=lambda *step: told.append(step))
    most = told[0][2]
    assert told[0] == (f"What if: {most} runs at most", 0, most)
    assert [done for _text, done, _total in told] == sorted(done for _text, done, _total in told)
    assert all(total == most for _text, _done, total in told)
    assert told[-1] == ("What if: done", most, most)
    assert any(text == "What if: softmax exact (2 calls)" for text, _done, _total in told)


def test_a_trace_of_another_run_is_refused(subject: Any) -> None:
    other = rerun(subject, (), ("softmax",))
    with pytest.raises(InputError, match=r"the trace is of another run: it has f\(x\) = "):
        repair(
            subject.model, subject.inputs * 2, subject.baselines, target=subject.target, explicit=("softmax",),
            additional_forward_args=subject.additional_forward_args, trace=other,
            details=tracer.Details(names=subject.names),
        )  # fmt: skip
    again = repaired(subject, trace=other)
    assert again.trace is other and again.reached


def test_a_bound_is_above_zero(subject: Any) -> None:
    with pytest.raises(InputError, match="bound is 0; expected a relative delta above 0, such as "):
        repaired(subject, bound=0)


def test_one_change_that_cannot_be_measured_is_noted_and_passed_over(
    subject: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    impossible = Candidate("wonders exact (1 call)", ("wonder",), (), 1.0)
    monkeypatch.setattr("tracer.counterfactuals.search.candidates", lambda *_: (impossible, *candidates(*_)))
    found = repaired(subject)
    assert found.reached and all(single.pattern != "wonder" for single in found.singles)
    (note,) = found.notes
    assert note.startswith("wonders exact (1 call) was not measured: no call that needs a rule matches 'wonder'")


def test_what_is_stored_reads_back_as_the_same_repair(found: Repair) -> None:
    amend(found.trace, counterfactuals=found.counterfactuals)
    stored = stored_repair(found.trace)
    assert [run.rules for run in stored.counterfactuals] == [run.rules for run in found.counterfactuals]
    assert headline(stored) == headline(found)
    assert list(ladder_lines(stored)) == list(ladder_lines(found))


def test_the_table_of_the_ladder(found: Repair) -> None:
    lines = list(ladder_lines(found, 80))
    assert lines[0].split() == ["step", "change", "delta", "of", "the", "change"]
    assert lines[1].split()[:3] == ["0", "as", "recorded"]
    for line, rung in zip(lines[2:], found.ladder, strict=False):
        assert line.strip().startswith(f"{rung.step}  {rung.change}")
    assert lines[-2].startswith("delta with one change alone: ")
    assert lines[-1] == "to confirm: " + " ".join(f"--rule {rule}" for rule in found.rules)
    assert all(len(line) <= 80 for line in lines[:-2])


class _Scripted:
    """An attribution whose delta depends on the rules as told, and that runs nothing."""

    method, base = "gradient", ()

    def __init__(self, deltas: dict[frozenset[str], float]) -> None:
        self.deltas = deltas
        self.recordings = 0

    def delta(self, rules: Sequence[str]) -> Any:
        return np.array([self.deltas.get(frozenset(rule[0] for rule in rules), 1.0)])

    def recorded(self, rules: Sequence[str]) -> Any:
        self.recordings += 1
        columns = SimpleNamespace(paths=[], call=np.zeros(0, int), self_leak=np.zeros(0))
        return SimpleNamespace(run=SimpleNamespace(delta=self.delta(rules)), columns=columns, close=lambda: None)


def scripted(deltas: dict[str, float]) -> Repair:
    """The search over changes a, b, c with these deltas; f changes by 1."""
    with write_synthetic(None).trace() as trace:
        start = Repair(trace, np.array([1.0]), np.array([1.0]), (), ())
        pool = [Candidate(f"{name} exact", (name,), (), 1.0) for name in "abc"]
        attribution: Any = _Scripted({frozenset(names): delta for names, delta in deltas.items()})
        return _Search(attribution, start, pool, False, None, None).run("family")


def test_a_rung_that_proves_needless_is_taken_out() -> None:
    found = scripted({"a": 0.5, "b": 0.6, "c": 0.9, "ab": 0.3, "ac": 0.4, "bc": 1e-5, "abc": 1e-6})
    assert [rung.pattern for rung in found.ladder] == ["b", "c"]
    assert [rung.step for rung in found.ladder] == [1, 2]
    assert [float(rung.delta[0]) for rung in found.ladder] == [0.6, 1e-5]


def test_where_all_families_do_not_suffice_everything_is_made_exact() -> None:
    found = scripted({"a": 0.5, "b": 0.6, "c": 0.9, "ab": 0.4, "abc": 0.3, "*": 1e-6})
    assert [rung.pattern for rung in found.ladder] == ["a", "b", "c", "*"]
    assert found.reached and found.rules == ("*=exact",)
    stuck = scripted({"a": 0.5, "*": 0.2})
    assert not stuck.reached
    assert headline(stuck).startswith(
        "Not under 0.1 % of the output's change: 4 changes (a, b, c and everything exact)"
    )
