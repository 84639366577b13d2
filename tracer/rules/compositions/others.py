"""Statistics, attention with dropout, bags of embeddings, and what else is written as other ops."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """input + value·tensor1 / tensor2."""
    return input + value * (tensor1 / tensor2)


def clamp(input: Tensor, min: Tensor | float | None = None, max: Tensor | float | None = None) -> Tensor:
    """No less than `min`, no more than `max`, which may vary."""
    for bound, pick in ((min, torch.maximum), (max, torch.minimum)):
        if bound is not None:
            input = pick(input, bound if isinstance(bound, Tensor) else torch.full_like(input, bound))
    return input


def clamp_min(input: Tensor, min: Tensor) -> Tensor:
    """No less than `min`."""
    return clamp(input, min)


def clamp_max(input: Tensor, max: Tensor) -> Tensor:
    """No more than `max`."""
    return clamp(input, None, max)


def channels(weight: Tensor, dims: int) -> Tensor:
    """PReLU's weight, one number or one a channel, as it multiplies a tensor of `dims` axes: the channels on axis 1."""
    return weight.reshape(-1, *[1] * (dims - 2)) if weight.numel() > 1 and dims >= 2 else weight


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """PReLU with a weight that varies."""
    return torch.relu(input) - channels(weight, input.dim()) * torch.relu(-input)


def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """abs·e^(i·angle), a complex number."""
    return torch.complex(abs * angle.cos(), abs * angle.sin())


def corrcoef(input: Tensor) -> Tensor:
    """The correlations of rows."""
    if input.dim() < 2:
        found = torch.cov(input)
        return found / found
    centred = input - input.mean(1, keepdim=True)
    unit: Tensor = centred / torch.linalg.vector_norm(centred, 2, 1, True)
    return unit @ unit.T


def native_layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(normalised, mean, 1/deviation)."""
    found = layer_norm(input, normalized_shape, weight, bias, eps)
    axes = list(range(-len(normalized_shape), 0))
    return found, input.mean(axes, keepdim=True), (input.var(axes, unbiased=False, keepdim=True) + eps).rsqrt()


def rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """RMSNorm with a weight that varies."""
    found = F.rms_norm(input, list(normalized_shape), None, eps)
    return found if weight is None else found * weight


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    """LayerNorm with a weight or bias that varies."""
    found = F.layer_norm(input, list(normalized_shape), None, None, eps)
    found = found if weight is None else found * weight
    return found if bias is None else found + bias


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention with dropout, as torch's plain implementation draws it."""
    if enable_gqa:
        key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
    logits = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
    if attn_mask is not None:
        logits = logits.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else logits + attn_mask
    return torch.dropout(torch.softmax(logits, -1), dropout_p, True) @ value


def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of a chain of matrices."""
    found = tensors[0]
    for tensor in tensors[1:]:
        found = found @ tensor
    return found


def normal(mean: Tensor | float = 0.0, std: Tensor | float = 1.0, **_named: object) -> Tensor:
    """mean + std·noise, with the noise that torch draws."""
    given = [t for t in (mean, std) if isinstance(t, Tensor)]
    shape = torch.broadcast_shapes(*(t.shape for t in given))  # type: ignore[no-untyped-call]
    return mean + std * torch.empty(shape, dtype=given[0].dtype, device=given[0].device).normal_()


def native_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, ...]:
    """The normalised values, and in training their mean and inverse deviation."""
    if training or running_mean is None or running_var is None:
        found = F.batch_norm(input, None, None, None, None, True, momentum, eps)
    else:
        found = F.batch_norm(input, running_mean, running_var, None, None, False, momentum, eps)
    shape = [1, -1, *[1] * (input.dim() - 2)]
    found = found if weight is None else found * weight.reshape(shape)
    found = found if bias is None else found + bias.reshape(shape)
    if not training:
        return (found,)
    axes = [d for d in range(input.dim()) if d != 1]
    return found, input.mean(axes), (input.var(axes, unbiased=False) + eps).rsqrt()


def native_batch_norm_legit(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, *rest: object
) -> tuple[Tensor, ...]:
    """The same; without running statistics its arguments begin with `training`."""
    mean, var, *settings = (None, None, *rest) if len(rest) == 3 else rest
    return native_batch_norm(input, weight, bias, mean, var, *settings)  # type: ignore[arg-type]


def batch_norm_with_update(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, *rest: object
) -> tuple[Tensor, ...]:
    """The same in training mode."""
    return native_batch_norm(input, weight, bias, None, None, True, *rest[2:])  # type: ignore[arg-type]


def embedding_bag(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor | None = None,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Tensor, ...]:
    """Sums (mode 0), means (1) or maxima (2) of the rows in each bag; only the first result carries a gradient."""
    rows = F.embedding(indices, weight)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(-1)
    assert offsets is not None
    starts = [int(start) for start in offsets]
    ends = [*starts[1:], len(indices)]
    bags = list(zip(starts, ends, strict=True))[: len(starts) - (1 if include_last_offset else 0)]
    found = []
    for start, end in bags:
        bag = rows[start:end]
        if padding_idx is not None and padding_idx >= 0:
            bag = bag[indices[start:end] != padding_idx]
        reduced = (bag.sum, bag.mean, bag.amax)[mode]
        found.append(reduced(0) if len(bag) else torch.zeros_like(weight[0]))
    return (torch.stack(found),)
