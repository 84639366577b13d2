"""The paired evaluation: order, in-place ops, choices, unknown ops, and what it leaves behind."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.rounding import of_sum, seeded
from tests.rules.pairs import Model, pair
from tracer.errors import InputError, ObservationError
from tracer.exact.deeplift import DeepLift
from tracer.exact.paired import PairedEvaluation
from tracer.rules.rulebook import EXACT, Rulebook


def drawn(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).double(), torch.randn(shape, generator=generator).double()


_RUN = itertools.count()


def conserves(function: object, x: Tensor, x_ref: Tensor) -> bool:
    found = pair(function, x, x_ref)  # type: ignore[arg-type]
    return not found.notes and abs(float((found.multipliers * (x - x_ref)).sum() - found.flow)) < 1e-11


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x * 2).relu_() + x,
        lambda x: F.relu(x + 1, inplace=True) * x,
        lambda x: F.relu(x + 1, True) * x,
        lambda x: F.hardtanh_(x * 2),
        lambda x: nn.ReLU(inplace=True)(x * 1.5) + nn.SiLU(inplace=True)(x * 2),
        lambda x: (x * 1.0).mul_(x.flip(0)),
        lambda x: (x * 1.0).exp_().add_(x.square()).sqrt_(),
    ],
)
def test_in_place_ops_conserve(function: object) -> None:
    assert conserves(function, *drawn(4, 5))


def test_an_operand_overwritten_later_keeps_its_value() -> None:
    def function(x: Tensor) -> Tensor:
        h = x * 1.0
        y = torch.tanh(h)
        h.add_(100.0)  # legal: tanh keeps its result, not its input
        h[0] = 7.0
        return y * y + h

    assert conserves(function, *drawn(4, 5))


def test_augmented_assignment_and_item_assignment() -> None:
    def function(x: Tensor) -> Tensor:
        h = torch.zeros_like(x)
        h[:, 1:] = x[:, 1:].sigmoid()
        h *= x
        h += x.exp()
        h /= x * x + 1
        h **= 2
        return h

    assert conserves(function, *drawn(4, 5))


def test_a_view_written_in_place_reaches_its_base() -> None:
    def function(x: Tensor) -> Tensor:
        h = x * 1.0
        h[:, :2].sigmoid_()
        h.view(-1)[3:6].mul_(h.view(-1)[6:9])
        return h * h

    assert conserves(function, *drawn(4, 5))


def test_an_in_place_op_on_the_input_leaves_the_users_tensors() -> None:
    x, x_ref = drawn(3, 2)
    before = x.clone(), x_ref.clone()
    found = pair(lambda t: t.relu_() * 2, x, x_ref)
    assert torch.equal(x, before[0])
    assert torch.equal(x_ref, before[1])
    assert torch.equal(found.output, x.relu() * 2)


def test_python_functions_around_ops_are_entered() -> None:
    def function(x: Tensor) -> Tensor:
        h = F.normalize(x, dim=-1) + F.softmin(x, -1) + F.gumbel_softmax(x, hard=False) * 0
        projection = torch.ones(3 * x.shape[-1], x.shape[-1]).to(x).cumsum(0) / 9
        attended, _ = F.multi_head_attention_forward(
            h, h, h, x.shape[-1], 1, projection.tanh(), None, None, None, False, 0.0, torch.eye(x.shape[-1]).to(x), None
        )
        return attended

    torch.manual_seed(0)
    assert conserves(lambda x: F.normalize(x, dim=-1) + F.softmin(x, -1), *drawn(4, 6))
    x, x_ref = drawn(4, 6)
    found = pair(function, x, x_ref)
    assert found.output.shape == (4, 6)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("mask", [True, False])
def test_transformer_layers_of_torch_conserve(norm_first: bool, mask: bool) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first).double().eval()
    encoder = nn.TransformerEncoder(layer, 2).eval()
    hidden = torch.zeros(3, 5, dtype=torch.bool)
    hidden[1, 4:] = True
    x, x_ref = drawn(3, 5, 8)
    weights = torch.randn(12, 8).double()

    def function(t: Tensor) -> Tensor:
        return encoder(t, src_key_padding_mask=hidden if mask else None)[:, :4].reshape(12, 8)[:, :] * weights

    assert conserves(function, x, x_ref)
    assert torch.backends.mha.get_fastpath_enabled()


def test_two_relus_of_two_inputs() -> None:
    """2·relu(x1) + 2·relu(x2 − 1.5) at (1, 2) from 0 gives 2.0 and 1.0."""
    x, x_ref = torch.tensor([1.0, 2.0]).double(), torch.zeros(2).double()
    found = pair(lambda t: 2 * torch.relu(t[0]) + 2 * torch.relu(t[1] - 1.5), x, x_ref)
    assert (found.multipliers * (x - x_ref)).tolist() == [2.0, 1.0]


def test_constants_and_parameters_keep_plain_autograd() -> None:
    layer = nn.Linear(4, 3).double()
    x, x_ref = drawn(2, 4)
    found = pair(lambda t: layer(t) * torch.tensor([1.0, 2.0, 3.0]).double(), x, x_ref)
    assert torch.allclose(
        found.multipliers, (layer.weight * torch.tensor([[1.0], [2.0], [3.0]]).double()).sum(0).expand(2, 4)
    )
    engine = PairedEvaluation(layer)
    with engine.reference_pass():
        layer(x_ref.clone().requires_grad_()) * 2
    with engine.input_pass():
        y = layer(x.clone().requires_grad_()) * 2
    assert type(y.grad_fn).__name__ == "MulBackward0"
    assert all(p.requires_grad for p in layer.parameters())
    assert not notes_of(engine)


def notes_of(engine: PairedEvaluation) -> list[str]:
    return [note.kind for note in engine.notes]


def test_each_ruled_op_is_one_node() -> None:
    x, x_ref = drawn(2, 4)
    model = Model(lambda t: F.layer_norm(t, (4,)).softmax(-1))
    engine = PairedEvaluation(model)
    with engine.reference_pass():
        model(x_ref.clone().requires_grad_())
    leaf = x.clone().requires_grad_()
    with engine.input_pass():
        y = model(leaf)
    assert type(y.grad_fn).__name__ == "_ReplacedBackward"
    assert type(y.grad_fn.next_functions[0][0]).__name__ == "_ReplacedBackward"
    assert y.grad_fn.next_functions[0][0].next_functions[0][0].variable is leaf


def test_an_unknown_op_is_approximated_and_noted() -> None:
    x, x_ref = drawn(3, 3)
    found = pair(lambda t: torch.linalg.matrix_exp(t @ t.T / 9), x, x_ref)
    (note,) = found.notes
    assert (note.kind, note.op, note.path) == ("approximated", "linalg_matrix_exp", "/linalg_matrix_exp")
    assert note.source.startswith("tests/test_paired.py:")
    leak = float((found.multipliers * (x - x_ref)).sum() - found.flow)
    assert abs(leak) < 1e-9
    assert note.amount == pytest.approx(leak, abs=1e-9)


def test_a_custom_function_is_approximated_and_noted() -> None:
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):  # type: ignore[no-untyped-def]
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):  # type: ignore[no-untyped-def]
            (x,) = ctx.saved_tensors
            return 3 * x * x * g

    x, x_ref = drawn(3, 3)
    apply = torch.autograd.Function.__dict__["apply"]
    found = pair(lambda t: Cube.apply(t) * t, x, x_ref)
    assert [(note.op, note.kind) for note in found.notes] == [("Cube", "approximated")]
    assert float((found.multipliers * (x - x_ref)).sum()) == pytest.approx(float(found.flow), abs=1e-10)
    assert torch.autograd.Function.__dict__["apply"] is apply


def test_a_value_that_goes_on_without_a_gradient_is_noted() -> None:
    x, x_ref = drawn(3, 3)

    def guarded(op: Any, t: Tensor) -> Tensor:
        with torch.no_grad():
            return op(t)

    for function in (
        lambda t: t + t.exp().detach(),
        lambda t: t + guarded(lambda u: u * 2, t),
        lambda t: t + guarded(torch.clone, t),
        lambda t: t + guarded(lambda u: u.view(-1, 3), t),
        lambda t: t + torch.special.bessel_j0(t),
    ):
        assert "cut" in [note.kind for note in pair(function, x, x_ref).notes]


def test_where_with_one_condition_is_linear_and_with_two_a_discrete_choice() -> None:
    x, x_ref = drawn(3, 4)
    keep = torch.rand(3, 4) > 0.5
    assert conserves(lambda t: torch.where(keep, t * 2, t.exp()), x, x_ref)
    found = pair(lambda t, c: torch.where(c, t * 2, t), x, x_ref, args=(x > 0,), ref_args=(x_ref > 0,))
    differing = int(((x > 0) != (x_ref > 0)).sum())
    assert [(note.kind, note.amount) for note in found.notes] == [("discrete choice", differing)]
    # Attributed as far as it is continuous: the mean of both branches where the choice differs.
    slope = ((x > 0).double() + (x_ref > 0).double()) / 2 + 1
    assert torch.allclose(found.multipliers, slope, atol=1e-12)


def test_masks_with_infinities_stay_finite() -> None:
    x, x_ref = drawn(3, 4)
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[:, 2:] = True
    mask[2] = True
    for lowest in (-torch.inf, torch.finfo(torch.float64).min):
        found = pair(lambda t, lowest=lowest: t.masked_fill(mask, lowest).softmax(-1)[:2], x, x_ref)
        assert torch.isfinite(found.multipliers).all()
        assert not found.notes
        assert float((found.multipliers * (x - x_ref)).sum()) == pytest.approx(float(found.flow), abs=1e-12)


def _assigned(t: Tensor, index: object, value: object) -> Tensor:
    h = t * 1.0
    h[index] = value  # type: ignore[index, assignment]
    return h * 3


@pytest.mark.parametrize(
    "function",
    [
        lambda t, i: t.gather(1, i),
        lambda t, i: t[i[:, 0]],
        lambda t, i: t[:, i[0]],
        lambda t, i: t.index_select(0, i[:, 0]),
        lambda t, i: torch.take_along_dim(t, i, 1),
        lambda t, i: torch.zeros_like(t).scatter(1, i, t),
        lambda t, i: torch.zeros_like(t).scatter_add(1, i, t),
        lambda t, i: torch.zeros_like(t).index_add(0, i[:, 0], t),
        lambda t, i: torch.zeros_like(t).index_copy(0, i[:, 0], t),
        lambda t, i: t.masked_fill(i > 1, 0.0),
        lambda t, i: t.masked_scatter(i > 1, t.flip(0)),
        lambda t, i: torch.where(i > 1, t, t * 2),
        lambda t, i: t[torch.arange(3), i[0]],
        lambda t, i: t[torch.arange(3)[:, None], i],
        lambda t, i: t[i > 1],
        lambda t, i: t.masked_select(i > 1),
        lambda t, i: t.take(i[0]),
        lambda t, i: t.index_fill(0, i[0, :1], 0.0),
        lambda t, i: t.index_put((torch.arange(3), i[0]), t[:, 0]),
        lambda t, i: torch.zeros_like(t).index_put_((i[0],), t, True),
        lambda t, i: torch.zeros_like(t).put(i[0], t[0]),
        lambda t, i: _assigned(t, i > 1, 0.0),
        lambda t, i: _assigned(t, (torch.arange(3), i[0]), t[:, 0]),
        lambda t, i: _assigned(torch.zeros(3, 3).double(), i[0], t * 2),
    ],
)
def test_indices_that_agree_are_linear_and_indices_that_differ_are_noted(function: object) -> None:
    x, x_ref = drawn(3, 3)
    index = torch.tensor([[0, 1, 2], [1, 2, 0], [2, 0, 1]])
    same = pair(function, x, x_ref, args=(index,))  # type: ignore[arg-type]
    assert not same.notes
    assert float((same.multipliers * (x - x_ref)).sum()) == pytest.approx(float(same.flow), abs=1e-12)
    other = pair(function, x, x_ref, args=(index,), ref_args=(index.flip(0).flip(1).roll(1, 1),))  # type: ignore[arg-type]
    assert {note.kind for note in other.notes} == {"discrete choice"}
    assert torch.isfinite(other.multipliers).all()


def test_ranks_conserve_whether_they_agree_or_differ() -> None:
    x = torch.tensor([[3.0, 1.0, 2.0]]).double()
    assert conserves(lambda t: t.topk(2).values * t.sort().values[:, :2], x, x * 0.5)
    assert conserves(lambda t: t.topk(2).values ** 2, x, torch.tensor([[1.0, 3.0, 0.5]]).double())


def test_an_order_that_is_too_large_for_its_rule_says_how_much_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.exact.choices.orders._LARGEST", 0)
    x, x_ref = torch.tensor([[3.0, 1.0, 2.0]]).double(), torch.tensor([[1.0, 3.0, 0.5]]).double()
    found = pair(lambda t: t.topk(2).values, x, x_ref)
    (note,) = found.notes
    leak = float((found.multipliers * (x - x_ref)).sum() - found.flow)
    assert note.kind == "discrete choice"
    assert note.amount == pytest.approx(leak, abs=1e-12)


@pytest.mark.parametrize(
    "function",
    [
        torch.floor,
        torch.ceil,
        torch.round,
        torch.trunc,
        torch.frac,
        lambda t: t % 1,
        lambda t: t // 1,
        lambda t: torch.fmod(t, 1),
    ],
)
def test_the_steps_of_rounding_go_to_what_takes_them(function: object) -> None:
    x, x_ref = drawn(3, 3)
    assert conserves(function, 2 * x, 2 * x_ref)  # type: ignore[arg-type]


def test_a_constant_that_differs_between_the_runs_is_noted() -> None:
    x, x_ref = drawn(3, 4)
    found = pair(
        lambda t, s: t * s, x, x_ref, args=(torch.full((4,), 3.0).double(),), ref_args=(torch.ones(4).double(),)
    )
    assert [note.kind for note in found.notes] == ["differing constant"]
    assert torch.equal(found.multipliers, torch.full((3, 4), 2.0).double())


def test_runs_that_part_name_the_first_op_and_line() -> None:
    def function(t: Tensor) -> Tensor:
        t = t * t
        return t.tanh() if float(t.sum()) > 4 else t.sigmoid()

    with pytest.raises(
        ObservationError, match=r"reference ran sigmoid at tests/test_paired.py:\d+ function, the input tanh"
    ):
        pair(function, torch.ones(5), torch.zeros(5))


def test_runs_of_unequal_length_are_an_error_both_ways() -> None:
    def function(t: Tensor) -> Tensor:
        for _ in range(int(t[0])):
            t = t + 1
        return t * 1

    with pytest.raises(ObservationError, match="reference ran mul"):
        pair(function, torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]))
    with pytest.raises(ObservationError, match="reference run went on with add"):
        pair(lambda t: t if t[0] > 1 else t + 1, torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]))
    with pytest.raises(ObservationError, match="reference run ended before"):
        pair(lambda t: t if t[0] < 2 else t + 1, torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]))


def test_operands_of_unequal_shape_are_an_error() -> None:
    with pytest.raises(ObservationError, match=r"shape \(3,\) in the input run and of \(2,\)"):
        pair(torch.tanh, torch.ones(3), torch.ones(2))


def test_a_module_called_twice_and_a_subclass_are_no_obstacle() -> None:
    class Mine(nn.GELU):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * x

    act = Mine()
    assert conserves(lambda t: act(act(t)) + act(input.__class__ and t * 2), *drawn(3, 4))


def test_compiled_and_scripted_modules() -> None:
    class Block(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.gelu(x) * x

    x, x_ref = drawn(3, 4)
    compiled = torch.compile(Block(), backend="aot_eager")
    compiled(x)
    assert conserves(compiled, x, x_ref)
    found = pair(nn.Sequential(nn.Tanh(), torch.jit.script(Block())), x, x_ref)
    assert [(note.path, note.kind) for note in found.notes] == [("1", "unseen")]


def test_float64_stays_float64_and_half_is_finite() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        model = layer.to(dtype)
        x, x_ref = (t.to(dtype) for t in drawn(2, 3, 8))
        found = pair(model, x, x_ref)
        assert found.multipliers.dtype == dtype
        assert torch.isfinite(found.multipliers).all()


@pytest.mark.parametrize(
    "function", [torch.tanh, F.gelu, lambda t: t.softmax(-1), lambda t: F.layer_norm(100 * t, (64,))]
)
def test_half_precision_is_computed_in_single(function: object) -> None:
    """The same multipliers as in float32 but for the rounding of the result; a variance of 10⁶ overflows in half."""
    x, x_ref = (t.half() for t in drawn(2, 64))
    x_ref[:, ::2] = x[:, ::2] * 1.001
    weights = torch.linspace(-1, 1, 64).half()
    narrow = pair(function, x, x_ref, weights).multipliers  # type: ignore[arg-type]
    wide = pair(function, x.float(), x_ref.float(), weights).multipliers  # type: ignore[arg-type]
    assert torch.allclose(narrow.float(), wide, rtol=2e-3, atol=1e-4 * float(wide.abs().max()))


def test_rescale_is_the_secant_of_each_element_and_the_gradient_elsewhere() -> None:
    x, x_ref = drawn(3, 4)
    found = pair(lambda t: t.softmax(-1), x, x_ref, rulebook=Rulebook("rescale"))
    assert torch.allclose(found.multipliers, (x.softmax(-1) - x_ref.softmax(-1)) / (x - x_ref), atol=1e-12)
    product = pair(lambda t: t * t.flip(0), x, x_ref, rulebook=Rulebook("rescale"))
    assert torch.allclose(product.multipliers, 2 * x.flip(0), atol=1e-12)


def test_gradient_is_plain_autograd() -> None:
    x, x_ref = drawn(3, 4)
    function = lambda t: F.gelu(t).softmax(-1) * t  # noqa: E731
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(leaf).sum(), leaf)
    assert torch.equal(pair(function, x, x_ref, rulebook=Rulebook("gradient")).multipliers, gradient)


def test_parameters_fast_path_and_grad_mode_are_put_back_after_an_error() -> None:
    layer = nn.Linear(2, 2)
    engine = PairedEvaluation(layer)
    with pytest.raises(KeyboardInterrupt), torch.no_grad(), engine.reference_pass():
        raise KeyboardInterrupt
    assert all(p.requires_grad for p in layer.parameters())
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.is_grad_enabled()
    assert not torch.overrides._get_current_function_mode_stack()


def test_a_choice_of_another_number_of_places_is_noted_not_refused() -> None:
    x, x_ref = drawn(3, 3)
    hidden = torch.tensor([[False, True, True]] * 3)
    found = pair(
        lambda t, m: _assigned(t, m.nonzero(as_tuple=True), 0.0), x, x_ref, args=(hidden,), ref_args=(~hidden,)
    )
    assert [(note.op, note.kind) for note in found.notes] == [("setitem", "discrete choice")]
    assert torch.equal(found.multipliers, torch.full((3, 3), 1.5).double())


def test_a_mask_made_from_the_input_is_a_choice() -> None:
    x, x_ref = drawn(4, 5)
    assert conserves(lambda t: _assigned(t, t < 0, 0.0), x, x_ref)
    found = pair(lambda t, m: _assigned(t, m, 0.0), x, x_ref, args=(x < 0,), ref_args=(x_ref < 0,))
    assert [(note.op, note.kind) for note in found.notes] == [("setitem", "discrete choice")]
    assert torch.equal(found.multipliers, 1.5 * ((x >= 0).double() + (x_ref >= 0).double()))


def test_the_magnitude_of_a_complex_number_conserves() -> None:
    x, x_ref = drawn(3, 8)
    assert conserves(lambda t: torch.fft.rfft(t + 9).abs() + torch.fft.rfft(t).real.square(), x, x_ref)
    assert conserves(lambda t: torch.complex(t, t.sin()).abs().log1p(), x, x_ref * 0)
    product = pair(lambda t: (torch.fft.fft(t) * torch.fft.fft(t.flip(1))).real, x, x_ref)
    assert float((product.multipliers * (x - x_ref)).sum()) == pytest.approx(float(product.flow), abs=1e-9)


class Cube(torch.autograd.Function):
    """x³."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x * x * g


BOUND_BEFORE = Cube.apply


@torch.jit.script
def scripted(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def unseen_in(function: Any, rulebook: Rulebook = EXACT) -> list[str]:
    lift = DeepLift(Model(function), rulebook=rulebook)
    lift.attribute(*drawn(3, 4))
    return [note.op for note in lift.notes if note.kind == "unseen"]


def test_what_no_function_mode_sees_is_noted() -> None:
    assert unseen_in(lambda t: BOUND_BEFORE(t).sum(1)) == ["CubeBackward"]
    for _call in range(3):  # the graph changes once TorchScript has profiled a call
        assert unseen_in(lambda t: scripted(t).sum(1))
    weight = nn.Parameter(torch.randn(4, 4).double())

    def seen(t: Tensor) -> Tensor:
        h = t @ (weight * weight) * 2 / t.new_full((), 3.0) + Cube.apply(t) * t
        return (F.layer_norm(h, (4,)).softmax(-1).pow(2) / (1 + t.exp())).logsumexp(-1)

    assert unseen_in(seen) == []
    assert unseen_in(lambda t: t.tanh().sum(1), Rulebook("gradient")) == []


def test_transforms_of_varying_tensors_are_refused_and_those_of_constants_are_not() -> None:
    x, x_ref = drawn(3, 4)
    with pytest.raises(InputError, match=r"torch\.func"):
        pair(lambda t: torch.func.vmap(lambda row: row.tanh() * row)(t), x, x_ref)
    gradient = pair(lambda t: torch.func.vmap(lambda row: row * row)(t), x, x_ref, rulebook=Rulebook("gradient"))
    assert torch.equal(gradient.multipliers, 2 * x)
    assert conserves(lambda t: t.tanh() * torch.func.vmap(lambda i: i * 2.0)(torch.arange(4)), x, x_ref)


@pytest.mark.parametrize(
    ("rule", "function", "label"),
    [
        ("exact", torch.tanh, "exact"),
        ("rescale", torch.tanh, "rescale"),
        ("exact", torch.special.erfcx, "approximated"),
        ("exact", torch.floor, "exact"),
        ("exact", lambda t: torch.where(torch.tensor(next(_RUN) % 2 == 0), t, -t), "discrete choice"),
    ],
)
def test_a_replacement_names_its_rule(rule: Any, function: Any, label: str) -> None:
    model = Model(function)
    engine = PairedEvaluation(model, Rulebook(rule))
    x, x_ref = drawn(2, 3)
    with engine.reference_pass():
        model(x_ref.requires_grad_())
    with engine.input_pass():
        value = model(x.requires_grad_())
    assert value.grad_fn.replacement.rule == label


@pytest.mark.rounding
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fused", [True, False])
def test_rows_masked_throughout_by_the_minimum_conserve(dtype: torch.dtype, fused: bool) -> None:
    mask = torch.zeros(4, 4, dtype=dtype)
    mask[1] = torch.finfo(dtype).min
    x, x_ref = (t.to(dtype) for t in drawn(1, 4, 8, seed=seeded(0)))

    def attend(t: Tensor) -> Tensor:
        if fused:
            return F.scaled_dot_product_attention(t, t, t, attn_mask=mask, scale=1.0)
        return F.softmax(t @ t.transpose(1, 2) + mask, -1) @ t

    found = pair(attend, x, x_ref)
    m, steps = found.multipliers, 8 + 4 + 4 + 8  # the lengths of the sums, there and back
    bound = of_sum(dtype, steps, *(m * size for size in (x, x_ref, x - x_ref)), found.output, found.reference)
    assert float((m * (x - x_ref)).double().sum()) == pytest.approx(float(found.flow), rel=0, abs=bound)
    other = pair(lambda t: F.softmax(t @ t.transpose(1, 2) + mask, -1) @ t, x, x_ref)
    assert float((m - other.multipliers).abs().max()) <= 2 * of_sum(dtype, steps, m.abs().max())
