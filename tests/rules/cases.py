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

# Ops that choose conserve only as far as the choice is one, and have tests of their own.
CHOICES = {
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
