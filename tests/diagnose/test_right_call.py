"""The delta arises where it is said to: packed sequences, cells with results that feed one another."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import DeepLift
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import tracer
from tests.diagnose.models import normal
from tests.models import FunctionModel
from tracer.tracefile.trace import Trace

Forward = Callable[..., Tensor]


def watched(model: nn.Module, x: Tensor, baseline: Tensor, *extras: Tensor) -> Trace:
    """captum's own run."""
    with tracer.watch(model.eval()) as watching:
        DeepLift(model).attribute(x, baseline, target=0, additional_forward_args=extras or None)
    return watching.trace


def assert_only(trace: Trace, path: str, kind: str = "unsupported-module") -> None:
    """Nothing but the calls at `path` leaks, for any example, and they are the finding."""
    assert [(finding.kind, finding.path) for finding in tracer.diagnose(trace)] == [(kind, path)]
    own = np.sum([node.self_leak for node in trace.nodes if node.path == path], axis=0)
    np.testing.assert_allclose(own, trace.delta, atol=1e-6)
    assert all(np.abs(node.self_leak).max() < 1e-6 for node in trace.nodes if node.path != path)


# --- packed sequences -------------------------------------------------------------------------------------------------


def packing(batch_first: bool = True, **options: Any) -> Callable[[Any, Tensor, Tensor], Tensor]:
    """Packed, through the module `r`, and padded again: what it gives at each sequence's end, into `o`."""

    def forward(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
        x = x if batch_first else x.transpose(0, 1)
        packed = pack_padded_sequence(x, lengths, batch_first=batch_first, **options)
        padded, ends = pad_packed_sequence(self.r(packed)[0], batch_first=batch_first)
        rows = torch.arange(len(lengths))
        return self.o(padded[rows, ends - 1] if batch_first else padded.transpose(0, 1)[rows, ends - 1])

    return forward


def of_last_state(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    """The last layer's state at the end, which a packed sequence gives in the order of the batch."""
    _packed, (state, _cell) = self.r(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    return self.o(state[-1])


def of_mean(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    """The mean over each sequence."""
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    padded, ends = pad_packed_sequence(self.r(packed)[0])
    return self.o(padded.sum(0) / ends[:, None])


UNSORTED = {"enforce_sorted": False}
PACKED: dict[str, tuple[Forward, Callable[[], nn.Module], int, list[int]]] = {
    "RNN": (packing(**UNSORTED), lambda: nn.RNN(2, 3, batch_first=True), 3, [3, 2]),
    "RNN, equal lengths": (packing(**UNSORTED), lambda: nn.RNN(2, 3, batch_first=True), 3, [3, 3, 3]),
    "RNN, sequence first": (packing(False, **UNSORTED), lambda: nn.RNN(2, 3), 3, [2, 4, 4]),
    "GRU, sorted": (packing(enforce_sorted=True), lambda: nn.GRU(2, 3, batch_first=True), 3, [4, 4]),
    "LSTM of two layers, both ways": (
        packing(**UNSORTED),
        lambda: nn.LSTM(2, 3, 2, batch_first=True, bidirectional=True),
        6,
        [2, 4, 3],
    ),
    "LSTM of two layers, last state": (of_last_state, lambda: nn.LSTM(2, 3, 2, batch_first=True), 3, [3]),
    "LSTM of four layers, last state": (of_last_state, lambda: nn.LSTM(2, 3, 4, batch_first=True), 3, [2, 4]),
    "GRU, mean": (of_mean, lambda: nn.GRU(2, 3, batch_first=True), 3, [2, 4, 3]),
}


@pytest.mark.parametrize("name", PACKED)
def test_of_a_packed_sequence_only_the_recurrence_leaks(name: str) -> None:
    forward, make, width, lengths = PACKED[name]
    torch.manual_seed(0)
    model = FunctionModel(forward, r=make(), o=nn.Linear(width, 1))
    shape = len(lengths), max(lengths), 2
    assert_only(watched(model, normal(*shape, seed=1), normal(*shape, seed=2), torch.tensor(lengths)), "r")


def on_packed_data(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    """A layer on the elements of a packed sequence, split into heads and merged again."""
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    assert isinstance(packed, PackedSequence)
    data = self.g(self.l(packed.data).view(-1, 2, 2) * 2).flatten(1)
    padded, _ends = pad_packed_sequence(packed._replace(data=data), batch_first=True)
    return self.o(padded.sum(1))


def permuted(self: Any, x: Tensor) -> Tensor:
    """Rows in another order, and back."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    return self.o(self.g(self.l(x)[order])[torch.argsort(order)])


def test_elements_of_a_packed_sequence_keep_their_rows() -> None:
    torch.manual_seed(0)
    model = FunctionModel(on_packed_data, l=nn.Linear(2, 4), g=nn.GELU(), o=nn.Linear(4, 1))
    lengths = torch.tensor([2, 4, 3])
    assert_only(watched(model, normal(3, 4, 2, seed=1), normal(3, 4, 2, seed=2), lengths), "g")


def test_rows_in_another_order_are_known() -> None:
    torch.manual_seed(0)
    model = FunctionModel(permuted, l=nn.Linear(2, 4), g=nn.GELU(), o=nn.Linear(4, 1))
    assert_only(watched(model, normal(3, 2, seed=1), normal(3, 2, seed=2)), "g")


# --- cells ------------------------------------------------------------------------------------------------------------


def looped(self: Any, x: Tensor) -> Tensor:
    """A cell over the steps of a sequence."""
    state = x.new_zeros(len(x), 3)
    if isinstance(self.c, nn.LSTMCell):
        cell = state
        for step in x.unbind(1):
            state, cell = self.c(step, (state, cell))
    else:
        for step in x.unbind(1):
            state = self.c(step, state)
    return self.o(state)


CELLS: dict[str, tuple[Forward, Callable[[], nn.Module]]] = {
    "its cell state unused": (lambda self, x: self.o(self.c(x[:, 0])[0]), lambda: nn.LSTMCell(2, 3)),
    "its hidden state unused": (lambda self, x: self.o(self.c(x[:, 0])[1]), lambda: nn.LSTMCell(2, 3)),
    "both used": (lambda self, x: self.o(sum(self.c(x[:, 0]))), lambda: nn.LSTMCell(2, 3)),
    "looped": (looped, lambda: nn.LSTMCell(2, 3)),
    "GRU, looped": (looped, lambda: nn.GRUCell(2, 3)),
    "RNN, looped": (looped, lambda: nn.RNNCell(2, 3)),
}


@pytest.mark.parametrize("name", CELLS)
def test_the_leak_of_a_cell_is_its_own(name: str) -> None:
    forward, make = CELLS[name]
    torch.manual_seed(0)
    model = FunctionModel(forward, c=make(), o=nn.Linear(3, 1))
    assert_only(watched(model, normal(2, 4, 2, seed=1), normal(2, 4, 2, seed=2)), "c")


# --- leaks that cancel ------------------------------------------------------------------------------------------------


def pool_and_skip(self: Any, x: Tensor) -> Tensor:
    """A tensor that a pool and a skip take, behind a module under captum's rule, and a square of both."""
    h = self.r(self.c(x))
    taken = h.clone() if self.apart else h
    out: Tensor = (self.a(self.p(taken).flatten(1)) + self.b(h.flatten(1))) ** 2
    return out


POOLS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "max": (lambda: nn.MaxPool1d(2), 4),
    "overlapping": (lambda: nn.MaxPool1d(3, 1, 1), 8),
    "adaptive": (lambda: nn.AdaptiveMaxPool1d(2), 4),
    "mean": (lambda: nn.AvgPool1d(2), 4),
    "softmax": (lambda: nn.Softmax(-1), 8),
    "tanh": (nn.Tanh, 8),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", POOLS)
def test_what_cancels_is_one_finding_and_the_first_is_worth_most(name: str, seed: int) -> None:
    make, width = POOLS[name]
    torch.manual_seed(seed)
    parts = {"c": nn.Conv1d(1, 2, 3, padding=1), "r": nn.ReLU(), "a": nn.Linear(width, 1), "b": nn.Linear(8, 1)}
    model = FunctionModel(pool_and_skip, p=make(), **parts).eval()
    model.apart = False  # type: ignore[assignment]
    x, baseline = torch.randn(1, 1, 4) * 2, torch.randn(1, 1, 4)
    trace = tracer.record(model, x, baseline, target=0)
    findings = tracer.diagnose(trace)
    kinds = [finding.kind for finding in findings]
    assert set(kinds) <= {"stale-gradient", "unseen-op", "unsupported-module"} and len(kinds) == len(set(kinds))
    before, after = abs(float(trace.delta[0])), []
    for finding in findings:
        if "cancel in part" in finding.advice:
            assert finding is not findings[0]
            continue
        rules = re.findall(r"--rule '([^']*)'", finding.advice)
        model.apart = not rules  # type: ignore[assignment]
        assert rules or "x.clone()" in finding.advice
        after.append(abs(float(tracer.record(model, x, baseline, target=0, rules=rules).delta[0])))
    assert after[0] == min(after) < before


# --- tensors that no gradient reaches ---------------------------------------------------------------------------------


def without_grad(self: Any, x: Tensor) -> Tensor:
    """A branch under no_grad."""
    with torch.no_grad():
        gate = torch.sigmoid(self.l(x))
    return self.l(x) + gate


def written(self: Any, x: Tensor) -> Tensor:
    """Numbers written into a column."""
    h = self.l(x).clone()
    h[:, 0] = x.detach()[:, 1]
    return h


CONSTANTS: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "ids cast inside": (lambda self, x: torch.cat([x[:, :1], self.e(x[:, 2].detach().abs().long())], 1), "/cat"),
    "no_grad": (without_grad, "/add"),
    "a list": (lambda self, x: self.l(x) + torch.tensor(x.tolist())[:, :2], "/add"),
    "numpy": (lambda self, x: torch.from_numpy(x.detach().numpy()[:, :2].copy()) - self.l(x), "/sub"),
    "straight through": (lambda self, x: (lambda h: h + (h.round() - h).detach())(self.l(x)), "/add"),
    "stacked": (lambda self, x: torch.stack([self.l(x), x.detach()[:, :2]], 1).sum(1), "/stack"),
    "lerp": (lambda self, x: torch.lerp(self.l(x), x.detach()[:, :2], 0.3), "/lerp"),
    "index_add": (lambda self, x: self.l(x).index_add(1, torch.tensor([0]), x.detach()[:, :1]), "/index_add"),
    "written": (written, "/setitem"),
}


@pytest.mark.parametrize("method", ["exact", "captum"])
@pytest.mark.parametrize("name", CONSTANTS)
def test_a_tensor_without_gradient_is_found_by_either_method(name: str, method: Any) -> None:
    function, path = CONSTANTS[name]
    torch.manual_seed(0)
    model = FunctionModel(
        lambda self, x: self.q(function(self, x)), l=nn.Linear(3, 2), e=nn.Embedding(5, 1), q=nn.Linear(2, 1)
    )
    x, baseline = torch.tensor([[0.3, -1.0, 4.0]]), torch.tensor([[-0.2, 0.7, 1.0]])
    trace = tracer.record(model.eval(), x, baseline, target=0, method=method)
    (finding,) = [finding for finding in tracer.diagnose(trace) if finding.kind != "decided"]
    assert (finding.kind, finding.path) == ("differing-constant", path)
    assert finding.share > 0.99 and "exact" not in finding.advice


def test_an_exact_rule_is_not_blamed_for_its_constants() -> None:
    """The weight of a layer norm comes from the input, without a gradient."""
    torch.manual_seed(0)
    model = FunctionModel(
        lambda self, x: self.q(torch.nn.functional.layer_norm(self.l(x), (2,), x.detach()[0, :2])),
        l=nn.Linear(3, 2),
        q=nn.Linear(2, 1),
    )
    trace = tracer.record(model.eval(), normal(1, 3, seed=1), normal(1, 3, seed=2), target=0, method="exact")
    assert [finding.kind for finding in tracer.diagnose(trace)] == ["differing-constant"]


def test_an_output_that_is_cut_off_says_where() -> None:
    torch.manual_seed(0)
    model = FunctionModel(lambda self, x: self.q(self.l(x).detach()), l=nn.Linear(3, 2), q=nn.Linear(2, 1))
    trace = tracer.record(model.eval(), normal(1, 3, seed=1), normal(1, 3, seed=2), target=0, method="exact")
    (finding,) = tracer.diagnose(trace)
    assert finding.kind == "differing-constant"
    assert finding.message.startswith("/detach hands its value on without a gradient")
