"""Multipliers of scaled dot-product attention, by the product and softmax rules inside one op.

logits = scale·q·kᵀ + mask; p = softmax(logits); out = p·v. Both runs' probabilities are made again in the backward
pass, so nothing of size (queries, keys) is kept between the passes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tracer.rules.formulas.infinity import one_sided
from tracer.rules.formulas.softmax import logarithmic_mean, masked_rows, spread


@dataclass(frozen=True, slots=True)
class AttentionSettings:
    """The arguments of `scaled_dot_product_attention` other than tensors."""

    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False


def _logits(
    q: Tensor, k: Tensor, mask: Tensor | None, settings: AttentionSettings, scale: float
) -> tuple[Tensor, Tensor | None]:
    """Logits, and where a float mask is given which rows it masks throughout."""
    logits = torch.matmul(q * scale, k.transpose(-1, -2))
    if settings.is_causal:
        keep = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril_()
        logits.masked_fill_(~keep, -math.inf)
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask
    dead = None if mask is None or mask.dtype == torch.bool else masked_rows(logits, -1)
    return logits, dead


def _log_probabilities(logits: Tensor) -> Tensor:
    # A row without any key comes out as NaN; its probabilities are 0, as in the op itself.
    return torch.log_softmax(logits, -1).nan_to_num_(nan=-math.inf, neginf=-math.inf)


def _grouped(t: Tensor, heads: int) -> Tensor:
    return t if t.shape[-3] == heads else t.repeat_interleave(heads // t.shape[-3], -3)


def _ungrouped(m: Tensor, shape: torch.Size) -> Tensor:
    """Sum over the query heads that shared a key or value head, and over broadcast axes."""
    if m.dim() >= 3 and len(shape) >= 3 and m.shape[-3] != shape[-3] and shape[-3] != 1:
        m = m.unflatten(-3, (shape[-3], -1)).sum(-3)  # type: ignore[no-untyped-call]
    return m.sum_to_size(shape)


def attention(
    g: Tensor,
    operands: Sequence[Tensor],
    references: Sequence[Tensor],
    masks: tuple[Tensor | None, Tensor | None],
    settings: AttentionSettings,
    needs: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Multipliers of query, key, value and (a varying float) mask.

    `operands` and `references` hold q, k, v of each run, of shapes (..., heads, queries, width),
    (..., heads, keys, width) and (..., heads, keys, out).
    """
    q, k, v = operands
    q_ref, k_ref, v_ref = references
    scale = 1 / math.sqrt(q.shape[-1]) if settings.scale is None else settings.scale
    if settings.enable_gqa:
        k_all, k_all_ref = _grouped(k, q.shape[-3]), _grouped(k_ref, q.shape[-3])
        v_all, v_all_ref = _grouped(v, q.shape[-3]), _grouped(v_ref, q.shape[-3])
    else:
        k_all, k_all_ref, v_all, v_all_ref = k, k_ref, v, v_ref
    logits, dead = _logits(q, k_all, masks[0], settings, scale)
    logits_ref, dead_ref = _logits(q_ref, k_all_ref, masks[1], settings, scale)
    if needs[3]:  # a mask that depends on the input
        logits, logits_ref = one_sided(logits, logits_ref)
    log_p, log_p_ref = _log_probabilities(logits), _log_probabilities(logits_ref)
    del logits, logits_ref
    of_v = None
    if needs[2]:
        p = torch.exp(log_p).add_(torch.exp(log_p_ref)).mul_(0.5)
        of_v = _ungrouped(torch.matmul(p.transpose(-1, -2), g), v.shape)
    if not (needs[0] or needs[1] or needs[3]):
        return None, None, of_v, None
    mean = logarithmic_mean(log_p, log_p_ref)
    if dead is not None and dead_ref is not None:
        mean.masked_fill_(dead & dead_ref, 0.0)
    del log_p, log_p_ref
    of_p = torch.matmul(g, torch.lerp(v_all, v_all_ref, 0.5).transpose(-1, -2))
    of_logits = spread(of_p, mean, -1)
    of_mask = of_logits.sum_to_size(masks[0].shape) if needs[3] and masks[0] is not None else None
    of_logits = of_logits.mul_(scale) if of_mask is None else of_logits * scale
    of_q = torch.matmul(of_logits, torch.lerp(k_all, k_all_ref, 0.5)).sum_to_size(q.shape) if needs[0] else None
    of_k = None
    if needs[1]:
        of_k = _ungrouped(torch.matmul(of_logits.transpose(-1, -2), torch.lerp(q, q_ref, 0.5)), k.shape)
    return of_q, of_k, of_v, of_mask
