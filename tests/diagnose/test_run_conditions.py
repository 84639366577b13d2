"""Faults in how a run was made that goes through: found and named first, and not found in a clean twin."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import DeepLift
from torch import nn

import tracer
from tests.diagnose.run_models import Functional, Masked, MyReLU, Net, ReadAgain, ReadView, looking, made, pair
from tests.models import Residual
from tracer.records import Finding, Note, NoteKind
from tracer.tracefile.trace import Trace


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the model is in training mode")
        warnings.filterwarnings("ignore", message=".*Full backward hook.*")
        yield


def record(model: nn.Module, **options: Any) -> Trace:
    return tracer.record(model, *pair(), target=0, **options)


def first(trace: Trace) -> Finding:
    found = tracer.diagnose(trace)
    assert found, "nothing is found"
    return found[0]


def notes(trace: Trace, kind: NoteKind) -> list[Note]:
    return [note for note in trace.notes if note.kind == kind]


def hooked(model: Any, module: str) -> Any:
    model.handle = getattr(model, module).register_full_backward_hook(looking)
    return model


def test_a_module_that_captum_skips_for_its_hook() -> None:
    model = hooked(made(Net()), "act")
    trace = record(model)
    finding = first(trace)
    assert (finding.kind, finding.path) == ("hook-skipped", "act")
    assert finding.message == "captum skips act and treats it as linear: ReLU has the backward hook looking"
    assert finding.advice == "remove the hook before attributing"
    assert finding.share > 0.5
    assert len(model.act._backward_hooks) == 1
    model.handle.remove()
    assert tracer.diagnose(record(model)) == ()


def test_a_hook_on_a_module_without_a_rule_changes_nothing() -> None:
    trace = record(hooked(made(Net()), "first"))
    assert not notes(trace, "hook skipped")
    assert tracer.diagnose(trace) == ()


def test_exact_rules_see_through_backward_hooks() -> None:
    for module in ("first", "act"):
        trace = record(hooked(made(Net()), module), method="exact")
        assert np.abs(trace.delta).max() < 1e-12
        assert {node.kind for node in trace.nodes} == {"module"}
        assert trace.notes == ()


def test_a_subclass_that_captum_does_not_know() -> None:
    model: Any = made(Net())
    model.act = MyReLU()
    trace = record(model)
    finding = first(trace)
    assert (finding.kind, finding.path) == ("subclass-ignored", "act/relu")
    assert finding.message.startswith("captum treats act as linear: MyReLU is a ReLU, and captum has rules for the")
    assert finding.advice == "use nn.ReLU itself, or use method exact"
    assert not notes(record(model, method="exact"), "subclass ignored")
    model.act = nn.ReLU()
    assert tracer.diagnose(record(model)) == ()


def test_a_subclass_that_does_not_leak_is_no_fault() -> None:
    model: Any = made(Net())
    model.act2 = MyReLU()
    with torch.no_grad():
        model.second.bias.fill_(100.0)  # never negative: linear between input and reference
    trace = record(model)
    assert [note.path for note in notes(trace, "subclass ignored")] == ["act2"]
    assert tracer.diagnose(trace) == ()


TRAINING: dict[str, tuple[nn.Module, str, str]] = {
    "dropout": (
        nn.Dropout(0.5), "Dropout with p=0.5", "input and reference are given different random masks",
    ),
    "batch norm": (
        nn.BatchNorm1d(4), "BatchNorm1d", "input and reference share the statistics of their batch",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAINING)
def test_training_mode(name: str) -> None:
    module, detail, effect = TRAINING[name]
    model: Any = made(Net())
    model.act2 = module.double()
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match=r"the model is in training mode: act2 .*call model.eval\(\) first"):
        trace = record(model)
    finding = first(trace)
    assert (finding.kind, finding.path) == ("training-mode", "act2")
    assert finding.message == f"act2 is in training mode ({detail}): {effect}"
    assert finding.advice == "call model.eval() first"
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    model.eval()
    assert tracer.diagnose(record(model)) == ()


def test_dropout_of_nothing_is_no_fault() -> None:
    model: Any = made(Net())
    model.act2 = nn.Dropout(0.0)
    trace = record(model.train())
    assert trace.notes == ()
    assert tracer.diagnose(trace) == ()


def test_batch_norm_without_running_statistics_is_always_in_training() -> None:
    model: Any = made(Net())
    model.act2 = nn.BatchNorm1d(4, track_running_stats=False).double().eval()
    finding = first(record(model))
    assert finding.kind == "training-mode"
    assert "BatchNorm1d without running statistics" in finding.message
    assert finding.advice.startswith("give batch norm running statistics (track_running_stats=True)")


def test_functional_dropout() -> None:
    finding = first(record(made(Functional())))
    assert (finding.kind, finding.path) == ("training-mode", "/dropout")
    assert finding.source is not None
    assert "tests/diagnose/run_models.py" in finding.source
    assert tracer.diagnose(record(made(Functional(training=False)))) == ()


@pytest.mark.parametrize("training", [True, False])
def test_functional_batch_norm(training: bool) -> None:
    class Normed(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            ones = torch.ones(4, dtype=x.dtype)
            h = nn.functional.batch_norm(self.first(x), 0 * ones, ones, training=training)
            out: torch.Tensor = self.last(h)
            return out

    trace = record(made(Normed()))
    assert [note.detail for note in notes(trace, "training mode")] == ["batch_norm"] * training
    assert [finding.kind for finding in tracer.diagnose(trace)][:1] == ["training-mode"] * training


def test_attention_with_dropout() -> None:
    class Attends(Net):
        rate = 0.5

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.first(x).unsqueeze(1)
            out: torch.Tensor = self.last(nn.functional.scaled_dot_product_attention(h, h, h, None, self.rate)[:, 0])
            return out

    trace = record(made(Attends()))
    (note,) = notes(trace, "training mode")
    assert note.detail == "scaled_dot_product_attention with dropout 0.5"
    Attends.rate = 0.0
    assert not notes(record(made(Attends())), "training mode")


def test_half_precision_disables_captums_guard() -> None:
    model = made(Net()).half()
    x, reference = (tensor.half() for tensor in pair())
    with torch.no_grad():
        model.second.weight[1] = 0  # one input of act2 that never differs
    trace = tracer.record(model, x, reference, target=0)
    finding = first(trace)
    assert (finding.kind, finding.path) == ("half-underflow", "act2")
    assert finding.message.startswith("3 multipliers of act2 (ReLU) are NaN or infinite: 3 of its inputs equal the")
    assert finding.issues == (835,)
    full = tracer.record(model.float(), x.float(), reference.float(), target=0)
    assert tracer.diagnose(full) == ()


def test_the_last_call_without_numbers_is_where_they_began() -> None:
    model = made(Net()).half()
    x, reference = (tensor.half() for tensor in pair())
    with torch.no_grad():
        model.first.weight[1] = 0
        model.second.weight[1] = 0
    finding = first(tracer.record(model, x, reference, target=0))
    assert finding.path == "act2"
    assert len(finding.nodes) == 1  # what reaches act is NaN already

    class Parallel(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.last(self.act(self.first(x)) + self.act2(self.second(x)))
            return out

    model = made(Parallel()).half()
    with torch.no_grad():
        model.first.weight[1] = 0
        model.second.weight[1] = 0
    finding = first(tracer.record(model, x, reference, target=0))
    assert finding.path == "act2"
    assert len(finding.nodes) == 2


def test_infinities_in_single_precision_are_another_matter() -> None:
    model = made(Net()).float()
    x, reference = (tensor.float() for tensor in pair())
    x[0, 0] = torch.inf
    trace = tracer.record(model, x, reference, target=0)
    assert any(node.nonfinite for node in trace.nodes)
    assert "half-underflow" not in [finding.kind for finding in tracer.diagnose(trace)]


def test_a_reference_under_the_inputs_mask() -> None:
    model, (x, reference) = made(Masked()), pair()
    mask, own = torch.ones(3, 4, dtype=torch.float64), torch.zeros(3, 4, dtype=torch.float64)
    options: dict[str, Any] = {"target": 0, "additional_forward_args": mask}
    trace = tracer.record(model, x, reference, **options, baseline_forward_args=own)
    expected = float((model(reference, mask) - model(reference, own))[:, 0].abs().sum().detach())
    (note,) = notes(trace, "shared extras")
    assert note.amount == pytest.approx(expected, rel=1e-12)
    finding = first(trace)
    assert finding.kind == "shared-extras"
    assert finding.issues == (375,)
    assert finding.evidence == (("difference of f(x')", note.amount),)
    assert tracer.diagnose(tracer.record(model, x, reference, **options, baseline_forward_args=mask)) == ()
    assert tracer.record(model, x, reference, **options).notes == ()
    exact = tracer.record(model, x, reference, **options, baseline_forward_args=own, method="exact")
    assert np.allclose(exact.run.output_reference, model(reference, own)[:, 0].detach().numpy(), rtol=1e-12)
    assert not notes(exact, "shared extras")


@pytest.mark.parametrize("model", [ReadAgain(), ReadView()], ids=["twice", "view"])
def test_an_in_place_module_whose_input_is_read_again(model: nn.Module) -> None:
    trace = record(made(model))
    finding = first(trace)
    assert (finding.kind, finding.path) == ("in-place-target", "act")
    assert finding.message.startswith(
        "act overwrites a tensor that is read again; captum gives it a copy, so another function is explained: "
        "f(x) − f(x') changes by "
    )
    x, reference = pair()
    (note,) = notes(trace, "in-place input")
    observed = trace.run.output - trace.run.output_reference
    alone = (model(x) - model(reference))[:, 0].detach().numpy()
    assert note.amount == pytest.approx(np.abs(observed - alone).max(), rel=1e-9)
    assert note.amount > 0.01


def test_an_in_place_module_of_its_own_is_no_fault() -> None:
    model: Any = made(Net())
    model.act, model.act2 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)
    trace = record(model)
    assert trace.notes == ()
    assert tracer.diagnose(trace) == ()
    assert tracer.diagnose(record(made(ReadAgain(inplace=False)))) == ()
    model.second = nn.Identity()  # captum has act2 work on a copy of what act gave
    assert record(model).notes == ()
    assert not notes(record(made(Residual())), "in-place input")


def test_a_copy_that_changes_nothing_is_no_fault() -> None:
    class Idle(ReadAgain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.first(x)
            y = self.act(h)
            out: torch.Tensor = self.last(y) + 0 * h.sum()
            return out

    trace = record(made(Idle()))
    (note,) = notes(trace, "in-place input")
    assert note.amount < 1e-12
    assert "in-place-target" not in [finding.kind for finding in tracer.diagnose(trace)]


@pytest.mark.filterwarnings("ignore:.*Setting forward, backward hooks.*", "ignore:.*required_grads.*")
def test_in_a_watched_run_the_change_of_function_is_not_known() -> None:
    model, (x, reference) = made(ReadAgain()), pair()
    with tracer.watch(model) as watching:
        DeepLift(model).attribute(x, reference, target=0)
    finding = first(watching.trace)
    assert finding.kind == "in-place-target"
    assert finding.message.endswith("so another function is explained")
    assert finding.evidence == ()


@pytest.mark.parametrize(
    ("settings", "overlap"),
    [((2,), 0.0), ((4, 2), 1.0), ((2, 3), 0.0), ((3, 2, 1), 1.0), ((2, 2, 0, 2), 1.0), ((2, 2, 0, 3), 0.0)],
)
def test_pools_note_their_settings_and_whether_their_windows_overlap(settings: Any, overlap: float) -> None:
    model = made(nn.Sequential(nn.Unflatten(1, (1, 8)), nn.MaxPool1d(*settings), nn.Flatten()))
    x, reference = pair(width=8)
    (note,) = [note for note in noted_by_captum(model, x, reference) if note.kind == "pool settings"]
    pool = model[1]  # type: ignore[index]
    assert note.path == "1"
    assert note.detail.startswith(f"kernel_size={settings[0]}, stride={pool.stride}, padding={pool.padding}, dilation=")
    assert note.amount == overlap


def noted_by_captum(model: nn.Module, x: torch.Tensor, reference: torch.Tensor) -> tuple[Note, ...]:
    """The notes of a captum run, also where `max_unpool` fails at dilated windows."""
    try:
        return tracer.record(model, x, reference, target=0).notes
    except tracer.errors.ObservationError as error:
        return tuple(error.trace.notes)


def test_two_axes_of_windows() -> None:
    square = [nn.Unflatten(1, (1, 4, 4)), nn.MaxPool2d((2, 3), (2, 1)), nn.Flatten(), nn.Linear(4, 1)]
    trace = tracer.record(made(nn.Sequential(*square)), *pair(width=16), target=0)
    (note,) = notes(trace, "pool settings")
    assert note.detail == "kernel_size=(2, 3), stride=(2, 1), padding=0, dilation=1, ceil_mode=False"
    assert note.amount == 1.0


def test_notes_of_exact_rules_keep_their_figures() -> None:
    class Detached(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h: torch.Tensor = self.first(x)
            out: torch.Tensor = self.last(torch.special.erfcx(h) + h.detach())
            return out

    trace = record(made(Detached()), method="exact")
    found = {note.kind: note for note in trace.notes}
    assert set(found) == {"approximated", "cut"}
    assert found["approximated"].path == "/special_erfcx"
    assert abs(found["approximated"].amount) < 1e-9
    assert found["cut"].source is not None
    assert found["cut"].source.endswith(" forward")
    assert found["cut"].detail == "detach, rule gradient"
    assert trace.run.message.startswith("approximated: ")


class Constant(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.full((x.shape[0], 3), 2.5, dtype=x.dtype)


class Cut(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = super().forward(x).detach()
        return out


@pytest.mark.parametrize("model", [Constant(), Cut()], ids=["constant", "detached"])
@pytest.mark.parametrize("method", ["exact", "gradient"])
def test_outputs_are_true_where_no_gradient_reaches_them(model: nn.Module, method: Any) -> None:
    x, reference = pair()
    trace = tracer.record(made(model), x, reference, target=0, method=method)
    expected, expected_reference = model(x)[:, 0].detach().numpy(), model(reference)[:, 0].detach().numpy()
    assert np.allclose(trace.run.output, expected, rtol=1e-12)
    assert np.allclose(trace.run.output_reference, expected_reference, rtol=1e-12)
    assert np.allclose(trace.delta, expected_reference - expected, rtol=1e-9, atol=1e-12)
    assert np.allclose(np.sum([node.self_leak for node in trace.nodes], axis=0), trace.delta, atol=1e-12)
