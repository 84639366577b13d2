"""Small models of situations that people reported: what the product says of each is true.

Reported of captum, shap, tangermeme, LXT and PyG; each stands for a kind that has tests of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import captum.attr as ca
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import tracer
from tests.models import FunctionModel
from tracer.tracefile.trace import Trace

pytestmark = pytest.mark.filterwarnings("ignore")


def kinds(trace: Trace) -> list[tuple[str, str]]:
    return [(finding.kind, finding.path) for finding in tracer.diagnose(trace)]


def relative_deltas(model: nn.Module, x: Tensor, reference: Tensor | None = None, **options: Any) -> list[float]:
    """|delta| over Σ |attributions| of each example, by exact rules that note nothing."""
    lift = tracer.DeepLift(model)
    attributions, delta = lift.attribute(x, reference, return_convergence_delta=True, **options)
    assert lift.notes == ()
    return (delta.abs() / attributions.abs().flatten(1).sum(1)).tolist()


def test_watching_leaves_captums_runs_without_grad_alone() -> None:
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = FunctionModel(
        lambda s, x, pad: s.o(s.e(x, src_key_padding_mask=pad).mean(1)),
        e=nn.TransformerEncoder(layer, 2), o=nn.Linear(8, 1),
    ).eval()  # fmt: skip
    x, pad = torch.randn(2, 3, 8), torch.tensor([[False, False, True], [False] * 3])

    def delta() -> list[float]:
        lift = ca.DeepLift(model)
        return lift.attribute(x, additional_forward_args=(pad,), return_convergence_delta=True)[1].tolist()  # type: ignore[no-any-return]

    alone = delta()
    with tracer.watch(model) as watching:
        assert delta() == alone
    assert "other-without-grad" in [kind for kind, _path in kinds(watching.trace)]


def test_a_subclass_of_captums_is_captum() -> None:
    class Mine(ca.DeepLift):  # type: ignore[misc]
        pass

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4), nn.Softmax(1), nn.Linear(4, 2)).eval()
    x, reference = 3 * torch.randn(2, 3), torch.randn(2, 3)
    for lift in (ca.DeepLift, Mine):
        with tracer.watch(model) as watching:
            lift(model).attribute(x, reference, target=0)
        assert kinds(watching.trace) == [("softmax-normalised", "3")]


def test_a_copy_taken_while_watched_works() -> None:
    model, x = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), torch.randn(2, 8)
    with tracer.watch(model):
        other = copy.deepcopy(model)
        ca.DeepLift(model).attribute(x, target=1)
    assert torch.equal(other(x), model(x))


def test_softmax_is_blind_to_a_common_shift() -> None:
    """What is left is float32's rounding of a multiplier, times the shift."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Identity(), nn.Softmax(1))
    for shift, most in ((0.0, 1e-6), (1e4, 1e-4)):
        _found, delta = tracer.DeepLift(model).attribute(
            torch.randn(1, 10) + shift, torch.randn(1, 10), target=2, return_convergence_delta=True
        )
        assert abs(float(delta)) <= most


EXACT: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "a boolean factor": (lambda x: (x * (x > 0.1)).sum(1, keepdim=True), (2, 5)),
    "where by comparison": (lambda t: torch.where(t > 0, t * t, -t).sum(1, keepdim=True), (2, 5)),
    "complex abs": (lambda x: torch.log(torch.fft.rfft(x).abs() + 0.1).sum(1, keepdim=True), (2, 8)),
    "fractional max pool": (lambda x: nn.FractionalMaxPool2d(2, output_size=2)(x).flatten(1).sum(1), (1, 1, 5, 5)),
    "tensordot": (lambda t: torch.tensordot(t, torch.ones(1, 5), dims=2).reshape(1), (1, 5)),
    "sgn": (lambda t: torch.sgn(t).sum(1), (2, 5)),
    "scatter to one place": (lambda t: t.scatter(1, torch.zeros(2, 5, dtype=torch.long), t * 2).sum(1), (2, 5)),
    "cosine embedding loss": (
        lambda t: F.cosine_embedding_loss(t, t.flip(1), torch.ones(len(t)), reduction="none"), (2, 5)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("seed", range(3))
def test_what_was_refused_noted_or_wrong_is_exact(name: str, seed: int) -> None:
    function, shape = EXACT[name]
    torch.manual_seed(seed)
    assert max(relative_deltas(FunctionModel(lambda s, x: function(x)), torch.randn(shape), torch.randn(shape))) < 1e-5


@pytest.mark.parametrize("fill", [-30.0, -1e9, -torch.inf])
def test_a_mask_made_of_the_data_is_named_for_every_fill(fill: float) -> None:
    torch.manual_seed(0)
    x, reference = torch.randn(1, 4, 2), torch.randn(1, 4, 2)
    x[0, 2:, 1] = 0

    def masked(_model: nn.Module, x: Tensor) -> Tensor:
        logits = x[..., 0].masked_fill(x[..., 1] == 0, fill)
        return (torch.softmax(logits, -1) * x[..., 0]).sum(1, keepdim=True)

    with tracer.record(FunctionModel(masked), x, reference, target=0, method="exact") as trace:
        assert kinds(trace) == [("decided", "/eq")]
        assert abs(float(trace.delta[0])) < 1e-6


def test_of_a_packed_sequence_only_the_recurrence_leaks() -> None:
    def last(s: Any, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, found = pad_packed_sequence(s.r(packed)[0], batch_first=True)
        out: Tensor = s.o(y[torch.arange(len(x)), found - 1])
        return out

    torch.manual_seed(0)
    model = FunctionModel(last, r=nn.RNN(2, 3, batch_first=True), o=nn.Linear(3, 1)).eval()
    with tracer.watch(model) as watching:
        ca.DeepLift(model).attribute(
            torch.randn(2, 3, 2), torch.randn(2, 3, 2), target=0, additional_forward_args=(torch.tensor([3, 2]),)
        )
    assert kinds(watching.trace) == [("unsupported-module", "r")]
    assert [node.path for node in watching.trace.nodes if abs(node.self_leak).max() > 1e-6] == ["r"]


def test_a_cell_with_an_unused_output_has_the_whole_delta() -> None:
    torch.manual_seed(0)
    model = FunctionModel(lambda s, x: s.o(s.c(x)[0]), c=nn.LSTMCell(2, 3), o=nn.Linear(3, 1)).eval()
    with tracer.watch(model) as watching:
        ca.DeepLift(model).attribute(torch.randn(1, 2), torch.randn(1, 2), target=0)
    assert kinds(watching.trace) == [("unsupported-module", "c")]
    (cell,) = [node for node in watching.trace.nodes if node.path == "c"]
    assert float(cell.self_leak[0]) == pytest.approx(float(watching.trace.delta[0]), abs=1e-6)


def test_findings_that_cancel_are_one() -> None:
    """A pool and a skip read one tensor: its lost path, early reading and pool are one cause, named once."""
    torch.manual_seed(3)

    def joined(s: Any, x: Tensor) -> Tensor:
        h = s.r(s.c(x))
        out: Tensor = (s.a(s.p(h).flatten(1)) + s.b(h.flatten(1))) ** 2
        return out

    model = FunctionModel(
        joined, c=nn.Conv1d(1, 2, 3, padding=1), r=nn.ReLU(), p=nn.MaxPool1d(2), a=nn.Linear(4, 1), b=nn.Linear(8, 1)
    ).eval()
    with tracer.record(model, torch.randn(1, 1, 4) * 2, torch.randn(1, 1, 4), target=0) as trace:
        assert sorted(kind for kind, _path in kinds(trace)) == ["stale-gradient", "unseen-op"]


def test_a_failure_on_the_doubled_batch_is_named() -> None:
    model = nn.Sequential(nn.Linear(3, 1))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), tracer.watch(model) as watching:
        ca.DeepLift(model).attribute(torch.randn(3))
    assert watching.partial is not None
    assert [kind for kind, _path in kinds(watching.partial)] == ["doubled-batch"]


def test_multipliers_in_place_of_attributions_are_noted() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1)).eval(), torch.randn(2, 3)
    with tracer.watch(model) as watching:
        ca.DeepLift(model, multiply_by_inputs=False).attribute(x, return_convergence_delta=True)
    assert [note.kind for note in watching.trace.notes] == ["multipliers returned"]
    assert [kind for kind, _path in kinds(watching.trace)] == ["multipliers-returned"]
