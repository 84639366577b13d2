"""Faults that end captum's run: named in the error, with the calls so far kept and the model left as it was."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from captum.attr import DeepLift
from torch import nn

import tracer
from tests.diagnose.run_models import (
    Added,
    Embedded,
    Indexed,
    Keyword,
    Net,
    NoGrad,
    Overwritten,
    Reused,
    Wrapped,
    made,
    pair,
)
from tracer.errors import InputError, ModelError, ObservationError
from tracer.records import Finding
from tracer.tracefile.trace import Trace

HERE = "tests/diagnose/run_models.py"
ENDING: dict[str, tuple[nn.Module, str, str, str]] = {
    "reused": (
        Reused(), "reused-module", "act",
        "captum's DeepLift ended with RuntimeError: act (ReLU) runs 2 times, and captum keeps one input and one output "
        "a module; give each call a module of its own, or use method exact, which takes a module as often as it runs",
    ),
    "keyword": (
        Keyword(), "keyword-call", "act",
        "captum's DeepLift ended with IndexError: captum sees positional inputs only: act, ReLU called with input=... "
        "and no positional argument; pass the input by position, or use method exact",
    ),
    "no grad": (
        NoGrad(), "no-grad-call", "act",
        "captum's DeepLift ended with RuntimeError: captum needs a gradient at every module that it rules: act, ReLU "
        "runs under torch.no_grad(); let its gradient through: a function instead of the module, or method exact, "
        "would run, but nothing that goes this way would be attributed",
    ),
    "overwritten": (
        Overwritten(), "in-place-target", "act",
        f"captum's DeepLift ended with RuntimeError: the output of act is overwritten by add in place at {HERE}:LINE "
        "forward, and the rules need it; write to a new tensor: y = y + 1 for y += 1",
    ),
    "indexed": (
        Indexed(), "in-place-target", "pool",
        "captum's DeepLift ended with AssertionError: pool returns its indices too, and captum's hooks take one output;"
        " make the pool with return_indices=False, or use method exact",
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Setting forward, backward hooks.*")
        warnings.filterwarnings("ignore", message=".*required_grads has been set.*")
        warnings.filterwarnings("ignore", message=".*dtype.*")
        yield


def state(model: nn.Module) -> dict[str, Any]:
    """Everything on the modules that a run could leave something in."""
    return {
        path: {key: list(value) if isinstance(value, dict) else value for key, value in vars(module).items()}
        for path, module in model.named_modules()
    }


def first(trace: Trace) -> Finding:
    found = tracer.diagnose(trace)
    assert found, "nothing is found"
    return found[0]


@pytest.mark.parametrize("name", ENDING)
def test_what_ends_a_run_is_named_and_the_calls_so_far_are_kept(name: str, tmp_path: Path) -> None:
    model, kind, path, text = ENDING[name]
    made(model)
    before = state(model)
    file = tmp_path / "run.dltrace"
    with pytest.raises(ObservationError) as caught:
        tracer.record(model, *pair(), target=0, path=file)
    shown, _, kept = str(caught.value).partition(" (its calls so far are in ")
    assert kept == f"{file})"
    if name == "overwritten":
        number = shown.partition(f"{HERE}:")[2].partition(" ")[0]
        assert Path(HERE).read_text().splitlines()[int(number) - 1].strip() == "h += 1"
        shown = shown.replace(f":{number} forward", ":LINE forward")
    assert shown == text
    assert state(model) == before
    for trace in (tracer.open_trace(file), caught.value.trace):
        assert trace.run.status == "failed"
        assert trace.run.message.startswith(type(caught.value.__cause__).__name__ + ": ")
        finding = first(trace)
        assert (finding.kind, finding.path) == (kind, path)
        assert finding.node is not None
        assert trace.columns.paths[finding.node] == path
        assert trace.columns.paths[0] == ""


@pytest.mark.parametrize("name", ENDING)
def test_a_watched_run_ends_with_its_own_error_and_is_named_afterwards(name: str) -> None:
    model, kind, path, _text = ENDING[name]
    made(model)
    x, reference = pair()
    with pytest.raises((RuntimeError, IndexError, AssertionError)) as caught, tracer.watch(model) as watching:
        DeepLift(model).attribute(x, reference, target=0)
    assert not isinstance(caught.value, tracer.errors.TracerError)
    assert watching.trace.run.message == f"{type(caught.value).__name__}: {caught.value}"
    assert (first(watching.trace).kind, first(watching.trace).path) == (kind, path)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("model", [Net(), Added(), Indexed(return_indices=False)], ids=["net", "added", "pool"])
def test_clean_twins_end_well_and_nothing_is_found(model: nn.Module) -> None:
    trace = tracer.record(made(model), *pair(), target=0)
    assert trace.run.status == "complete"
    assert tracer.diagnose(trace) == ()


@pytest.mark.parametrize("name", [name for name in ENDING if name != "no grad"])
def test_exact_rules_need_no_change(name: str) -> None:
    trace = tracer.record(made(ENDING[name][0]), *pair(), target=0, method="exact")
    assert abs(trace.delta).max() < 1e-12
    assert tracer.diagnose(trace) == ()


def test_captums_rules_emulated_do_not_fail_at_keywords() -> None:
    trace = tracer.record(made(Keyword()), *pair(), target=0, rules=["*=captum"])
    assert [note.kind for note in trace.notes] == ["keyword call"]
    assert "keyword-call" not in [finding.kind for finding in tracer.diagnose(trace)]


def test_a_reused_module_is_counted() -> None:
    class Thrice(Reused):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(self.act(x))

    with pytest.raises(ObservationError, match=r"act \(ReLU\) runs 3 times") as caught:
        tracer.record(made(Thrice()), *pair(), target=0)
    finding = first(caught.value.trace)
    assert finding.evidence == (("calls", 3.0),)
    assert finding.issues == (199, 578, 934)
    assert [caught.value.trace.columns.paths[node] for node in finding.nodes] == ["act"] * 3


def test_a_failure_of_another_kind_is_not_put_down_to_a_reused_module() -> None:
    class Breaks(Reused):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) @ torch.ones(7, dtype=x.dtype)

    with pytest.raises(ObservationError, match="ended with RuntimeError: size mismatch") as caught:
        tracer.record(made(Breaks()), *pair(), target=0)
    assert [note.kind for note in caught.value.trace.notes] == ["reused module"]
    assert tracer.diagnose(caught.value.trace) == ()


def test_token_ids_leave_a_trace_that_says_where_to_attribute(tmp_path: Path) -> None:
    file, ids = tmp_path / "ids.dltrace", torch.ones(2, 5, dtype=torch.long)
    text = (
        "the input has dtype int64; DeepLIFT needs floating point: attribute to the output of embedding instead of to "
        "token ids"
    )
    for method in ("captum", "exact"):
        with pytest.raises(InputError) as caught:
            tracer.record(Embedded(), ids, target=0, method=method, path=file, force=True)  # type: ignore[arg-type]
        assert str(caught.value) == text
        trace = tracer.open_trace(file)
        assert (trace.run.status, trace.run.message) == ("failed", f"InputError: {text}")
        assert trace.run.examples == 2
        finding = first(trace)
        assert finding.kind == "integer-input"
        assert finding.message == "the input has dtype int64, which has no differences to share out"
        assert finding.advice == "attribute to the output of embedding instead of to token ids"
        assert finding.issues == (347,)


def test_token_ids_are_named_in_a_watched_run_too() -> None:
    model = Embedded()
    with pytest.raises(RuntimeError), tracer.watch(model) as watching:
        DeepLift(model).attribute(torch.ones(2, 5, dtype=torch.long), target=0)
    assert first(watching.trace).kind == "integer-input"
    assert [node.path for node in watching.trace.nodes] == ["", "embedding", "last"]


def test_a_dict_ends_a_watched_run_and_is_unwrapped_in_a_recorded_one() -> None:
    model, (x, reference) = made(Wrapped()), pair()
    with pytest.raises(TypeError, match=r"chunk\(\)"), tracer.watch(model) as watching:
        DeepLift(model).attribute(x, reference, target=0)
    finding = first(watching.trace)
    assert finding.kind == "non-tensor-output"
    assert finding.message == "the model returns a dict of logits, and captum takes a tensor only"
    assert finding.issues == (480,)
    for method in ("captum", "exact"):
        trace = tracer.record(model, x, reference, target=0, method=method)  # type: ignore[arg-type]
        (note,) = trace.notes
        assert note.kind == "non-tensor output"
        assert note.detail == "dict of logits; its logits, or first tensor, are explained"
        assert tracer.diagnose(trace) == ()
    assert tracer.record(made(Net()), x, reference, target=0).notes == ()


def test_an_output_without_a_tensor_is_named() -> None:
    class Empty(Net):
        def forward(self, x: torch.Tensor) -> Any:
            return {"loss": None}

    with pytest.raises(ModelError, match="the model gives dict") as caught:
        tracer.record(Empty(), torch.ones(1, 4))
    assert first(caught.value.trace).kind == "non-tensor-output"


def test_a_failed_exact_run_keeps_its_calls_so_far(tmp_path: Path) -> None:
    class Sometimes(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.act(self.first(x))
            if x.sum() > 0:
                raise RuntimeError("too much")
            out: torch.Tensor = self.last(h)
            return out

    file = tmp_path / "x.dltrace"
    with pytest.raises(ObservationError) as caught:
        tracer.record(Sometimes(), torch.ones(1, 4), target=0, method="exact", path=file)
    assert str(caught.value) == f"the attribution ended with RuntimeError: too much (its calls so far are in {file})"
    trace = tracer.open_trace(file)
    assert (trace.run.status, trace.run.message) == ("failed", "RuntimeError: too much")
    assert [node.path for node in trace.nodes][:3] == ["", "first", "act"]
    # A slip of the caller's leaves nothing behind.
    for target, text in ((7, "target 7 does not fit"), (None, "the output has 3 numbers an example")):
        with pytest.raises(InputError, match=text) as slip:
            tracer.record(Net(), torch.ones(1, 4), target=target, method="exact", path=tmp_path / "y.dltrace")
        assert slip.value.trace is None
        assert not (tmp_path / "y.dltrace").exists()


def test_recordings_do_not_nest() -> None:
    model, (x, reference) = made(Net()), pair()
    message = "a recording is under way in this thread already: end its `with` block before the next one begins"
    for method in ("captum", "exact", "gradient"):
        with pytest.raises(ObservationError) as caught, tracer.watch(model):
            tracer.record(model, x, reference, target=0, method=method)  # type: ignore[arg-type]
        assert str(caught.value) == message
    with pytest.raises(ObservationError, match="under way in this thread"), tracer.watch(model), tracer.watch(Net()):
        pass
    assert torch._C._len_torch_function_stack() == 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert tracer.record(model, x, reference, target=0).run.status == "complete"


def test_of_several_reused_modules_the_one_that_captum_failed_at_is_named() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.tanh, self.relu, self.last = nn.Linear(4, 6), nn.Tanh(), nn.ReLU(), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.first(x)
            for _ in range(2):
                h = self.relu(self.tanh(h) + 1) - 0.5
            out: torch.Tensor = self.last(h)
            return out

    with pytest.raises(tracer.errors.ObservationError) as caught:
        tracer.record(Twice(), torch.randn(2, 4), target=1)
    trace = caught.value.trace
    assert trace is not None
    (finding,) = tracer.diagnose(trace)
    assert f"Module {trace.nodes[finding.nodes[0]].type}(" in trace.run.message
    assert finding.message.startswith("relu (ReLU) runs 2 times (and so does 1 more), and captum keeps")
