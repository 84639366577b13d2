"""Arrays that are put aside come back unchanged, from memory and from the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tracer.ledger.spill import Spill, Spilled

RANDOM = np.random.default_rng(0)


def arrays() -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Of several sizes and layouts, the last two not contiguous."""
    shapes = [(3,), (2, 200, 300), (100_000,), (300, 500), (1, 400, 400)]
    made = [RANDOM.normal(size=shape).astype(np.float32) for shape in shapes]
    return [*made, made[3].T, made[4][:, ::2]]


def test_what_exceeds_the_allowance_goes_to_the_file_and_comes_back(tmp_path: Path) -> None:
    spill = Spill(tmp_path, allowance=500_000)
    originals = arrays()
    held = [spill.put(array) for array in originals]
    assert [isinstance(item, Spilled) for item in held] == [False, False, True, True, True, True, True]
    for original, item in zip(reversed(originals), reversed(held), strict=True):
        back = spill.take(item)
        assert back.dtype == original.dtype
        np.testing.assert_array_equal(back, original)
    assert list(tmp_path.iterdir()) == []  # the file has no name


def test_taking_back_makes_room_again(tmp_path: Path) -> None:
    spill = Spill(tmp_path, allowance=500_000)
    array = np.zeros(100_000, np.float32)
    for _ in range(5):
        held = spill.put(array)
        assert not isinstance(held, Spilled)
        spill.take(held)
    spill.put(array)
    ends = []
    for _ in range(5):
        held = spill.put(array)
        assert isinstance(held, Spilled)
        ends.append(held.offset)
        spill.take(held)
    assert ends == [0] * 5


def test_a_full_disk_keeps_arrays_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object, **_options: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tracer.ledger.spill.tempfile.TemporaryFile", full)
    spill = Spill(tmp_path, allowance=0)
    array = RANDOM.normal(size=50_000)
    assert spill.take(spill.put(array)) is array
