"""Which calls a filter keeps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tui.builders import ends_of, figures
from tui.model.figures import Figures, Ints
from tui.model.filters import FAMILIES, Filter, family, inside, kept

PARENTS = [-1, 0, 1, 2, 2, 1, 0, 6, 0]
PATHS = [
    "",
    "layer.0",
    "layer.0.attention",
    "layer.0.attention/softmax",
    "layer.0.attention.dense",
    "layer.0.LayerNorm",
    "layer.0.act",
    "layer.0.act/tanh",
    "abnormal",
]
TYPES = ["Model", "Layer", "SelfBlock", "softmax", "Linear", "LayerNorm", "NewGELUActivation", "tanh", "Linear"]


def tree() -> Figures:
    leaks = [0.0, 0.0, 0.0, 50.0, 0.0, 0.0, 0.0, 30.0, 0.0]
    return figures(PARENTS, leaks, paths=PATHS, types=TYPES)


def nothing(query: str) -> Ints:
    return np.zeros(0, dtype=np.int64)


@pytest.mark.parametrize(("name", "ids"), [("attention", [2, 3, 4]), ("gelu", [6, 7]), ("norm", [5])])
def test_a_family_has_its_calls_and_what_lies_inside_them(name: str, ids: list[int]) -> None:
    assert np.flatnonzero(family(tree(), name)).tolist() == ids


@pytest.mark.parametrize(
    ("type_name", "name"),
    [
        ("BertSdpaSelfAttention", "attention"),
        ("scaled_dot_product_attention", "attention"),
        ("MultiheadAttention", "attention"),
        ("GELUActivation", "gelu"),
        ("QuickGELU", "gelu"),
        ("gelu", "gelu"),
        ("LlamaRMSNorm", "norm"),
        ("BatchNorm2d", "norm"),
        ("layer_norm", "norm"),
        ("T5LayerNorm", "norm"),
        ("linalg_vector_norm", "norm"),
    ],
)
def test_types_are_known_by_their_names(type_name: str, name: str) -> None:
    found = figures([-1, 0], [0.0, 1.0], types=["Model", type_name])
    assert [each for each in FAMILIES if family(found, each)[1]] == [name]


@pytest.mark.parametrize("type_name", ["Linear", "normalize_positions", "abnormal", "relu", "Embedding", "format"])
def test_other_types_belong_to_none(type_name: str) -> None:
    found = figures([-1, 0], [0.0, 1.0], types=["Model", type_name])
    assert not any(family(found, each).any() for each in FAMILIES)


def test_families_are_alternatives_and_everything_else_holds_as_well() -> None:
    both = Filter(families=frozenset({"attention", "gelu"}))
    found = kept(tree(), both, nothing)
    assert found is not None and np.flatnonzero(found).tolist() == [2, 3, 4, 6, 7]
    diverging = kept(tree(), both.toggled("diverging"), nothing)
    assert diverging is not None and np.flatnonzero(diverging).tolist() == [3, 7]
    text = kept(tree(), Filter(diverging=True, text="tanh"), lambda query: np.array([7, 8]))
    assert text is not None and np.flatnonzero(text).tolist() == [7]


def test_a_filter_that_keeps_all_is_none() -> None:
    assert kept(tree(), Filter(), nothing) is None and kept(tree(), Filter(text="  "), nothing) is None
    assert not Filter() and Filter(text="x") and Filter(diverging=True)


def test_toggling_twice_changes_nothing_and_the_words_say_what_is_kept() -> None:
    wanted = Filter(text="dense")
    assert wanted.toggled("gelu").toggled("gelu") == wanted
    assert wanted.toggled("diverging").toggled("gelu").words == "only diverging, GELU, “dense”"
    assert Filter().words == ""


@given(st.lists(st.integers(0, 4), max_size=15), st.data())
def test_inside_is_what_has_a_chosen_call_around_it(steps: list[int], data: st.DataObject) -> None:
    parents = [-1]
    for back in steps:
        parent = len(parents) - 1
        for _ in range(back):
            parent = max(parents[parent], 0)
        parents.append(parent)
    chosen = data.draw(st.lists(st.booleans(), min_size=len(parents), max_size=len(parents)))
    slowly = []
    for call in range(len(parents)):
        around = call
        while around >= 0 and not chosen[around]:
            around = parents[around]
        slowly.append(around >= 0)
    assert inside(np.array(chosen), np.array(ends_of(parents))).tolist() == slowly
