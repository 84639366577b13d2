"""Figures of tensors, against numpy and against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tracer.axis import Place
from tracer.measure import Measure, as_array, statistics
from tracer.observation import Observation, Wire


@given(arrays(np.float64, array_shapes(max_dims=3, max_side=5), elements=st.floats(-1e6, 1e6)))
def test_statistics_are_numpys(array: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
    found = statistics(array)
    assert (found.count, found.nonfinite) == (array.size, 0)
    assert (found.minimum, found.maximum) == (array.min(), array.max())
    assert found.mean == pytest.approx(array.mean(), abs=1e-6)
    assert found.norm == pytest.approx(np.linalg.norm(array), rel=1e-9)


def test_statistics_leave_out_what_is_not_finite_and_count_it() -> None:
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


def doubled(value: torch.Tensor, place: Place, examples: int) -> tuple[Measure, Wire]:
    wire = Wire(0, value, place, None)
    return Measure(Observation(examples, doubled=True, wires=[wire]), None), wire


def test_flow_is_the_sum_of_multiplier_times_difference() -> None:
    torch.manual_seed(0)
    value, gradient = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    measure, wire = doubled(value, Place(0, 1), 3)
    expected = (gradient[:3] * (value[:3] - value[3:])).sum(1)
    assert np.allclose(measure.flow(wire, gradient), expected.numpy(), rtol=1e-14)
    assert measure.magnitude(wire, gradient) == pytest.approx(
        float((gradient[:3] * (value[:3] - value[3:])).abs().sum()), rel=1e-14
    )
    assert np.array_equal(measure.flow(wire, None), np.zeros(3))


def test_flows_are_summed_in_double_precision() -> None:
    # 1 + 2²⁴ · 2⁻²⁴ + …: float32 would swallow every summand after the first
    value = torch.cat([torch.ones(1, 2**16), torch.zeros(1, 2**16)])
    value[0, 0] = 2.0**24
    measure, wire = doubled(value, Place(0, 1), 1)
    assert measure.flow(wire, torch.ones_like(value))[0] == 2.0**24 + 2**16 - 1


def test_a_reference_of_another_shape_has_no_difference() -> None:
    wire = Wire(0, torch.ones(1, 3), Place(0, 1), None, reference=torch.ones(1, 4))
    measure = Measure(Observation(1, doubled=False, wires=[wire]), None)
    assert measure.difference(wire) is None
    assert measure.flow(wire, torch.ones(1, 3)).tolist() == [0.0]
