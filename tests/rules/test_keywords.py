"""Calls that give arguments by keyword, also by NumPy's, keep the law too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.rounding import seeded
from tests.rules.pairs import pair

_INDEX = torch.tensor([0, 1, 1, 2])
_CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "outer": lambda x: torch.outer(input=x[0], vec2=x[1]),
    "inner": lambda x: torch.inner(input=x, other=x),
    "kron": lambda x: torch.kron(input=x, other=x),
    "linalg_cross": lambda x: torch.linalg.cross(input=x[:, 1:], other=x[:, :3]),
    "linalg_vecdot": lambda x: torch.linalg.vecdot(x=x, y=x.T),
    "lerp": lambda x: torch.lerp(input=x, end=x.T, weight=x.sigmoid()),
    "aminmax": lambda x: torch.aminmax(input=x, dim=0)[0],
    "quantile": lambda x: torch.quantile(input=x, q=0.3, dim=0),
    "nanmedian": lambda x: torch.nanmedian(input=x, dim=0)[0],
    "mode": lambda x: torch.mode(input=x, dim=0)[0],
    "logcumsumexp": lambda x: torch.logcumsumexp(input=x, dim=0),
    "scatter_reduce": lambda x: torch.scatter_reduce(input=x, dim=0, index=_INDEX[None], src=x, reduce="amax"),
    "index_reduce": lambda x: torch.index_reduce(input=x, dim=0, index=_INDEX, source=x, reduce="amax"),
    "scatter": lambda x: torch.scatter(input=x, dim=0, index=_INDEX[None], src=x, reduce="add"),
    "as_strided_scatter": lambda x: torch.as_strided_scatter(input=x, src=x[:2, :2], size=(2, 2), stride=(1, 2)),
    "linalg_solve": lambda x: torch.linalg.solve(A=x, B=x.T),
    "linalg_solve_triangular": lambda x: torch.linalg.solve_triangular(input=x, B=x, upper=True),
    "linalg_lu_solve": lambda x: _solved(*torch.linalg.lu_factor(x), x.T),
    "triangular_solve": lambda x: torch.triangular_solve(input=x.T, A=x)[0],
    "cholesky_solve": lambda x: torch.cholesky_solve(input=x, input2=x.tril()),
    "cholesky_inverse": lambda x: torch.cholesky_inverse(input=x.tril()),
    "pinverse": lambda x: torch.pinverse(input=x),
    "linalg_pinv": lambda x: torch.linalg.pinv(input=x),
    "linalg_eigvalsh": lambda x: torch.linalg.eigvalsh(input=x),
    "linalg_cond": lambda x: torch.linalg.cond(input=x),
    "matrix_power": lambda x: torch.matrix_power(input=x, n=-5),
    "logdet": lambda x: torch.logdet(input=x @ x.T),
    "slogdet": lambda x: torch.slogdet(input=x)[1],
    "linalg_slogdet": lambda x: torch.linalg.slogdet(A=x)[1],
    "linalg_tensorinv": lambda x: torch.linalg.tensorinv(input=x, ind=1),
    "linalg_tensorsolve": lambda x: torch.linalg.tensorsolve(input=x, other=x[0]),
    "linalg_lstsq": lambda x: torch.linalg.lstsq(input=x, b=x.T)[0],
    "linalg_norm": lambda x: torch.linalg.norm(input=x, ord=1),
    "linalg_matrix_norm": lambda x: torch.linalg.matrix_norm(input=x, ord=1),
    "addcdiv": lambda x: torch.addcdiv(input=x, tensor1=x, tensor2=x + 20),
    "polar": lambda x: torch.polar(abs=x.abs(), angle=x).real,
    "corrcoef": lambda x: torch.corrcoef(input=x),
    "dist": lambda x: torch.dist(input=x, other=2 * x.T, p=3),
    "cdist": lambda x: torch.cdist(x1=x, x2=x.T),
    "cosine_similarity": lambda x: torch.cosine_similarity(x1=x, x2=x.T),
    "renorm": lambda x: torch.renorm(input=x, p=2, dim=0, maxnorm=1.0),
    "clamp": lambda x: torch.clamp(input=x, min=x.T),
    "clamp_max": lambda x: torch.clamp_max(input=x, max=x.T),
    "layer_norm": lambda x: F.layer_norm(input=x, normalized_shape=(4,), weight=x[0].exp()),
    "rms_norm": lambda x: F.rms_norm(input=x, normalized_shape=(4,), weight=x[0].exp()),
    "linalg_multi_dot": lambda x: torch.linalg.multi_dot(tensors=[x, x.T, x]),
    "stack": lambda x: torch.stack(tensors=[x, x * x], dim=0).prod(0),
    "var, axis": lambda x: torch.var(x, axis=0),
    "max, axis": lambda x: x.max(axis=0)[0],
    "softmax, axis": lambda x: torch.softmax(x, axis=0),
    "logsumexp, axis": lambda x: torch.logsumexp(x, axis=0, keepdims=True),
    "linalg_vector_norm, axis": lambda x: torch.linalg.vector_norm(x, axis=0),
    "quantile, axis": lambda x: x.quantile(0.3, axis=0, keepdims=True),
    "median, axis": lambda x: x.median(axis=0)[0],
    "polygamma": lambda x: torch.polygamma(n=1, input=x.abs() + 1),
    "polygamma as a method": lambda x: (x.abs() + 1).polygamma(1),
}


def _solved(factors: Tensor, pivots: Tensor, right: Tensor) -> Tensor:
    return torch.linalg.lu_solve(LU=factors, pivots=pivots, B=right)


@pytest.mark.filterwarnings("ignore:torch.triangular_solve is deprecated")
@pytest.mark.parametrize("name", _CALLS)
def test_arguments_by_keyword_conserve(name: str) -> None:
    generator = torch.Generator().manual_seed(seeded(2))
    x, x_ref = torch.randn(2, 4, 4, generator=generator, dtype=torch.float64) + 4 * torch.eye(4, dtype=torch.float64)
    found = pair(lambda t: _CALLS[name](t).tanh().sum(), x, x_ref)
    assert (found.multipliers * (x - x_ref)).sum().item() == pytest.approx(found.flow.item(), rel=1e-9, abs=1e-12)
    assert not [note.op for note in found.notes if note.kind == "unseen"]
