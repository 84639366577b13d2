"""One small call for every op in the table of rules, to hold all of them against the same laws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Function = Callable[..., Tensor]
SHAPE = (3, 4, 6)


@dataclass(frozen=True)
class Case:
    """`function` of one tensor of shape SHAPE (examples first), drawn from (low, high).

    `smooth`: at reference = input the multiplier is the gradient. `rowwise`: examples do not meet.
    """

    function: Function
    low: float = -3.0
    high: float = 3.0
    smooth: bool = True
    rowwise: bool = True


def _fixed(*shape: int) -> Tensor:
    return torch.linspace(-1, 1.5, torch.Size(shape).numel(), dtype=torch.float64).reshape(shape).sin()


def _kind(x: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda t: t.to(x.dtype)


def _elementwise(name: str) -> Function:
    def function(x: Tensor) -> Tensor:
        found = getattr(torch, name, None) or getattr(F, name, None) or getattr(torch.special, name[8:])
        return found(x)

    return function


def _image(x: Tensor) -> Tensor:
    return x.reshape(-1, 1, 4, 6)


def _volume(x: Tensor) -> Tensor:
    return x.reshape(-1, 1, 2, 2, 6)


def _conv(x: Tensor, spatial: int, transposed: bool = False) -> Tensor:
    """A convolution whose kernel depends on the input too."""
    shape = [2, 2, *[2] * spatial]
    kernel = (x.sum() * _fixed(*shape).to(x)).tanh()
    data = x.reshape(x.shape[0], 2, 12) if spatial == 1 else x.reshape(x.shape[0], 2, 3, 4)
    data = data if spatial < 3 else x.reshape(x.shape[0], 2, 2, 2, 3)
    return getattr(F, f"conv_transpose{spatial}d" if transposed else f"conv{spatial}d")(data, kernel)


def _second(x: Tensor) -> Tensor:
    """Another tensor of the same shape that varies with x."""
    return (x * 0.7 + 0.1).flip(-1).sin()


def _attend(x: Tensor) -> Tensor:
    heads = x.reshape(x.shape[0], 2, 4, 3)
    return F.scaled_dot_product_attention(heads, heads * 1.5, heads.flip(-1), is_causal=True)


_HALF = {
    name: Case(_elementwise(name), 0.2, 3.0)
    for name in ("log", "log2", "log10", "sqrt", "rsqrt", "reciprocal", "square")
}
_UNIT = ("asin", "acos", "atanh", "arcsin", "arccos", "arctanh", "erfinv", "special_erfinv", "logit", "special_logit")
_PLAIN = (
    "relu", "relu6", "abs", "hardsigmoid", "hardswish", "silu", "mish", "elu", "selu", "celu", "erf", "sigmoid", "tanh",
    "exp", "expm1", "exp2", "sin", "cos", "leaky_relu", "softshrink", "hardtanh", "gelu", "softplus", "sinh", "cosh", 
    "atan", "asinh", "arcsinh", "erfc", "special_erfc", "special_ndtr", "sinc", "special_sinc", "i0", "tanhshrink",
    "softsign", "special_expm1", "special_exp2", "rrelu",
)  # fmt: skip

CASES: dict[str, Case] = {
    **_HALF,
    **{name: Case(_elementwise(name), -0.9, 0.9) for name in _UNIT if "logit" not in name},
    **{name: Case(_elementwise(name), 0.1, 0.9) for name in _UNIT if "logit" in name},
    **{name: Case(_elementwise(name)) for name in _PLAIN},
    **{name: Case(_elementwise(name), 0.5, 3.0) for name in ("log1p", "lgamma", "digamma", "special_log1p")},
    **{name: Case(_elementwise(name), 1.2, 3.0) for name in ("acosh", "arccosh")},
    "tan": Case(torch.tan, -1.2, 1.2),
    "log_sigmoid": Case(torch._C._nn.log_sigmoid),
    "prelu": Case(lambda x: F.prelu(x, torch.tensor([0.1, 0.3, -0.2, 0.5], dtype=x.dtype))),
    "hardshrink": Case(F.hardshrink),
    "threshold": Case(lambda x: F.threshold(x, 0.5, 0.1)),
    "clamp": Case(lambda x: x.clamp(-0.5, 1.0)),
    "clamp_min": Case(lambda x: torch.clamp_min(x, 0.3)),
    "clamp_max": Case(lambda x: torch.clamp_max(x, 0.3)),
    "glu": Case(F.glu),
    "pow": Case(lambda x: x**3 + (x.abs() + 0.5) ** 1.7 + 2**x),
    "float_power": Case(lambda x: torch.float_power(x.double(), 2.0)),
    "rpow": Case(lambda x: 1.5**x),
    "rdiv": Case(lambda x: 3 / x, 0.5, 2.0),
    "mul": Case(lambda x: x * _second(x)),
    "matmul": Case(lambda x: x @ _second(x).transpose(1, 2)),
    "rmatmul": Case(lambda x: x.__rmatmul__(_second(x).transpose(1, 2))),
    "mm": Case(lambda x: torch.mm(x[:, 0], _second(x)[:, 1].T), rowwise=False),
    "bmm": Case(lambda x: torch.bmm(x, _second(x).transpose(1, 2))),
    "mv": Case(lambda x: torch.mv(x[0], _second(x)[0, 0]), rowwise=False),
    "dot": Case(lambda x: torch.dot(x[0, 0], _second(x)[1, 1]), rowwise=False),
    "vdot": Case(lambda x: torch.vdot(x[0, 0], _second(x)[1, 1]), rowwise=False),
    "inner": Case(lambda x: torch.inner(x, _second(x)[0]), rowwise=False),
    "outer": Case(lambda x: torch.outer(x[0, 0], _second(x)[1, 1]), rowwise=False),
    "ger": Case(lambda x: torch.ger(x[0, 0], _second(x)[1, 1]), rowwise=False),
    "kron": Case(lambda x: torch.kron(x[0], _second(x)[1]), rowwise=False),
    "linalg_vecdot": Case(lambda x: torch.linalg.vecdot(x, _second(x))),
    "cross": Case(lambda x: torch.cross(x[..., :3], _second(x)[..., :3], dim=-1)),
    "linalg_cross": Case(lambda x: torch.linalg.cross(x[..., :3], _second(x)[..., :3], dim=-1)),
    "einsum": Case(lambda x: torch.einsum("bij,bkj->bik", x, _second(x))),
    "linear": Case(lambda x: F.linear(x, _second(x)[0], x.mean() + _fixed(4).to(x)), rowwise=False),
    **{f"conv{n}d": Case(lambda x, n=n: _conv(x, n), rowwise=False) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": Case(lambda x, n=n: _conv(x, n, True), rowwise=False) for n in (1, 2, 3)},
    "convolution": Case(
        lambda x: torch.convolution(
            _image(x), _image(_second(x))[:1, :, :2, :2], None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1
        ),
        rowwise=False,
    ),
    "addmm": Case(lambda x: torch.addmm(x[0, :, :4], x[1], _second(x)[0].T, beta=0.5, alpha=2.0), rowwise=False),
    "baddbmm": Case(lambda x: torch.baddbmm(x[..., :4], x, _second(x).transpose(1, 2), alpha=0.5)),
    "addbmm": Case(lambda x: torch.addbmm(x[0, :, :4], x, _second(x).transpose(1, 2)), rowwise=False),
    "addmv": Case(lambda x: torch.addmv(x[0, :, 0], x[1], _second(x)[0, 0]), rowwise=False),
    "addr": Case(lambda x: torch.addr(x[0], x[1, :, 0], _second(x)[0, 0]), rowwise=False),
    "addcmul": Case(lambda x: torch.addcmul(x, x, _second(x), value=0.5)),
    "lerp": Case(lambda x: torch.lerp(x, _second(x), x.sigmoid())),
    "div": Case(lambda x: _second(x) / (x * x + 0.5) + (x / 3)),
    "softmax": Case(lambda x: F.softmax(3 * x, -1)),
    "log_softmax": Case(lambda x: torch.log_softmax(3 * x, 1)),
    "logsumexp": Case(lambda x: torch.logsumexp(x, (1, 2)) + torch.logsumexp(x, -1, keepdim=True).sum((1, 2))),
    "layer_norm": Case(
        lambda x: F.layer_norm(x, (4, 6), _fixed(4, 6).to(x), None, 1e-3) + torch.layer_norm(x / 300, (6,))
    ),
    "rms_norm": Case(lambda x: F.rms_norm(x, (6,), _fixed(6).to(x)) + F.rms_norm(x / 300, (6,), None, 1e-4)),
    "group_norm": Case(lambda x: F.group_norm(x, 2, _fixed(4).to(x), _fixed(4).to(x))),
    "instance_norm": Case(lambda x: F.instance_norm(x, weight=_fixed(4).to(x))),
    "batch_norm": Case(lambda x: F.batch_norm(x, None, None, _fixed(4).to(x), training=True), rowwise=False),
    "scaled_dot_product_attention": Case(_attend),
    "prod": Case(lambda x: x.prod(-1) + x[..., 0].prod(1, keepdim=True)),
    "var": Case(lambda x: x.var((1, 2)) + x.var(-1, unbiased=False, keepdim=True).sum((1, 2))),
    "std": Case(lambda x: x.std((1, 2), correction=0)),
    "norm": Case(lambda x: x.norm(dim=-1) + torch.norm(x, 2, 1)[:, :4]),
    "linalg_norm": Case(lambda x: torch.linalg.norm(x, dim=-1)),
    "linalg_vector_norm": Case(lambda x: torch.linalg.vector_norm(x, dim=(1, 2))),
    "max": Case(lambda x: x.max(1).values),
    "min": Case(lambda x: x.min(2, keepdim=True).values),
    "amax": Case(lambda x: x.amax((1, 2))),
    "amin": Case(lambda x: x.amin(-1)),
    "maximum": Case(lambda x: torch.maximum(x, x.flip(1))),
    "fmax": Case(lambda x: torch.fmax(x, _second(x))),
    "minimum": Case(lambda x: torch.minimum(x, _second(x))),
    "fmin": Case(lambda x: torch.fmin(x, _second(x))),
    "max_pool1d": Case(lambda x: F.max_pool1d(x, 3, 1, padding=1)),
    "max_pool2d": Case(lambda x: F.max_pool2d(_image(x), 3, 2, padding=1, ceil_mode=True)),
    "max_pool3d": Case(lambda x: F.max_pool3d(_volume(x), 2, 1)),
    "max_pool1d_with_indices": Case(lambda x: F.max_pool1d(x, 3, 1, return_indices=True)[0]),
    "max_pool2d_with_indices": Case(lambda x: F.max_pool2d(_image(x), 3, 1, return_indices=True)[0]),
    "max_pool3d_with_indices": Case(lambda x: F.max_pool3d(_volume(x), 2, 1, return_indices=True)[0]),
    "adaptive_max_pool1d": Case(lambda x: F.adaptive_max_pool1d(x, 4)),
    "adaptive_max_pool2d": Case(lambda x: F.adaptive_max_pool2d(_image(x), (2, 4))),
    "adaptive_max_pool3d": Case(lambda x: F.adaptive_max_pool3d(_volume(x), (1, 2, 4))),
    "adaptive_max_pool1d_with_indices": Case(lambda x: F.adaptive_max_pool1d(x, 4, return_indices=True)[0]),
    "adaptive_max_pool2d_with_indices": Case(lambda x: F.adaptive_max_pool2d(_image(x), 2, return_indices=True)[0]),
    "adaptive_max_pool3d_with_indices": Case(lambda x: F.adaptive_max_pool3d(_volume(x), 2, return_indices=True)[0]),
    **{
        name: Case(_elementwise(name), smooth=False)
        for name in ("floor", "ceil", "round", "trunc", "fix", "sign", "sgn", "frac")
    },
    "remainder": Case(lambda x: x % 0.7, smooth=False),
    "fmod": Case(lambda x: torch.fmod(x, 0.7), smooth=False),
}


def _spread_matrix(x: Tensor) -> Tensor:
    """A matrix of each example that has an inverse."""
    square = x[..., :4] / 8
    return square + torch.eye(4, dtype=x.dtype)


def _seeded(function: Function) -> Function:
    """The same random numbers at each call."""

    def run(x: Tensor) -> Tensor:
        torch.manual_seed(0)
        return function(x)

    return run


def _pairs(name: str, **settings: object) -> Function:
    return lambda x: getattr(F, name)(x, _second(x), reduction="none", **settings)


_SIGNS = torch.tensor([1.0, -1.0, 1.0, -1.0])
_PLACES = torch.tensor([2, 0, 2, 1])
_BASIS = torch.eye(4, 6, dtype=torch.float64)


def _alike(x: Tensor, i: int) -> Tensor:
    target = _SIGNS[i].to(x).expand(len(x))
    return F.cosine_embedding_loss(x[:, i], _second(x)[:, i], target, reduction="none")


def _packed(x: Tensor) -> Tensor:
    """A factor of each example as `lu_factor` packs it."""
    return _spread_matrix(x)


_PIVOTS = torch.tensor([[2, 2, 4, 4]], dtype=torch.int32)

CASES |= {
    **{name: Case(_pairs(name)) for name in ("l1_loss", "mse_loss", "smooth_l1_loss", "huber_loss")},
    "soft_margin_loss": Case(lambda x: F.soft_margin_loss(x, torch.ones_like(x), reduction="none")),
    "hinge_embedding_loss": Case(
        lambda x: F.hinge_embedding_loss(x, _SIGNS.to(x).unsqueeze(-1).expand(4, 6), reduction="none")
    ),
    "margin_ranking_loss": Case(
        lambda x: F.margin_ranking_loss(
            x, _second(x), _SIGNS.to(x).unsqueeze(-1).expand_as(x), margin=0.3, reduction="none"
        )
    ),
    "multi_margin_loss": Case(
        lambda x: (
            F.multi_margin_loss(x[..., 0], torch.tensor([0, 3, 1]), reduction="none")
            + F.multi_margin_loss(x[..., 1], torch.tensor([2, 2, 2]), 2, 0.5, reduction="none")
        ),
        rowwise=False,
    ),
    "multilabel_margin_loss": Case(
        lambda x: F.multilabel_margin_loss(x[..., 0], torch.tensor([[1, 3, -1, 0]]).expand(len(x), 4), reduction="none")
    ),
    "cosine_embedding_loss": Case(lambda x: torch.stack([_alike(x, i) for i in range(4)], 1)),
    "triplet_margin_loss": Case(
        lambda x: (
            F.triplet_margin_loss(x[:, 0], x[:, 1], _second(x)[:, 2], 2.0, 1.5, swap=True, reduction="none")
            + F.triplet_margin_loss(x[:, 0], x[:, 1], x[:, 2], reduction="none")
        )
    ),
    "poisson_nll_loss": Case(lambda x: F.poisson_nll_loss(x, _second(x) + 1.5, full=True, reduction="none")),
    "kl_div": Case(
        lambda x: F.kl_div(x, _second(x) + 1.5, reduction="none") + F.kl_div(x, x.sin(), "none", log_target=True)
    ),
    "binary_cross_entropy": Case(lambda x: F.binary_cross_entropy(x.sigmoid(), _second(x).sigmoid(), reduction="none")),
    "binary_cross_entropy_with_logits": Case(
        lambda x: F.binary_cross_entropy_with_logits(
            x, _second(x).sigmoid(), pos_weight=torch.full((6,), 2.0).to(x), reduction="none"
        )
    ),
    "dist": Case(lambda x: torch.dist(x, _second(x), 3.0) + torch.dist(x[:, 0], x[:, 1]), rowwise=False),
    "pairwise_distance": Case(lambda x: F.pairwise_distance(x, _second(x), 1.0) + F.pairwise_distance(x, x.sin(), 3.0)),
    "cdist": Case(lambda x: torch.cdist(x, _second(x), 1.0) + torch.cdist(x, _second(x))),
    "pdist": Case(lambda x: F.pdist(x.reshape(-1, 6), 2.0) + F.pdist(x.reshape(-1, 6), 3.0), rowwise=False),
    "cosine_similarity": Case(lambda x: F.cosine_similarity(x, _second(x), -1)),
    "renorm": Case(lambda x: torch.renorm(x, 2, 0, 4.0), smooth=False),
    "linalg_matrix_norm": Case(
        lambda x: torch.linalg.matrix_norm(x, 1) + torch.linalg.matrix_norm(x, -torch.inf) + torch.linalg.matrix_norm(x)
    ),
    "aminmax": Case(lambda x: torch.stack(x.aminmax(dim=-1))[1] + 2 * x.aminmax(dim=-1).min),
    "quantile": Case(lambda x: x.quantile(0.4, -1) + x.quantile(torch.tensor([0.1, 0.7]).to(x), 1)[0][:, :4]),
    "nanmedian": Case(lambda x: x.nanmedian(-1).values),
    "logcumsumexp": Case(lambda x: x.logcumsumexp(1)),
    "scatter_reduce": Case(
        lambda x: (
            x.scatter_reduce(1, _PLACES.reshape(4, 1).expand_as(x), _second(x), "amax")
            + x.scatter_reduce(1, _PLACES.reshape(4, 1).expand_as(x), _second(x), "prod", include_self=False)
        )
    ),
    "index_reduce": Case(lambda x: x.index_reduce(1, _PLACES, _second(x), "mean")),
    **dict.fromkeys(
        ("linalg_inv", "inverse"),
        Case(lambda x: torch.linalg.inv(_spread_matrix(x)) + torch.inverse(_spread_matrix(x))),
    ),
    "linalg_inv_ex": Case(lambda x: torch.linalg.inv_ex(_spread_matrix(x)).inverse),
    "linalg_solve": Case(lambda x: torch.linalg.solve(_spread_matrix(x), x)),
    "linalg_solve_ex": Case(lambda x: torch.linalg.solve_ex(_spread_matrix(x), x, left=True).result),
    "linalg_solve_triangular": Case(lambda x: torch.linalg.solve_triangular(_spread_matrix(x), x, upper=True)),
    "triangular_solve": Case(lambda x: torch.triangular_solve(x, _spread_matrix(x), transpose=True).solution),
    "cholesky_solve": Case(lambda x: torch.cholesky_solve(x, _spread_matrix(x).tril())),
    "cholesky_inverse": Case(lambda x: torch.cholesky_inverse(_spread_matrix(x).tril())),
    "lu_solve": Case(lambda x: torch.lu_solve(x, _packed(x), _PIVOTS.expand(len(x), 4))),
    "linalg_lu_solve": Case(lambda x: torch.linalg.lu_solve(_packed(x), _PIVOTS.expand(len(x), 4), x)),
    **dict.fromkeys(
        ("pinverse", "linalg_pinv"),
        Case(lambda x: torch.pinverse(x / 9 + _BASIS.to(x)) + torch.linalg.pinv(x / 9 + 2 * _BASIS.to(x))),
    ),
    "linalg_tensorinv": Case(lambda x: torch.linalg.tensorinv(_spread_matrix(x)[0].reshape(2, 2, 4)), rowwise=False),
    "linalg_tensorsolve": Case(
        lambda x: torch.linalg.tensorsolve(_spread_matrix(x)[0].reshape(2, 2, 4), x[1, :2, :2]), rowwise=False
    ),
    **dict.fromkeys(
        ("matrix_power", "linalg_matrix_power"),
        Case(lambda x: torch.linalg.matrix_power(_spread_matrix(x), -3) + torch.matrix_power(_spread_matrix(x), 5)),
    ),
    **dict.fromkeys(
        ("linalg_multi_dot",),
        Case(lambda x: torch.linalg.multi_dot([x[0], _second(x)[1].T, x[2]]), rowwise=False),
    ),
    "tensordot": Case(lambda x: torch.tensordot(x, _second(x)[0], ([1, 2], [0, 1])), rowwise=False),
    "addcdiv": Case(lambda x: torch.addcdiv(x, _second(x), x * x + 1, value=0.5)),
    "polar": Case(lambda x: torch.view_as_real(torch.polar(x, _second(x))), 0.3, 3.0),
    "corrcoef": Case(lambda x: torch.corrcoef(x[0]), rowwise=False),
    "native_layer_norm": Case(lambda x: torch.native_layer_norm(x, [6], _fixed(6).to(x), None, 1e-3)[0]),
    "native_batch_norm": Case(
        lambda x: torch.native_batch_norm(x, _fixed(4).to(x), None, None, None, True, 0.1, 1e-3)[0], rowwise=False
    ),
    "_native_batch_norm_legit": Case(
        lambda x: torch._native_batch_norm_legit(x, _fixed(4).to(x), None, True, 0.1, 1e-3)[0], rowwise=False
    ),
    "batch_norm_with_update": Case(
        lambda x: torch.ops.aten._batch_norm_with_update(
            x, _fixed(4).to(x), None, torch.zeros(4).to(x), torch.ones(4).to(x), 0.1, 1e-3
        )[0],
        rowwise=False,
    ),
    "embedding_bag": Case(
        lambda x: (
            F.embedding_bag(torch.tensor([0, 2, 1, 1, 0]), x[0], torch.tensor([0, 2]), mode="max").unsqueeze(0)
            + F.embedding_bag(
                torch.tensor([0, 2, 1]), x[1], torch.tensor([0, 1]), mode="sum", per_sample_weights=_second(x)[0, 0, :3]
            )
        ),
        rowwise=False,
    ),
    "bernoulli": Case(_seeded(lambda x: torch.bernoulli(x.sigmoid())), smooth=False, rowwise=False),
    "frexp": Case(lambda x: torch.frexp(x).mantissa, smooth=False),
    "atan2": Case(lambda x: torch.atan2(x, _second(x))),
    "hypot": Case(lambda x: torch.hypot(x, _second(x))),
    "logaddexp": Case(lambda x: torch.logaddexp(x, _second(x))),
    "logaddexp2": Case(lambda x: torch.logaddexp2(x, _second(x))),
    "xlogy": Case(lambda x: torch.xlogy(_second(x), x), 0.3, 3.0),
    "special_xlog1py": Case(lambda x: torch.special.xlog1py(_second(x), x), 0.3, 3.0),
    "special_zeta": Case(lambda x: torch.special.zeta(torch.tensor(2.5).to(x), x), 0.5, 3.0),
    "copysign": Case(lambda x: torch.copysign(x, _second(x)), smooth=False),
    "ldexp": Case(lambda x: torch.ldexp(x, _second(x))),
    **dict.fromkeys(
        ("polygamma", "special_polygamma"), Case(lambda x: torch.polygamma(1, x) + torch.special.polygamma(2, x), 0.5)
    ),
    "special_entr": Case(torch.special.entr, 0.1, 3.0),
    "mvlgamma": Case(lambda x: torch.mvlgamma(x, 2), 1.0, 3.0),
    **{name: Case(_elementwise(name)) for name in ("special_i0e", "special_i1", "special_i1e", "special_log_ndtr")},
    "special_ndtri": Case(torch.special.ndtri, 0.1, 0.9),
    "angle": Case(torch.angle, smooth=False),
    "cummax": Case(lambda x: x.cummax(-1).values),
    "cummin": Case(lambda x: x.cummin(1).values),
    "fractional_max_pool2d": Case(
        lambda x: F.fractional_max_pool2d(_image(x), 2, (2, 3), _random_samples=torch.full((len(x), 1, 2), 0.3).to(x))
    ),
    "fractional_max_pool3d": Case(
        lambda x: F.fractional_max_pool3d(
            x.reshape(-1, 1, 4, 3, 2), (2, 2, 1), (2, 1, 1), _random_samples=torch.full((len(x), 1, 3), 0.3).to(x)
        )
    ),
    "max_unpool2d": Case(
        lambda x: F.max_unpool2d(_image(x), (torch.arange(24) * 3 % 40).reshape(1, 1, 4, 6).expand(len(x), 1, 4, 6), 2)
    ),
    "max_unpool3d": Case(
        lambda x: F.max_unpool3d(
            _volume(x), (torch.arange(24) * 3 % 90).reshape(1, 1, 2, 2, 6).expand(len(x), 1, 2, 2, 6), 2
        )
    ),
    "safe_softmax": Case(lambda x: torch.ops.aten._safe_softmax(3 * x, -1)),
}

OTHER_LAWS = {
    # Composed of determinants, eigenvalues and singular values, which have no rule but the way.
    "logdet", "slogdet", "linalg_slogdet", "linalg_eigvalsh", "linalg_cond",
    # LAPACK's last digit depends on where a matrix lies in memory.
    "linalg_lstsq",
    # torch has no derivative of these, or another one.
    "normal", "heaviside", "as_strided_scatter",
}  # fmt: skip
"""Ops that tests/test_operators.py alone holds to conservation."""

# Ops that choose conserve only as far as the choice is one, and have tests of their own.
CHOICES = {
    "mode",
    "msort",
    "floor_divide",
    "topk",
    "sort",
    "where",
    "masked_fill",
    "gather",
    "take_along_dim",
    "index_select",
    "scatter",
    "scatter_add",
    "index_add",
    "index_copy",
    "masked_scatter",
    "getitem",
    "setitem",
    "index_put",
    "index_fill",
    "masked_select",
    "put",
    "take",
}
