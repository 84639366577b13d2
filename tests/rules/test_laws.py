"""Laws that every rule in the table keeps."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.rounding import of_sum, seeded
from tests.rules.cases import CASES, CHOICES, OTHER_LAWS, SHAPE, Case
from tests.rules.pairs import pair
from tracer import ops
from tracer.rules.table import FAMILIES, RULES

warnings.filterwarnings("ignore", message=".*adaptive_max_pool.*")


def draw(case: Case, seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Input, reference and weights of a case, reproducibly."""
    generator = torch.Generator().manual_seed(seed)
    x, x_ref, weights = (torch.rand(SHAPE, generator=generator, dtype=torch.float64) for _ in range(3))
    span = case.high - case.low
    return (case.low + span * x).to(dtype), (case.low + span * x_ref).to(dtype), weights.to(dtype)


def weighted(case: Case, weights: Tensor):
    """The case with its output reduced to one number an example (or one in all) by fixed weights."""

    def function(x: Tensor) -> Tensor:
        y = case.function(x)
        lead = y.shape[0] if case.rowwise else 1
        flat = y.reshape(lead, -1)
        return flat @ weights[0].reshape(-1)[:1].expand(flat.shape[1]) + (
            flat @ torch.linspace(-1, 1, flat.shape[1]).to(flat)
        )

    return function


def test_every_rule_has_a_case() -> None:
    missing = sorted(set(RULES) - set(CASES) - CHOICES - OTHER_LAWS)
    assert not missing, f"add a case to tests/rules/cases.py for {', '.join(missing)}"
    unknown = sorted((set(CASES) | CHOICES | OTHER_LAWS) - set(RULES))
    assert not unknown, f"tests/rules/cases.py has cases for {', '.join(unknown)}, which rules/bindings lacks"


def test_each_op_is_bound_in_one_file() -> None:
    bound = Counter(name for family in FAMILIES for name in family)
    assert not [name for name, count in bound.items() if count > 1]


def test_no_op_with_a_rule_is_linear() -> None:
    assert not [name for name in RULES if ops.kind(name) in (None, "linear", "shape")]


@pytest.mark.parametrize("name", CASES)
def test_the_op_of_a_case_meets_its_rule(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    met = []
    binder = RULES[name]
    monkeypatch.setitem(RULES, name, lambda call: met.append(name) or binder(call))
    x, x_ref, weights = draw(CASES[name], 0)
    pair(weighted(CASES[name], weights), x, x_ref)
    assert met


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_rule_conserves(name: str, seed: int) -> None:
    x, x_ref, weights = draw(CASES[name], seed)
    # Elements that are equal, nearly equal, and equal to within rounding, beside those that differ.
    x_ref.view(-1)[:6] = x.view(-1)[:6]
    x_ref.view(-1)[6:12] = x.view(-1)[6:12] * (1 + 1e-7)
    x_ref.view(-1)[12:14] = x.view(-1)[12:14] * (1 + 3e-16)
    found = pair(weighted(CASES[name], weights), x, x_ref)
    scale = 1 + float(found.output.abs().max() + found.reference.abs().max())
    flow = float((found.multipliers * (x - x_ref)).sum())
    # The ops that are ruled by a secant in float64 keep 1e-11, all others 1e-12.
    assert flow == pytest.approx(float(found.flow), rel=0, abs=2e-12 * scale)
    assert not found.notes


@pytest.mark.rounding
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_narrow_dtypes_conserve_to_their_rounding(name: str, dtype: torch.dtype) -> None:
    """`walk` of what is summed: at the input, as weights·output, and in the result of `weighted`."""
    if name == "float_power":
        pytest.skip("its result is always float64")
    case = CASES[name]
    # Other numbers might lie where a rounded quotient jumps.
    x, x_ref, weights = draw(case, seeded(1) if case.smooth else 1, dtype)
    try:
        outputs = case.function(x), case.function(x_ref)
    except RuntimeError:
        pytest.skip(f"{name} itself has no {dtype}")
    found = pair(weighted(case, weights), x, x_ref)
    flow = float((found.multipliers.double() * (x.double() - x_ref.double())).sum())
    assert torch.isfinite(found.multipliers).all()
    width = outputs[0].numel() // (SHAPE[0] if case.rowwise else 1)
    sent = weights[0, 0, 0].double() + torch.linspace(-1, 1, width).double()  # what `weighted` multiplies by
    terms = [sent * output.double().reshape(-1, width) for output in outputs]
    terms += [found.multipliers.double() * size.double() for size in (x, x_ref, x - x_ref)]
    bound = of_sum(dtype, x.numel() + width, *terms, found.output, found.reference)
    assert flow == pytest.approx(float(found.flow), rel=0, abs=bound)


@pytest.mark.parametrize("name", CASES)
def test_the_value_is_the_true_value(name: str) -> None:
    x, x_ref, _ = draw(CASES[name], 2)
    found = pair(CASES[name].function, x, x_ref)
    assert torch.equal(found.output, CASES[name].function(x))
    assert torch.equal(found.reference, CASES[name].function(x_ref))


@pytest.mark.parametrize("name", CASES)
def test_reference_equal_to_input_gives_the_gradient(name: str) -> None:
    x, _, weights = draw(CASES[name], 3)
    function = weighted(CASES[name], weights)
    found = pair(function, x, x.clone())
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(leaf).sum(), leaf)
    assert torch.allclose(found.multipliers, gradient, rtol=1e-7, atol=1e-9 * float(gradient.abs().max()))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.rowwise])
def test_an_example_alone_equals_the_example_in_a_batch(name: str) -> None:
    x, x_ref, weights = draw(CASES[name], 4)
    function = weighted(CASES[name], weights)
    together = pair(function, x, x_ref).multipliers
    for row in range(SHAPE[0]):
        alone = pair(function, x[row : row + 1], x_ref[row : row + 1]).multipliers
        assert torch.allclose(alone[0], together[row], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_input_and_reference_may_be_exchanged(name: str) -> None:
    x, x_ref, weights = draw(CASES[name], 5)
    function = weighted(CASES[name], weights)
    there, back = pair(function, x, x_ref).multipliers, pair(function, x_ref, x).multipliers
    assert torch.allclose(there, back, rtol=1e-8, atol=1e-10 * float(there.abs().max()))


@pytest.mark.parametrize("op", [torch.logsumexp, torch.linalg.vector_norm, torch.prod, torch.amax, torch.softmax])
def test_an_axis_of_a_single_number_conserves(op: Callable[..., Tensor]) -> None:
    generator = torch.Generator().manual_seed(seeded(1))
    x, x_ref = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    found = pair(lambda t: op(t.sum(), dim=0), x, x_ref)
    assert (found.multipliers * (x - x_ref)).sum().item() == pytest.approx(found.flow.item(), abs=1e-12)
