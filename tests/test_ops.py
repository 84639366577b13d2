"""The table of ops: nothing is missing, nothing stands twice, and each name leads to the op that it is."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR
from torch import nn

from tests.test_borders import loaded
from tracer import ops
from tracer.rules.table import RULES


def test_every_op_that_has_a_rule_is_in_the_table() -> None:
    missing = sorted(set(RULES) - set(ops.TABLE))
    assert not missing, f"tracer/ops.py lacks {', '.join(missing)}"


def test_the_table_holds_captums_own_one() -> None:
    assert {kind.__name__ for kind in SUPPORTED_NON_LINEAR} == ops.CAPTUM_TABLE
    missing = sorted(kind for kind in ops.CAPTUM_TABLE if ops.find(kind) is None)
    assert not missing, f"tracer/ops.py lacks {', '.join(missing)}"


def test_each_name_stands_once() -> None:
    assert len(ops.TABLE) == len(ops._OPS)


def test_names_that_differ_in_case_and_underscores_only_are_of_one_kind() -> None:
    kinds = defaultdict(set)
    for op in ops.TABLE.values():
        kinds[op.name.replace("_", "").lower()].add((op.kind, op.family))
    assert [name for name, found in kinds.items() if len(found) > 1] == []


def test_the_table_needs_no_torch() -> None:
    assert loaded("from tracer import ops; ops.find('LayerNorm')", "torch", "captum", "numpy") == set()


@pytest.mark.parametrize(
    ("name", "op"),
    [
        ("softmax", "softmax"), ("Softmax2d", "softmax"), ("LogSoftmax", "log_softmax"), ("LayerNorm", "layer_norm"),
        ("BatchNorm1d", "batch_norm"), ("MaxPool2d", "max_pool2d"), ("LeakyReLU", "leaky_relu"), ("ReLU6", "hardtanh"),
        ("logsigmoid", "log_sigmoid"), ("ZeroPad3d", "zero_pad"), ("LSTMCell", "lstm_cell"), ("MulBackward0", "mul"),
        ("NativeLayerNormBackward0", "layer_norm"), ("torch::autograd::SafeSoftmaxBackward0", "softmax"),
        ("Log1PBackward0", "log1p"), ("MaxPool2DWithIndicesBackward0", "max_pool2d_with_indices"),
        ("ScaledDotProductFlashAttentionForCpuBackward0", "scaled_dot_product_attention"), ("index", "index"),
        ("Attention", None), ("Embed", None), ("AccumulateGrad", None), ("CubeBackward", None),
    ],
)  # fmt: skip
def test_modules_and_nodes_of_the_graph_lead_to_their_op(name: str, op: str | None) -> None:
    found = ops.find(name)
    assert (None if found is None else found.name) == op


def test_the_nodes_of_a_graph_lead_to_their_op() -> None:
    x = torch.rand(4, 4, requires_grad=True)
    for name in ("mul", "exp", "sigmoid", "layer_norm", "softmax", "pow", "addmm", "max_pool1d", "gelu", "std"):
        arguments = {
            "mul": (x,), "layer_norm": ([4],), "softmax": (-1,), "pow": (2,), "addmm": (x, x), "max_pool1d": (2,),
        }.get(name, ())  # fmt: skip
        home = torch if hasattr(torch, name) else nn.functional
        node = getattr(home, name)(x, *arguments).grad_fn.name()
        found = ops.find(node)
        if name != "max_pool1d":  # its result is a view of another op's
            assert found is not None and found.name == name, node


@pytest.mark.parametrize(
    ("name", "varying", "linear"),
    [
        ("add", "0 1", True), ("Flatten", "0", True), ("BatchNorm2d", "0", True), ("relu", "0", False),
        ("mul", "0", True), ("mul", "0 1", False), ("mul", "", True), ("Linear", "0", True), ("linear", "0 2", True),
        ("linear", "input weight", False), ("addmm", "0 mat1", True), ("addmm", "1 2", False), ("einsum", "1 2", False),
        ("lerp", "0 1", True), ("lerp", "0 weight", False), ("div", "0", True), ("div", "other", False),
        ("rdiv", "1", True), ("rdiv", "0", False), ("glu", "0", False), ("where", "1", False), ("nothing", "0", False),
    ],
)  # fmt: skip
def test_an_op_is_linear_in_what_varies(name: str, varying: str, linear: bool) -> None:
    assert ops.is_linear(name, varying.split()) == linear


@pytest.mark.filterwarnings("ignore")
def test_ops_are_linear_where_the_table_says_so() -> None:
    """f(2x − x') = 2 f(x) − f(x') of those that can be called with one matrix; dropout is left out, float64 kept."""
    torch.manual_seed(0)
    x, x_ref = 3 * torch.randn(4, 4).double(), 3 * torch.randn(4, 4).double()
    tried = 0
    for op in ops.TABLE.values():
        function = getattr(torch, op.name, getattr(nn.functional, op.name, None))
        if function is None or op.training_at or op.kind in ("shape", "ignored", "composite", "index"):
            continue
        try:
            ours, theirs, beyond = (function(t) for t in (x, x_ref, 2 * x - x_ref))
        except (TypeError, RuntimeError, ValueError):
            continue
        if isinstance(ours, torch.Tensor) and ours.dtype in (torch.float64, torch.complex128):
            tried += 1
            assert torch.allclose(beyond, 2 * ours - theirs) == ops.is_linear(op.name, "0"), op.name
    assert tried > 90
