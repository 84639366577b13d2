"""A run leaves the model, the user's tensors and the process as they were: after success, errors and Ctrl-C."""

from __future__ import annotations

import copy
import gc
import logging
import os
import re
import select
import signal
import subprocess
import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import DeepLift
from torch import nn
from torch.overrides import BaseTorchFunctionMode
from transformers.utils import logging as settings

import tracer
from tests.faults import Fault, Points, approaching, calls_of, spread, steps_in
from tests.model_state import State, state_of
from tests.models import Cube
from tests.tiny import TINY_TEXT, make_tiny
from tracer.errors import ObservationError, TracerError
from tracer.model import process
from tracer.model.exclusive import in_use
from tracer.model.explicit import explicit
from tracer.model.hooks import listening
from tracer.model.process import Switch, no_warnings, quiet
from tracer.model.undo import Level, undoing, undoing_all
from tracer.recording.reference_log import ReferenceLog
from tracer.recording.subject import record_subject
from tracer.subject.run import RunOptions
from tracer.subject.text import make_subject
from tracer.tracefile.trace import Trace

Entry = Callable[[nn.Module], Any]
X = torch.randn(2, 4, generator=torch.manual_seed(1), requires_grad=True)
X.grad = torch.ones(2, 4)
REFERENCE = torch.zeros(2, 4)
EXTRA = torch.ones(2, 6)

HOOK_FUNCTIONS = (
    "enter", "leave", "__torch_function__", "before", "after", "unwrap", "_arrive", "_sent", "note",
    "add", "rule", "_custom", "pair",
    "multipliers", "_leak", "begin", "forward", "backward", "put_tensor", "_store", "finish", "settle", "next", "_step",
    "_panel", "_probe", "batch_note", "abandon", "attributed", "captum_inputs", "captum_rule", "_observe", "end",
    "returned", "result_of", "of_result",
)  # fmt: skip
HOOK_POINTS = calls_of(*HOOK_FUNCTIONS)
STEPS = steps_in(
    f"{os.sep}tracer{os.sep}", "contextlib.py", "_core/deep_lift.py", "captum/_utils/common.py",
    "captum/_utils/gradient.py", "torch/overrides.py", "grad_mode.py", "autograd/graph.py", "torch/utils/hooks.py",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Net(nn.Module):
    """Batch norm with buffers, modules that captum rules, functions that it does not see, a custom function."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.relu = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU()
        self.tail = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3), nn.Softmax(-1))
        self.calls: torch.Tensor
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        if self.training:
            self.calls = self.calls + 1
        h = self.norm(self.first(x))
        h = self.relu(h) * torch.sigmoid(Cube.apply(h))  # type: ignore[no-untyped-call]
        return self.tail(h if scale is None else h * scale.add_(1))


def make_net(moving: bool = True) -> nn.Module:
    """A model that somebody uses: some parameters frozen, some with a gradient, hooks of its own.

    `moving`: it is in training mode, where its own code and batch norm write to buffers.
    """
    torch.manual_seed(3)
    model = Net().train(moving)
    model.tail.training = True
    model.first.bias.requires_grad_(False)
    model.first.weight.grad = torch.randn(6, 4)
    model.tail[0].register_forward_hook(lambda *_call: None)
    model.tail[0].register_forward_pre_hook(lambda _module, _args, _kwargs: None, with_kwargs=True)
    model.tail[0].register_forward_hook(lambda *_call: None, always_call=True)
    model.tail[1].register_full_backward_hook(lambda *_call: None)
    model.tail[2].weight.register_hook(lambda _gradient: None)
    model.tail[2].weight.register_post_accumulate_grad_hook(lambda _parameter: None)
    return model


def watched(model: nn.Module, **options: Any) -> Trace:
    with tracer.watch(model, **options) as watching:
        DeepLift(model).attribute(X, REFERENCE, target=1, additional_forward_args=EXTRA.clone())
    return watching.trace


def recorded(method: Any, **options: Any) -> Callable[[nn.Module], Trace]:
    return lambda model: tracer.record(
        model, X, REFERENCE, target=1, method=method, additional_forward_args=EXTRA, **options
    )


ENTRIES: dict[str, Entry] = {
    "watch": watched,
    "captum": recorded("captum"),
    "captum, emulated": recorded("captum", rules=["relu=exact"]),
    "exact": recorded("exact"),
    "gradient": recorded("gradient"),
    "own reference extras": recorded("captum", baseline_forward_args=EXTRA * 2),
    "DeepLift": lambda model: tracer.DeepLift(model).attribute(X, REFERENCE, 1, EXTRA),
    "layers": lambda model: tracer.DeepLift(model).layer_contributions(X, REFERENCE, 1, EXTRA),
    "repair": lambda model: tracer.repair(model, X, REFERENCE, target=1, additional_forward_args=EXTRA),
}


FEW = {"repair": 4}
"""Entries that take long, and how many times fewer points of theirs are tried."""
EVERYWHERE = "EVERY_POINT" in os.environ
"""Whether all points are tried, some minutes, and not a spread of them."""


def fresh(name: str) -> tuple[nn.Module, State]:
    model = make_net(moving=name != "watch")  # what captum itself moves in a watched block is the user's
    return model, state_of(model, X, REFERENCE, EXTRA)


def changes(before: State, model: nn.Module) -> list[str]:
    return before.difference(state_of(model, X, REFERENCE, EXTRA))


@pytest.mark.parametrize("name", ENTRIES)
def test_after_success(name: str) -> None:
    ENTRIES[name](fresh(name)[0])  # what torch loads at its first use adds filters of warnings
    model, before = fresh(name)
    ENTRIES[name](model)
    assert changes(before, model) == []


def ways_to_fail(name: str, points: Points, error: type[BaseException], most: int) -> Iterator[tuple[str, list[str]]]:
    """Each place at which a run was made to fail, with what it left behind while its error is still held."""
    run = ENTRIES[name]
    for _warm_up in range(2):
        model, _before = fresh(name)
        counting = Fault(points)
        with approaching(counting):
            run(model)
    assert counting.count > most / 2
    most = counting.count if EVERYWHERE else most // FEW.get(name, 1)
    for at in spread(counting.count - 1, most):  # the last point is the end of `approaching`
        model, before = fresh(name)
        fault = Fault(points, at, error("injected"))
        caught: list[BaseException] = []
        try:
            with approaching(fault):
                run(model)
        except (TracerError, error) as raised:
            caught.append(raised)
        if fault.place and error is KeyboardInterrupt and name != "repair":  # repair gives what it has measured
            assert [type(each) for each in caught] == [error], fault.place
        yield fault.place, changes(before, model)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("name", ENTRIES)
def test_after_an_exception_at_any_hook_point(name: str, error: type[BaseException]) -> None:
    left = [way for way in ways_to_fail(name, HOOK_POINTS, error, 32) if way[1]]
    assert left == []


def test_hook_points_are_functions_of_the_package() -> None:
    """A function that is renamed would be left out without a word."""
    sources = "".join(path.read_text() for path in Path(tracer.__file__).parent.rglob("*.py"))
    assert set(HOOK_FUNCTIONS) - set(re.findall(r"def (\w+)\(", sources)) == set()


@pytest.mark.parametrize("name", ENTRIES)
def test_after_ctrl_c_at_any_step(name: str) -> None:
    """At any step of Python's own but one: as the `with` block of `watch` ends, before its exit has begun."""
    level = Level()
    for place, left in ways_to_fail(name, STEPS, KeyboardInterrupt, 12):
        if re.fullmatch(r"watch\.py:\d+ __exit__ \(call\)", place):
            level.put_back()
        else:
            assert left == [], place


def test_what_an_interrupt_cut_short_is_undone_once_more() -> None:
    runs: list[str] = []

    def undo() -> None:
        runs.append("undo")
        if len(runs) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), undoing(undo):
        pass
    assert runs == ["undo", "undo"]
    open_ones = [undoing(lambda: runs.append("left open")), undoing(lambda: [][0])]
    entered = BaseTorchFunctionMode()  # type: ignore[no-untyped-call]

    @undoing_all
    def interrupted() -> None:
        entered.__enter__()  # type: ignore[no-untyped-call]
        torch.set_grad_enabled(False)
        for context in open_ones:
            context.__enter__()
        raise KeyboardInterrupt

    model = nn.Identity()
    before = state_of(model)
    with pytest.raises(IndexError):
        interrupted()
    assert before.difference(state_of(model)) == []
    assert runs[2:] == ["left open"]


def test_a_mode_that_torch_puts_back_late_is_no_recording_under_way() -> None:
    model = make_net(moving=False)
    stale = ReferenceLog(model)
    stale.__enter__()
    assert ENTRIES["exact"](model).run.status == "complete"
    stale.__enter__()
    assert watched(model).run.status == "complete"
    assert torch._C._len_torch_function_stack() == 0


@pytest.mark.parametrize("name", ["watch", "captum"])
def test_hooks_that_captum_was_setting_at_ctrl_c_are_taken_away(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    model, before = fresh(name)
    monkeypatch.setattr("captum.attr._core.deep_lift._register_backward_hook", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ENTRIES[name](model)
    assert changes(before, model) == []


def test_ctrl_c_as_a_watched_block_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[Any] = []

    def interrupted(*arguments: Any) -> Any:
        entered.append(listening(*arguments))
        entered[0].__enter__()
        raise KeyboardInterrupt

    model, before = fresh("watch")
    monkeypatch.setattr("tracer.recording.watch.listening", interrupted)
    with pytest.raises(KeyboardInterrupt):
        watched(model)
    assert changes(before, model) == []


class Faulty:
    """Hooks of the user's that raise at the call with a number, or in the backward pass through it."""

    def __init__(self, model: nn.Module, error: type[BaseException], backward: bool) -> None:
        self.at, self.count = -1, 0
        self._error, self._backward = error, backward
        for module in model.modules():
            module.register_forward_hook(self._called)

    def _called(self, _module: nn.Module, _args: Any, output: torch.Tensor) -> None:
        self.count += 1
        if self.count - 1 != self.at:
            return
        if not self._backward:
            raise self._error("the model's own")
        if output.requires_grad:
            output.register_hook(self._raise)

    def _raise(self, _gradient: torch.Tensor) -> None:
        raise self._error("the model's own")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("name", ENTRIES)
def test_after_an_exception_of_the_models_own(name: str, backward: bool, error: type[BaseException]) -> None:
    model, _before = fresh(name)
    faulty = Faulty(model, error, backward)
    ENTRIES[name](model)
    failed = 0
    for at in spread(faulty.count, 4 // FEW.get(name, 1)):
        model, _before = fresh(name)
        faulty = Faulty(model, error, backward)
        faulty.at = at
        before = state_of(model, X, REFERENCE, EXTRA)
        try:
            ENTRIES[name](model)
        except (TracerError, error):
            failed += 1
        assert changes(before, model) == [], at
    assert failed or name == "repair"


def test_what_captum_leaves_is_taken_away_and_what_the_user_set_is_not() -> None:
    model = make_net(moving=False)
    model.relu.input = "the user's own"  # type: ignore[assignment]
    faulty = Faulty(model, RuntimeError, backward=True)
    faulty.at = 7
    before = state_of(model)
    with pytest.raises(RuntimeError, match="the model's own"):
        watched(model)
    left = before.difference(state_of(model))
    assert [line for line in left if "relu.input" not in line] == []  # captum itself writes over that one
    lift, added = DeepLift(model), []
    with suppress(RuntimeError), tracer.watch(model):
        added.append(model.first.register_forward_hook(lambda *_call: None))
        faulty.count = 0
        lift.attribute(X, REFERENCE, target=1)
    assert added[0].id in model.first._forward_hooks


def test_random_numbers_of_exact_runs_are_wound_back() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.GELU(), nn.Linear(8, 2)).train()
    before = state_of(model)
    for entry in ("exact", "gradient", "captum, emulated"):
        method, rules = (entry, ()) if "," not in entry else ("captum", ["gelu=exact"])
        tracer.record(model, X, REFERENCE, target=1, method=method, rules=rules)  # type: ignore[arg-type]
        assert before.difference(state_of(model)) == []
    tracer.DeepLift(model).attribute(X, REFERENCE, 1)
    assert before.difference(state_of(model)) == []


@pytest.mark.parametrize("method", ["captum", "exact", "gradient"])
def test_a_model_that_writes_to_its_inputs_does_not_reach_the_users(method: Any) -> None:
    class Writing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
            if not x.requires_grad or not x.is_leaf:
                x.mul_(2)
            return self.last(torch.tanh(x) * scale.add_(1))

    model, x, scale = Writing(), torch.randn(2, 4), torch.ones(2, 4)
    before = state_of(model, x, REFERENCE, scale)
    tracer.record(model, x, REFERENCE, target=1, method=method, additional_forward_args=scale)
    assert before.difference(state_of(model, x, REFERENCE, scale)) == []


def test_a_graph_of_the_users_can_still_be_differentiated() -> None:
    model = make_net(moving=False)
    loss = model(X).sum()
    for name in ENTRIES:
        ENTRIES[name](model)
    loss.backward()
    assert model.tail[0].weight.grad is not None


# --- transformers, explicit -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def subject(tiny_tokenizer: Any) -> Any:
    return make_subject(make_tiny("bert", num_hidden_layers=1), tiny_tokenizer, TINY_TEXT, target=2)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    ("method", "kinds"),
    [("captum", ("softmax", "gelu")), ("captum", ("gelu",)), ("exact", ("softmax",)), ("captum", ())],
)
def test_a_transformer_through_the_command_lines_own_path(
    subject: Any, attention: str, method: str, kinds: tuple[str, ...]
) -> None:
    subject.model.inner.set_attn_implementation(attention)
    tensors = subject.inputs, subject.baselines, *subject.additional_forward_args
    ends: list[str] = []

    def run() -> None:
        record_subject(subject, RunOptions("", method=method, explicit=kinds), None, lambda *_said: None).close()

    run()
    subject.model.inner.set_attn_implementation(attention)
    before = state_of(subject.model, *tensors)
    counting = Fault(STEPS)
    with approaching(counting):
        run()
    assert before.difference(state_of(subject.model, *tensors)) == []
    for at in spread(counting.count - 1, 4)[:-1]:
        fault = Fault(STEPS, at, KeyboardInterrupt())
        try:
            with approaching(fault):
                run()
        except KeyboardInterrupt:
            ends.append(fault.place)
        assert before.difference(state_of(subject.model, *tensors)) == [], fault.place
    assert len(ends) == 3


def test_captums_table_is_put_back_by_the_last_that_needs_it() -> None:
    models = [nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 2)) for _ in range(2)]
    before = state_of(models[0])
    first, second = (explicit(model, ["gelu"], (REFERENCE,)) for model in models)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert [line.split(":")[0] for line in before.difference(state_of(models[0]))] == ["captum's table"]
    second.__exit__(None, None, None)
    assert before.difference(state_of(models[0])) == []


def test_a_setting_of_the_process_outlives_the_first_of_two_that_change_it() -> None:
    value = ["as it was"]
    switch = Switch(lambda: value[0], lambda new: value.__setitem__(0, new), "changed")
    one, other = switch.on(), switch.on()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert (value, switch.before) == (["changed"], "as it was")
    other.__exit__(None, None, None)
    assert (value, switch.before) == (["as it was"], "as it was")


# --- Ctrl-C, in earnest -----------------------------------------------------------------------------------------------

_CHILD = """
import signal, sys, warnings
import torch
warnings.simplefilter("ignore")
from tests.test_left_as_it_was import ENTRIES, fresh, changes

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in its background without it
names = [name for name in ENTRIES if name != "repair"]
for name in names:
    ENTRIES[name](fresh(name)[0])
made = {name: fresh(name) for name in names}
print("ready", flush=True)
interrupted = 0
while interrupted < int(sys.argv[1]):
    for name in names:
        model, before = made[name]
        try:
            ENTRIES[name](model)
            continue
        except KeyboardInterrupt:
            left = changes(before, model)
        interrupted += 1
        print(name, left, flush=True)
        if interrupted >= int(sys.argv[1]):
            break
"""


def interrupted(child: subprocess.Popen[str]) -> str:
    """What the child says to a Ctrl-C; to another where Python lost it, as in a finaliser or a callback of SQLite's."""
    assert child.stdout is not None
    for _ in range(5):
        child.send_signal(signal.SIGINT)
        if select.select([child.stdout], [], [], 10)[0]:
            break
    return child.stdout.readline()


def test_a_process_that_is_interrupted_at_random_moments_goes_on_with_the_model_as_it_was() -> None:
    moments = 20
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(moments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    late = threading.Timer(120, child.kill)  # rather than wait for ever for its next line
    late.daemon = True
    late.start()
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    random = np.random.default_rng(5)
    lines = []
    for _ in range(moments):
        # Between two answers the child is somewhere in a run, or between two.
        with suppress(subprocess.TimeoutExpired):
            child.wait(random.uniform(0.0, 0.05))
        line = interrupted(child)
        if not line:
            break
        lines.append(line)
    _out, error = child.communicate(timeout=60)
    late.cancel()
    assert child.returncode == 0, error
    assert len(lines) == moments
    assert [line for line in lines if not line.endswith(" []\n")] == []


# --- threads ----------------------------------------------------------------------------------------------------------


def in_threads(*works: Callable[[], Any]) -> list[BaseException]:
    """Run all at once; what they raised."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(works))

    def guarded(work: Callable[[], Any]) -> None:
        try:
            start.wait()
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def content(trace: Trace) -> list[Any]:
    """All that a trace says but when, and how long it took."""
    found: list[Any] = [trace.run.status, trace.run.delta.tobytes(), trace.notes]
    found += [
        (node.path, node.call, node.type, node.rule, node.leak.tobytes(), node.self_leak.tobytes())
        for node in trace.nodes
    ]
    return [*found, *(attribution.tobytes() for attribution in trace.attributions)]


def test_two_threads_that_record_two_models_do_not_mix(busy: None) -> None:
    names = ("watch", "exact", "captum", "captum, emulated")
    models = {name: make_net(moving=False) for name in names}
    alone = {name: content(ENTRIES[name](models[name])) for name in names}
    plain = copy.deepcopy(models["exact"])
    expected = plain(X)
    before = {name: state_of(model, REFERENCE, EXTRA) for name, model in models.items()}
    together: list[tuple[str, list[Any]]] = []

    def work(*names: str) -> None:
        for _ in range(4):
            together.extend((name, content(ENTRIES[name](models[name]))) for name in names)

    def run_plainly() -> None:
        for _ in range(60):
            assert torch.equal(plain(X), expected)

    assert in_threads(lambda: work("watch", "captum"), lambda: work("exact", "captum, emulated"), run_plainly) == []
    for name, found in together:
        assert found == alone[name], name
    for name, model in models.items():
        assert before[name].difference(state_of(model, REFERENCE, EXTRA)) == []


def test_a_thread_that_runs_a_model_while_another_records_it_is_not_recorded(busy: None) -> None:
    model = make_net(moving=False)
    alone, expected = content(ENTRIES["exact"](model)), model(X).detach()
    found, others = [], [0]

    def record() -> None:
        found.extend(content(ENTRIES["exact"](model)) for _ in range(6))

    def run_plainly() -> None:
        while len(found) < 6:
            assert torch.equal(model(X), expected)
            others[0] += 1

    assert in_threads(record, run_plainly) == []
    assert others[0] > 6
    assert all(each == alone for each in found)


class _CalledBetween(OrderedDict[int, bool]):
    """A table of hooks in which another thread runs the model just before and after every change."""

    def __init__(self, run: Callable[[], Any]) -> None:
        super().__init__()
        self._run = run
        self.errors: list[BaseException] = []
        self.changes = 0

    def _interrupted(self, change: Callable[..., Any], *arguments: Any) -> Any:
        self.changes += 1
        self.errors += in_threads(self._run)
        result = change(*arguments)
        self.errors += in_threads(self._run)
        return result

    def __setitem__(self, *arguments: Any) -> None:
        self._interrupted(super().__setitem__, *arguments)

    def pop(self, *arguments: Any) -> Any:
        return self._interrupted(super().pop, *arguments)


@pytest.mark.parametrize("table", ["_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called"])
def test_a_thread_may_run_a_model_while_hooks_come_and_go(table: str) -> None:
    model = make_net(moving=False)
    expected = model(X).detach()
    between = _CalledBetween(lambda: torch.testing.assert_close(model(X), expected, rtol=0, atol=0))
    setattr(model.first, table, between)
    watched(model)
    assert between.changes >= 2
    assert between.errors == []


@pytest.mark.parametrize("name", ENTRIES)
def test_two_threads_cannot_have_one_model(name: str) -> None:
    model = make_net(moving=False)
    shares = nn.Sequential(model.first)
    outer = nn.Sequential(model)
    before = state_of(model, X, REFERENCE, EXTRA)
    with tracer.watch(outer):
        errors = in_threads(lambda: ENTRIES[name](model))
        assert [type(error) for error in errors] == [ObservationError]
        assert "another thread is attributing or recording with this model" in str(errors[0])
        assert len(in_threads(lambda: tracer.record(shares, X, REFERENCE, target=1))) == 1
        DeepLift(outer).attribute(X, REFERENCE, target=1)
    assert in_threads(lambda: ENTRIES[name](model)) == []
    assert changes(before, model) == []


# --- one inside another -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", ["watch", "captum", "exact"])
def test_a_recording_inside_a_watched_block_is_refused(inner: str) -> None:
    model = make_net(moving=False)
    alone = content(watched(model))
    with tracer.watch(model) as watching:
        with pytest.raises(ObservationError, match="a recording is under way in this thread already"):
            ENTRIES[inner](copy.deepcopy(model))
        DeepLift(model).attribute(X, REFERENCE, target=1, additional_forward_args=EXTRA.clone())
    assert content(watching.trace) == alone


@pytest.mark.parametrize("method", ["captum", "exact"])
@pytest.mark.parametrize("inner", ["watch", "captum", "exact"])
def test_a_recording_inside_a_recorded_models_forward_is_refused(method: str, inner: str) -> None:
    class Curious(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = make_net(moving=False)

        def forward(self, *args: torch.Tensor) -> Any:
            ENTRIES[inner](make_net(moving=False))
            return self.net(*args)

    model = Curious()
    before = state_of(model, X, REFERENCE, EXTRA)
    with pytest.raises(ObservationError, match="a recording is under way in this thread already"):
        ENTRIES[method](model)
    assert changes(before, model) == []


def test_an_attribution_inside_a_watched_block_is_as_outside_and_not_recorded() -> None:
    model = make_net(moving=False)
    expected, alone = ENTRIES["DeepLift"](model), content(watched(model))
    with tracer.watch(model) as watching:
        assert torch.equal(ENTRIES["DeepLift"](model), expected)
        DeepLift(model).attribute(X, REFERENCE, target=1, additional_forward_args=EXTRA.clone())
        assert torch.equal(ENTRIES["DeepLift"](model), expected)
    assert content(watching.trace) == alone


def test_warnings_are_heard_again() -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with no_warnings.on():
            warnings.warn("unheard", stacklevel=1)
        warnings.warn("heard", stacklevel=1)
    assert [str(each.message) for each in heard] == ["heard"]


def test_transformers_says_again_what_it_said_after_two_threads_silenced_it() -> None:
    """Each restoring what it found, the second would keep the first one's silence for good."""
    before = settings.get_verbosity(), settings.is_progress_bar_enabled()
    first, second = quiet(), quiet()
    with ThreadPoolExecutor(1) as thread:
        first.__enter__()
        thread.submit(second.__enter__).result()
        first.__exit__(None, None, None)
        assert (settings.get_verbosity(), settings.is_progress_bar_enabled()) == (logging.ERROR, False)
        thread.submit(second.__exit__, None, None, None).result()
    assert (settings.get_verbosity(), settings.is_progress_bar_enabled()) == before


@pytest.mark.parametrize("run", [watched, recorded("captum"), recorded("exact"), recorded("gradient")])
def test_nothing_of_a_run_stays_in_memory_or_waits_for_the_garbage_collector(run: Entry) -> None:
    """Else the tensors, and the database, of each run would stay in memory for several more, or for good."""

    def alive() -> list[str]:  # also through autograd's nodes, where the collector cannot follow
        gc.collect()
        types = [type(item) for item in gc.get_objects()]
        return sorted(kind.__qualname__ for kind in types if str(kind.__module__).startswith("tracer.recording"))

    model = make_net(moving=False)
    run(model)
    before = alive()
    gc.disable()
    try:
        trace = run(model)
        trace.close()
        del trace
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = [type(item).__qualname__ for item in gc.garbage if type(item).__module__.startswith("tracer")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not left
    assert alive() == before


def test_hooks_are_the_first_and_have_a_number_of_their_own() -> None:
    told: list[str] = []

    class Listener:
        def enter(self, *_call: Any) -> None:
            told.append("enter")

        def leave(self, *_call: Any) -> None:
            told.append("leave")

    model = nn.ReLU()
    model.register_forward_pre_hook(lambda *_call: told.append("before"))
    model.register_forward_hook(lambda *_call: told.append("after"))
    with listening({model: ""}, Listener()):
        handle = model.register_forward_hook(lambda *_call: told.append("later"))
        model(torch.ones(1))
        assert told == ["enter", "before", "leave", "after", "later"]
    told.clear()
    model(torch.ones(1))
    assert told == ["before", "after", "later"]
    handle.remove()
    assert len(model._forward_hooks) == len(model._forward_pre_hooks) == 1


def test_hooks_that_were_unpickled_are_not_written_over() -> None:
    """They keep the numbers that they had in another process, which this one gives again."""
    told: list[str] = []
    model = nn.ReLU()
    model.register_forward_hook(lambda *_call: told.append("kept"))
    ((number, hook),) = model._forward_hooks.items()
    model._forward_hooks = OrderedDict({number + 1: hook})
    with listening({model: ""}, ReferenceLog(model)):
        model(torch.ones(1))
    model(torch.ones(1))
    assert told == ["kept", "kept"]


def test_a_model_is_given_back_while_no_other_thread_looks() -> None:
    model, entered, leave = nn.ReLU(), threading.Event(), threading.Event()

    def use() -> None:
        with in_use(model):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=use)
    thread.start()
    entered.wait()
    with process.users_lock:
        leave.set()
        thread.join(0.2)
        assert thread.is_alive() and id(model) in process.users
    thread.join()
    assert id(model) not in process.users
