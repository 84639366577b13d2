"""The examples are found in tensors inside a model, whatever the model does to its axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tracer.ledger.example_axis import ExamplePlace, Origin, find_place, half, per_example
from tracer.op_call import OpCall

T, B, H, D = 4, 4, 2, 6  # positions, doubled examples, heads, width: sizes that are easily confused

Steps = list[Callable[[torch.Tensor], torch.Tensor]]
"""One torch function a step, as the recorder sees them."""
STEPS: dict[str, Steps] = {
    "sequence first": [lambda t: t.transpose(0, 1), lambda t: t.contiguous()],
    "merged with heads": [lambda t: t.transpose(0, 1), lambda t: t.contiguous(), lambda t: t.view(T, B * H, D // H)],
    "heads in front": [
        lambda t: t.transpose(0, 1),
        lambda t: t.contiguous(),
        lambda t: t.view(T, B * H, D // H),
        lambda t: t.transpose(0, 1),
        lambda t: t.contiguous(),
    ],
    "positions times examples": [lambda t: t.transpose(0, 1), lambda t: t.reshape(T * B, D)],
    "and apart again": [lambda t: t.transpose(0, 1), lambda t: t.reshape(T * B, D), lambda t: t.view(T, B, D)],
    "examples times positions": [
        lambda t: t.reshape(B * T, D),
        lambda t: t.view(B, T, D),
        lambda t: t.permute(2, 1, 0),
    ],
    "a middle axis added": [
        lambda t: t.unsqueeze(0),
        lambda t: t.transpose(0, 1),
        lambda t: t.contiguous(),
        lambda t: t + 1,
    ],
    "narrowed": [lambda t: t.transpose(0, 1), lambda t: t[1:3], lambda t: t.clone()],
}


def follow(steps: Steps, rows: int) -> tuple[torch.Tensor, ExamplePlace]:
    """The tensor after the steps, whose entries say to which example they belong, and the place that was found."""
    tensor = torch.arange(rows, dtype=torch.float64).reshape(rows, 1, 1).expand(rows, T, D).contiguous()
    place = find_place(tensor, rows, None)
    for step in steps:
        assert place is not None
        after = step(tensor)
        place = find_place(after, rows, Origin(tensor, place))
        tensor = after
    assert place is not None
    return tensor, place


@pytest.mark.parametrize("name", STEPS)
def test_halves_are_the_examples_of_each_run(name: str) -> None:
    steps = STEPS[name]
    tensor, place = follow(steps, B)
    shift = float(tensor.min())
    first, second = (half(tensor.numpy(), number, place, B) for number in (0, 1))
    assert first.shape == second.shape
    assert set((first - shift).ravel().tolist()) == {0.0, 1.0}
    assert set((second - shift).ravel().tolist()) == {2.0, 3.0}


@pytest.mark.parametrize("name", STEPS)
def test_each_row_is_one_example(name: str) -> None:
    tensor, place = follow(STEPS[name], B)
    rows = per_example(tensor.numpy(), place, B)
    assert rows.shape[0] == B
    assert (rows == rows[:, :1]).all()
    assert (rows[:, 0] - rows[0, 0]).tolist() == [0.0, 1.0, 2.0, 3.0]


def taken(place: ExamplePlace, name: str, function: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Origin:
    """The origin of what `function` made of its argument `name`, of a tensor whose examples lie at `place`."""
    items = [item for arg in args for item in (arg if isinstance(arg, list) else [arg])]
    parent = next(item for item in items if isinstance(item, torch.Tensor))
    return Origin(parent, place, name, function.__name__, OpCall(function, args, kwargs))


def test_a_reduction_takes_the_axes_before_it_away() -> None:
    parent = torch.arange(float(B)).reshape(1, B, 1).expand(T, B, D).contiguous()
    assert find_place(parent.mean(0), B, taken(ExamplePlace(1, 1), "0", torch.mean, parent, 0)) == ExamplePlace(0, 1)
    assert find_place(parent.mean(-1), B, taken(ExamplePlace(1, 1), "0", torch.mean, parent, dim=[-1])) == ExamplePlace(
        1, 1
    )
    square = torch.rand(T, B, B)
    norm = torch.norm(square, 2, 0)  # its second argument names no axis
    assert find_place(norm, B, taken(ExamplePlace(1, 1), "0", torch.norm, square, 2, 0)) == ExamplePlace(0, 1)
    # without knowing what was reduced, sizes alone would have said axis 1
    assert parent.mean(0).shape == (B, D)


def test_without_a_place_everything_counts_for_the_first_example() -> None:
    assert find_place(torch.ones(5, 3), 4, None) is None
    assert per_example(np.ones((2, 3)), None, 4).sum(1).tolist() == [6.0, 0.0, 0.0, 0.0]


def test_ops_that_add_axes_move_the_place_along() -> None:
    parent = torch.arange(float(B)).reshape(B, 1).expand(B, T).contiguous()
    here = ExamplePlace(0, 1)
    stacked = torch.stack([parent] * B)
    assert find_place(stacked, B, taken(here, "0.0", torch.stack, [parent] * B)) == ExamplePlace(1, 1)
    behind = torch.stack([parent] * B, dim=-1)
    assert find_place(behind, B, taken(here, "0.0", torch.stack, [parent] * B, dim=-1)) == ExamplePlace(0, 1)
    repeated = parent.repeat(B, 1, 1)
    assert find_place(repeated, B, taken(here, "0", torch.Tensor.repeat, parent, B, 1, 1)) == ExamplePlace(1, 1)
    added = parent + torch.ones(B, 1, 1)
    assert find_place(added, B, taken(here, "0", torch.add, parent, torch.ones(B, 1, 1))) == ExamplePlace(1, 1)
    equation = "bt,hb->thb"
    mixed = torch.einsum(equation, parent, torch.ones(B, B))
    assert find_place(mixed, B, taken(here, "1", torch.einsum, equation, parent, torch.ones(B, B))) == ExamplePlace(
        2, 1
    )


def test_a_place_always_divides_its_axis() -> None:
    # one example in a doubled batch, stacked into a shape where every axis could be it
    parent = torch.ones(2, 3)
    found = find_place(torch.ones(3, 2, 2), 2, Origin(parent, ExamplePlace(1, 3)))
    assert found is not None
    first, second = (half(np.ones((3, 2, 2)), number, found, 2) for number in (0, 1))
    assert first.shape == second.shape


def test_rows_of_a_packed_sequence_are_those_of_its_steps() -> None:
    rows = torch.arange(float(B)).reshape(B, 1, 1).expand(B, 3, 2).contiguous()
    lengths = torch.tensor([3, 2, 2, 1])
    pack = torch._VF._pack_padded_sequence  # type: ignore[attr-defined]
    origin = Origin(rows, ExamplePlace(0, 1), "0", "_pack_padded_sequence", OpCall(pack, (rows, lengths, True), {}))
    data, batch_sizes = pack(rows, lengths, True)
    place = find_place(data, B, origin)
    assert place == ExamplePlace(0, 1, (0, 1, 2, 3, 0, 1, 2, 0)) and data[:, 0].tolist() == list(
        map(float, place.order)
    )
    assert find_place(data.view(-1, 2, 1), B, Origin(data, place)) == place
    assert per_example(data.numpy(), place, B).sum(1).tolist() == [0.0, 4.0, 8.0, 6.0]
    pad = torch._VF._pad_packed_sequence  # type: ignore[attr-defined]
    call = OpCall(pad, (data, batch_sizes, False, 0.0, 3), {})
    padded, _lengths = call.run()
    assert find_place(padded, B, Origin(data, place, "0", "_pad_packed_sequence", call)) == ExamplePlace(1, 1)


def test_halves_match_however_rows_of_one_length_were_sorted() -> None:
    rows = torch.arange(float(B)).reshape(B, 1)
    index = torch.tensor([1, 3, 2, 0])
    origin = taken(ExamplePlace(0, 1), "0", torch.index_select, rows, 0, index)
    picked = rows.index_select(0, index)
    place = find_place(picked, B, origin)
    assert place == ExamplePlace(0, 1, (1, 3, 2, 0))
    assert [half(picked.numpy(), number, place, B)[:, 0].tolist() for number in (0, 1)] == [[0.0, 1.0], [2.0, 3.0]]
    back = Origin(picked, place, "0", "index_select", OpCall(torch.index_select, (picked, 0, torch.argsort(index)), {}))
    assert find_place(rows, B, back) == ExamplePlace(0, 1)
    uneven = taken(ExamplePlace(0, 1), "0", torch.index_select, rows, 0, torch.tensor([0, 0, 1, 2]))
    assert find_place(rows, B, uneven) == ExamplePlace(0, 1)  # guessed
