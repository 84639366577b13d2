"""What depends on a choice goes to what decides it: the sum is exact, whatever chooses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tracer
from tests.rules.pairs import Model, pair
from tracer.exact.deeplift import Unobserved
from tracer.rules.rulebook import Rulebook

EPS = torch.finfo(torch.float64).eps
TABLE = torch.linspace(-1, 1, 24, dtype=torch.float64).sin().reshape(8, 3)
CODES = torch.linspace(-2, 2, 12, dtype=torch.float64).cos().reshape(6, 2)


def _inside(x: Tensor) -> Tensor:
    y = x.clone()
    y[y < 0] = 0.25
    return y * y


def _fill(x: Tensor, fill: float) -> Tensor:
    low = (x < 0.2) & (x < x.amax(-1, keepdim=True))
    return (torch.softmax(x.masked_fill(low, fill), -1) * x).sum(-1)


def _attention(x: Tensor) -> Tensor:
    q = x.reshape(2, 1, 3, 2)
    keep = (q.sum(-1) > 0).unsqueeze(-2) | torch.eye(3, dtype=torch.bool)
    return F.scaled_dot_product_attention(q, q.roll(1, -1), q, attn_mask=keep)


def _nucleus(x: Tensor) -> Tensor:
    p = torch.softmax(x, -1)
    ordered, index = p.sort(-1, descending=True)
    kept = torch.where(ordered.cumsum(-1) - ordered < 0.7, ordered, torch.zeros_like(ordered))
    return torch.zeros_like(p).scatter(-1, index, kept) * x


def _sparsemax(x: Tensor) -> Tensor:
    ordered = x.sort(-1, descending=True).values
    sums = ordered.cumsum(-1) - 1
    ranks = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    support = (ordered * ranks > sums).sum(-1, keepdim=True)
    return F.relu(x - sums.gather(-1, support - 1) / support.to(x.dtype))


def _quantised(x: Tensor) -> Tensor:
    points = x.reshape(-1, 1, 2)
    nearest = (points - CODES).square().sum(-1).argmin(-1)
    return F.embedding(nearest, CODES) * points.squeeze(1)


def _experts(x: Tensor) -> Tensor:
    """A mixture of experts as it is written by hand: one-hot, `where`, a loop, `index_add_`."""
    rows = x.reshape(-1, 3)
    weight, index = torch.softmax(rows, -1).topk(2, -1)
    mask = F.one_hot(index, 3).permute(2, 1, 0)
    out = torch.zeros_like(rows)
    for expert in range(3):
        place, row = torch.where(mask[expert])
        made = torch.tanh(rows[row] * (expert + 1)) * weight[row, place, None]
        out.index_add_(0, row, made)
    return out


def _router(x: Tensor) -> Tensor:
    with torch.no_grad():
        index = x.topk(2, -1).indices
    return torch.sigmoid(x).gather(-1, index) ** 2


CASES: dict[str, Callable[[Tensor], Tensor]] = {
    "where": lambda x: torch.where(x > 0, x * x, -x),
    "where of a scalar": lambda x: torch.where(x > 0.1, x, 0.5) * x,
    "Tensor.where": lambda x: x.tanh().where(x >= 0.1, -x),
    "where by two operands": lambda x: torch.where(x < x.roll(1, -1), x.sin(), x.cos()),
    "a mask as a factor": lambda x: x * (x > 0.1),
    "masks side by side": lambda x: torch.hstack([x > 0, x < -1]).to(x.dtype) * torch.cat([x, x.sin()], 1),
    "masks summed": lambda x: (x > 0).sum(-1, keepdim=True) * x,
    "a mask cast": lambda x: (x > 0).to(x.dtype) * 2 + (x < -0.5).double(),
    "written at a mask": _inside,
    "clamp by where": lambda x: torch.where(x > 1, torch.ones_like(x), x) ** 2,
    "and, or, not, xor": lambda x: x * ((x > 0) & ~(x > 1) | (x < -1) ^ (x.roll(1, -1) > 0)),
    "masks by keyword": lambda x: x * torch.logical_and(torch.logical_not(input=x > 1), other=x > -1),
    "any by keyword": lambda x: x * torch.any(input=x > 0.5, dim=-1, keepdim=True),
    "any and all": lambda x: x * (x > 0.5).any(-1, keepdim=True) + x.sin() * (x > -2).all(-1, keepdim=True),
    "equal to a whole number": lambda x: x * (x.round() == 1),
    "filled by -30": lambda x: _fill(x, -30.0),
    "filled by -1e9": lambda x: _fill(x, -1e9),
    "filled by -inf": lambda x: _fill(x, -torch.inf),
    "filled by the minimum": lambda x: _fill(x, torch.finfo(torch.float32).min),
    "a mask of the data in attention": _attention,
    "an additive mask": lambda x: torch.softmax(x + (1 - (x > 0).to(x.dtype)) * -1e4, -1) * x,
    "floor": lambda x: x.floor() * x,
    "round, ceil, trunc, sign": lambda x: x.round() + x.ceil() * 2 + x.trunc() * 3 + torch.sign(x) * x,
    "remainder and fmod": lambda x: x % 0.7 + torch.fmod(x, 0.4) * x,
    "a whole number as an index": lambda x: TABLE[(x.abs() * 2).long().clamp(max=7)],
    "a bucket as an index": lambda x: F.embedding(torch.bucketize(x, torch.linspace(-1, 1, 5).double()), TABLE),
    "topk": lambda x: x.topk(3, -1).values ** 2,
    "topk, smallest, along another axis": lambda x: x.topk(1, 0, largest=False).values ** 2,
    "topk and gather": lambda x: x.roll(1, -1).gather(-1, x.topk(2, -1).indices) ** 2,
    "sort": lambda x: x.sort(-1, descending=True).values * torch.linspace(1, 2, 6).double(),
    "argsort": lambda x: x.sin().gather(-1, x.argsort(-1)),
    "msort": lambda x: torch.msort(x) * torch.tensor([[1.0], [3.0]]),
    "argmax and one-hot": lambda x: F.one_hot(x.argmax(-1), 6) * x,
    "argmax of all": lambda x: F.one_hot(x.argmax(), 12).reshape(2, 6) * x,
    "argmin and index": lambda x: TABLE[x.argmin(-1)] * x[:, :3],
    "max with its index": lambda x: x.max(-1).values * TABLE[x.max(-1).indices].sum(-1),
    "min along an axis, kept": lambda x: x.sin().gather(-1, x.min(-1, keepdim=True).indices),
    "rows and an index": lambda x: x.sin()[torch.arange(2), x.argmax(-1)] * x[:, 0],
    "gather by keyword": lambda x: torch.gather(input=x.sin(), dim=-1, index=x.topk(2, -1).indices),
    "index_select": lambda x: TABLE.index_select(0, x.argmax(-1)) * x[:, :3],
    "take_along_dim": lambda x: torch.take_along_dim(x.cos(), x.argsort(-1), -1) ** 2,
    "scatter": lambda x: torch.zeros_like(x).scatter(-1, x.topk(2, -1).indices, x[:, :2]) * x,
    "scatter_add of a scalar": lambda x: torch.zeros_like(x).scatter_(-1, x.topk(2, -1).indices, 1.0) * x,
    "an index seen otherwise": lambda x: x.sin().gather(-1, x.topk(2, -1).indices.flip(-1).unsqueeze(0).squeeze(0)),
    "an index as a mask": lambda x: torch.where(~x.argmax(-1).bool(), x[:, 0], x[:, 1] ** 2),
    "an index of two as a mask": lambda x: x[:, 0] * ~(x[:, :2].argmax(-1).bool() & (x[:, 2] > 0)),
    "a count as a mask": lambda x: torch.where(~(x.abs() * 2).long().bool(), x.sin(), x.cos()),
    "an index compared": lambda x: x * (x.argmax(-1, keepdim=True) == torch.arange(6)),
    "median": lambda x: x.median(-1).values ** 2,
    "median of all": lambda x: x.median() * x,
    "kthvalue and its index": lambda x: x.kthvalue(2, -1).values * TABLE[x.kthvalue(2, -1).indices].sum(-1),
    "nucleus": _nucleus,
    "sparsemax": _sparsemax,
    "a nearest code": _quantised,
    "experts by hand": _experts,
    "a router under no_grad": _router,
}


def drawn(seed: int) -> Tensor:
    return torch.randn(2, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 1.5


@pytest.mark.parametrize("zero", [False, True], ids=["another", "zero"])
@pytest.mark.parametrize("name", CASES)
def test_the_choice_is_shared_out(name: str, zero: bool) -> None:
    for seed in range(3):
        x, x_ref = drawn(seed), drawn(100 + seed) * (0 if zero else 1)
        function = CASES[name]
        weights = torch.linspace(0.5, 1.5, function(x).numel(), dtype=torch.float64).reshape(function(x).shape)
        found = pair(function, x, x_ref, weights)
        assert torch.equal(found.output, function(x)) or torch.allclose(
            found.output, function(x), rtol=1e-14, atol=1e-14
        )
        assert found.notes == []
        parts = (found.multipliers * (x - x_ref)).reshape(-1)
        size = parts.abs().sum() + (weights * found.output).abs().sum() + (weights * found.reference).abs().sum()
        assert abs(parts.sum() - found.flow) <= 1000 * EPS * size


@pytest.mark.parametrize("zero", [False, True], ids=["another", "zero"])
def test_experts_by_hand_through_the_public_class(zero: bool) -> None:
    x, x_ref = drawn(0), drawn(100) * (0 if zero else 1)
    lift = tracer.DeepLift(Model(lambda t: _experts(t).reshape(2, -1).sin().sum(1)))
    attributions, delta = lift.attribute(x, x_ref, return_convergence_delta=True)
    assert lift.notes == () and lift.decided
    assert (delta.abs() <= 1000 * EPS * (attributions.abs().sum(1) + 1)).all()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[(x[:, 0] > 0).nonzero().squeeze(-1)].mean(0, keepdim=True).expand(2, -1).sum(1) * x[:, 1],
        lambda x: x[torch.where(x[:, 0] > 0)[0]].sum() * x.sum(1),
    ],
    ids=["a mean of what is found", "a sum of what is found"],
)
def test_places_that_are_not_written_back_leave_the_output_as_it_is(function: Callable[[Tensor], Tensor]) -> None:
    """All places for those of a mask would change what such a model computes: then the choice is noted."""
    x = torch.tensor([[0.5, 1.0, -2.0], [-1.0, 0.3, 0.7]], dtype=torch.float64)
    x_ref = torch.tensor([[-0.5, 0.2, 1.0], [1.0, -0.4, 0.1]], dtype=torch.float64)
    lift = tracer.DeepLift(Model(function))
    lift.attribute(x, x_ref)
    assert lift.outputs is not None
    assert torch.allclose(lift.outputs[0], function(x)) and torch.allclose(lift.outputs[1], function(x_ref))
    assert "discrete choice" in [note.kind for note in lift.notes]


def test_the_check_of_all_places_follows_the_rules_of_the_runs() -> None:
    inner = Model(lambda x: x[(x > 0).nonzero(as_tuple=True)].mean().reshape(1))
    model = nn.Sequential(inner)
    x = torch.tensor([[1.0, -2.0, 3.0]], dtype=torch.float64)
    x_ref = torch.tensor([[1.0, 2.0, -3.0]], dtype=torch.float64)
    lift = tracer.DeepLift(model, rulebook=Rulebook.parse("gradient", ["block*=exact"]))
    lift.attribute(x, x_ref, observer=Unobserved({model: "", inner: "block"}))
    assert lift.outputs is not None
    assert lift.outputs[0] == model(x) and lift.outputs[1] == model(x_ref)
