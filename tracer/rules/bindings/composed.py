"""Calls of ops that are written as others: which composition each has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from tracer.op_call import OpCall
from tracer.rules.call import Binder, BoundCall, composed
from tracer.rules.compositions import distances, losses, matrices, orders, others

_LARGEST = 1 << 24
"""Some compositions build a table of all elements by all places: a larger one is not built, the op is approximated."""


def _as(function: Callable[..., Any]) -> Binder:
    """Binder of an op that is always written as `function`."""
    return lambda call: composed(call, function)


def _of_its_tensor(call: OpCall, function: Callable[[Tensor], Tensor]) -> BoundCall:
    """`call` written as a `function` of its only tensor, by whatever name that is given."""

    def of_all(*args: Any, **kwargs: Any) -> Tensor:
        (x,) = (item for item in (*args, *kwargs.values()) if isinstance(item, Tensor))
        return function(x)

    return composed(call, of_all)


def norm(call: OpCall) -> BoundCall:
    """Norms of an order that has no rule of its own, where they are of vectors or sums of rows and columns."""
    kind = getattr(call.function, "__name__", "")
    x = call.value(0, "input", call.kwargs.get("self", call.kwargs.get("x")))
    at = 1 if kind != "linalg_norm" or len(call.args) > 1 else None
    order = call.value(at, "ord", call.kwargs.get("p", None if kind.startswith("linalg") else 2))
    dim, keepdim = call.value(2, "dim"), bool(call.value(3, "keepdim", False))
    if isinstance(order, str) or call.value(4, "dtype") not in (None, x.dtype) or x.is_complex():
        raise NotImplementedError
    axes = x.dim() if dim is None else 1 if isinstance(dim, int) else len(dim)
    if kind == "linalg_norm" and order is not None and axes == 2 and abs(order) not in (1, math.inf):
        raise NotImplementedError
    if kind == "linalg_norm":
        return _of_its_tensor(call, lambda x: distances.linalg_norm(x, order, dim, keepdim))
    return _of_its_tensor(call, lambda x: distances.norm(x, order, dim, keepdim))


def matrix_norm(call: OpCall) -> BoundCall:
    """Matrix norms of order ±1 and ±∞, and the Frobenius norm."""
    order, dim = call.value(1, "ord", "fro"), call.value(2, "dim", (-2, -1))
    keepdim = bool(call.value(3, "keepdim", False))
    if order == "fro":
        return _of_its_tensor(call, lambda x: distances.vector_norm(x, 2, dim, keepdim))
    if isinstance(order, str) or abs(order) not in (1, math.inf):
        raise NotImplementedError
    return _of_its_tensor(call, lambda x: distances.matrix_norm(x, order, dim, keepdim))


def _mode(call: OpCall) -> BoundCall:
    x, dim = call.value(0, "input"), call.value(1, "dim", -1)
    ordered = x.detach().sort(dim).values
    if x.dim() and bool((ordered.diff(dim=dim) == 0).any()):
        raise NotImplementedError
    return composed(call, orders.mode)


def _scatter_reduce(call: OpCall) -> BoundCall:
    base, index = call.value(0, "input"), call.value(2, "index")
    dim = call.value(1, "dim")
    if index.numel() * (base.shape[dim] if base.dim() else 1) > _LARGEST:
        raise NotImplementedError
    return composed(call, orders.scatter_reduce)


def _index_reduce(call: OpCall) -> BoundCall:
    base, source = call.value(0, "input"), call.value(3, "source")
    if source.numel() * (base.shape[call.value(1, "dim")] if base.dim() else 1) > _LARGEST:
        raise NotImplementedError
    return composed(call, orders.index_reduce)


def _logcumsumexp(call: OpCall) -> BoundCall:
    x, dim = call.value(0, "input"), call.value(1, "dim")
    if x.dim() and x.numel() * x.shape[dim] > _LARGEST:
        raise NotImplementedError
    return composed(call, orders.logcumsumexp)


def _lu_solve(call: OpCall) -> BoundCall:
    old = getattr(call.function, "__name__", "") == "lu_solve"
    return composed(call, matrices.lu_solve_old if old else matrices.lu_solve)


COMPOSED: dict[str, Binder] = {
    **{
        name: _as(getattr(losses, name))
        for name in (
            "l1_loss", "mse_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss", "hinge_embedding_loss",
            "margin_ranking_loss", "multi_margin_loss", "multilabel_margin_loss", "cosine_embedding_loss",
            "triplet_margin_loss", "poisson_nll_loss", "kl_div", "binary_cross_entropy",
            "binary_cross_entropy_with_logits",
        )
    },
    **{
        name: _as(getattr(distances, name))
        for name in ("dist", "pairwise_distance", "cdist", "pdist", "cosine_similarity", "renorm")
    },
    "linalg_matrix_norm": matrix_norm,
    "aminmax": _as(orders.aminmax),
    "quantile": _as(orders.quantile),
    "nanmedian": _as(orders.nanmedian),
    "mode": _mode,
    "logcumsumexp": _logcumsumexp,
    "scatter_reduce": _scatter_reduce,
    "index_reduce": _index_reduce,
    "linalg_solve": _as(matrices.solve),
    "linalg_solve_ex": _as(matrices.solve_ex),
    "linalg_multi_dot": _as(others.multi_dot),
    "normal": _as(others.normal),
    "native_batch_norm": _as(others.native_batch_norm),
    "_native_batch_norm_legit": _as(others.native_batch_norm_legit),
    "batch_norm_with_update": _as(others.batch_norm_with_update),
    "linalg_solve_triangular": _as(matrices.solve_triangular),
    "triangular_solve": _as(matrices.triangular_solve),
    "cholesky_solve": _as(matrices.cholesky_solve),
    "cholesky_inverse": _as(matrices.cholesky_inverse),
    **dict.fromkeys(("lu_solve", "linalg_lu_solve"), _lu_solve),
    **dict.fromkeys(("pinverse", "linalg_pinv"), _as(matrices.pinv)),
    "linalg_eigvalsh": _as(matrices.eigvalsh),
    "linalg_cond": _as(matrices.cond),
    **dict.fromkeys(("matrix_power", "linalg_matrix_power"), _as(matrices.matrix_power)),
    "linalg_tensorsolve": _as(matrices.tensorsolve),
    "linalg_lstsq": _as(matrices.lstsq),
    "linalg_tensorinv": _as(matrices.tensorinv),
    "logdet": _as(matrices.logdet),
    "slogdet": _as(matrices.slogdet),
    "linalg_slogdet": _as(matrices.linalg_slogdet),
    "addcdiv": _as(others.addcdiv),
    "polar": _as(others.polar),
    "corrcoef": _as(others.corrcoef),
    "native_layer_norm": _as(others.native_layer_norm),
    "embedding_bag": _as(others.embedding_bag),
}  # fmt: skip
PYTHON = frozenset(COMPOSED) | {"fractional_max_pool2d", "fractional_max_pool3d", "tensordot", "rrelu"}
"""Names that a Python function of torch shares with the compiled op it calls: the rule is the compiled op's."""
