"""Figures of tensors, against numpy and against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tracer.ledger.arrays import as_array, extremes, identical, ratio, statistics, subtract, sums
from tracer.ledger.example_axis import ExamplePlace

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of overflow and NaN: callers silence them


@given(arrays(np.float64, array_shapes(max_dims=3, max_side=5), elements=st.floats(-1e6, 1e6)))
def test_statistics_are_numpys(array: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
    found = statistics(array)
    assert (found.count, found.nonfinite) == (array.size, 0)
    assert (found.minimum, found.maximum) == (array.min(), array.max())
    assert found.mean == pytest.approx(array.mean(), abs=1e-6)
    assert found.norm == pytest.approx(np.linalg.norm(array), rel=1e-9)


def test_statistics_count_non_finite_elements_and_leave_them_out() -> None:
    found = statistics(np.array([math.nan, 1.0, math.inf, -2.0, -math.inf]))
    assert (found.count, found.nonfinite) == (5, 3)
    assert (found.minimum, found.maximum, found.mean) == (-2.0, 1.0, -0.5)
    assert found.norm == pytest.approx(math.sqrt(5))
    assert statistics(np.full(2, math.nan)).nonfinite == 2
    assert statistics(np.zeros((0, 3))).count == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_norms_do_not_overflow(dtype: torch.dtype) -> None:
    large = torch.finfo(dtype).max / 2
    numbers = as_array(torch.full((4,), large, dtype=dtype)).numbers
    assert numbers is not None
    found = statistics(numbers)
    assert found.nonfinite == 0
    assert found.norm == pytest.approx(2 * large, rel=1e-2)


def test_norms_do_not_underflow() -> None:
    assert statistics(np.full(4, 1e-30, dtype=np.float32)).norm == pytest.approx(2e-30, rel=1e-6)
    assert statistics(np.zeros(4, dtype=np.float32)).norm == 0.0


def reference_sums(
    multiplier: torch.Tensor, difference: torch.Tensor, examples: int
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float64]], float]:
    product = (multiplier * difference).double()
    return product.reshape(examples, -1).sum(1).numpy(), float(product.abs().sum())


@pytest.mark.parametrize("shape", [(3, 5), (1, 5), (1, 300, 300), (2, 200, 300)])  # small ones, and large ones
def test_flow_is_the_sum_of_multiplier_times_difference(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    difference, multiplier = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    flow, magnitude = sums(multiplier.numpy(), difference.numpy(), ExamplePlace(0, 1), shape[0])
    expected, size = reference_sums(multiplier, difference, shape[0])
    assert np.allclose(flow, expected, rtol=1e-12)
    assert magnitude == pytest.approx(size, rel=1e-12)


def test_flows_of_strided_tensors_are_those_of_their_copies() -> None:
    torch.manual_seed(0)
    wide = torch.randn(1, 300, 400)
    multiplier, difference = wide.transpose(1, 2)[:, ::2], torch.randn(400, 1, 300).transpose(0, 1)[:, ::2]
    flow, magnitude = sums(multiplier.numpy(), difference.numpy(), ExamplePlace(0, 1), 1)
    expected, size = reference_sums(multiplier, difference, 1)
    assert np.allclose(flow, expected, rtol=1e-9)
    assert magnitude == pytest.approx(size, rel=1e-5)


def test_flows_are_summed_in_double_precision() -> None:
    # 1 + 2²⁴ · 2⁻²⁴ + …: float32 would swallow every summand after the first
    for size in (2**10, 2**17):
        difference = np.ones((1, size), np.float32)
        difference[0, 0] = 2.0**24
        assert sums(np.ones_like(difference), difference, ExamplePlace(0, 1), 1)[0][0] == 2.0**24 + size - 1


def test_a_magnitude_that_single_precision_cannot_hold_is_summed_in_double() -> None:
    large = np.full((1, 2**17), 1e36, np.float32)
    assert sums(np.ones_like(large), large, ExamplePlace(0, 1), 1)[1] == pytest.approx(2**17 * 1e36, rel=1e-5)


@pytest.mark.parametrize("size", [2**10, 2**17])
def test_statistics_of_large_arrays_are_those_of_small_ones(size: int) -> None:
    numbers = np.random.default_rng(0).normal(3, 1, size).astype(np.float32)
    found = statistics(numbers.reshape(2, -1))
    exact = numbers.astype(np.float64)
    assert (found.count, found.nonfinite) == (size, 0)
    assert (found.minimum, found.maximum) == (exact.min(), exact.max())
    assert found.mean == pytest.approx(exact.mean(), rel=1e-6)
    assert found.norm == pytest.approx(np.linalg.norm(exact), rel=1e-6)
    numbers[[1, 5, 7]] = math.nan, math.inf, -math.inf
    found = statistics(numbers)
    assert (found.count, found.nonfinite) == (size, 3)
    assert found.mean == pytest.approx(exact[np.isfinite(numbers)].mean(), rel=1e-6)
    assert statistics(np.full(size, 1e-30, np.float32)).norm == pytest.approx(size**0.5 * 1e-30, rel=1e-6)


def test_equal_infinities_have_no_difference() -> None:
    mask = np.array([[-math.inf, 1.0, math.inf]])
    assert subtract(mask, np.array([[-math.inf, 0.5, -math.inf]])).tolist() == [[0.0, 0.5, math.inf]]


def test_an_infinite_flow_does_not_hide_a_nan() -> None:
    difference = np.array([[1.0, 2.0, 3.0]], np.float32)
    flow, magnitude = sums(np.array([[math.nan, 1.0, 1.0]], np.float32), difference, ExamplePlace(0, 1), 1)
    assert math.isnan(flow[0])
    assert math.isnan(magnitude)
    flow, magnitude = sums(np.array([[0.0, 1.0, -1.0]], np.float32), difference * math.inf, ExamplePlace(0, 1), 1)
    assert math.isnan(flow[0])  # ∞ − ∞
    assert magnitude == math.inf
    flow, magnitude = sums(np.array([[0.0, 1.0, -1.0]]), np.array([[math.inf, 2.0, 3.0]]), ExamplePlace(0, 1), 1)
    assert (flow[0], magnitude) == (-1.0, 5.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64])
def test_identical_arrays_hold_the_same_bits(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    tensor = torch.randn(3, 4, dtype=dtype)
    tensor[0, 0] = math.nan
    one, turned = as_array(tensor).raw, as_array(tensor.T.contiguous().T).raw
    assert identical(one, turned)
    other = tensor.clone()
    other[2, 3] = -other[2, 3]
    assert not identical(one, as_array(other).raw)
    zeros = torch.zeros(2, dtype=dtype)
    assert not identical(as_array(zeros).raw, as_array(-zeros).raw)
    assert not identical(np.zeros(3, np.complex128), np.zeros(3, np.complex128))  # too wide to be compared


@pytest.mark.parametrize("size", [2**4, 2**17])
def test_extremes_and_ratios_of_small_and_large_arrays(size: int) -> None:
    numbers = np.random.default_rng(0).normal(size=size).astype(np.float32)
    assert extremes(numbers) == (numbers.min(), numbers.max())
    assert np.array_equal(ratio(numbers, numbers + 1), numbers / (numbers + 1))
    numbers[3] = math.nan
    assert all(map(math.isnan, extremes(numbers)))
    zero = np.zeros_like(numbers)
    assert math.isnan(ratio(zero, zero)[0]) and ratio(zero + 1, zero)[0] == math.inf


@pytest.mark.parametrize("size", [2**4, 2**17])
def test_differences_of_small_and_large_arrays(size: int) -> None:
    value = np.full(size, -math.inf, np.float32)
    value[1:] = np.random.default_rng(0).normal(size=size - 1)
    difference = subtract(value, value)
    assert not difference.any()
    assert math.isnan(subtract(value, value, finite=True)[0])  # the caller must know that they are


@pytest.mark.parametrize("size", [2**4, 2**17])
def test_flows_of_several_examples_are_their_own(size: int) -> None:
    difference = np.random.default_rng(0).normal(size=(3, size)).astype(np.float32)
    flow, _magnitude = sums(np.ones_like(difference), difference, ExamplePlace(0, 1), 3)
    assert flow == pytest.approx(difference.astype(np.float64).sum(1), rel=1e-9)
