"""Losses. `reduction` is ATen's number: 0 for none, 1 for the mean, 2 for the sum."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tracer.rules.compositions.distances import cosine, pairwise_distance


def _reduced(loss: Tensor, reduction: int) -> Tensor:
    return loss if reduction == 0 else loss.mean() if reduction == 1 else loss.sum()


def l1_loss(x: Tensor, target: Tensor, reduction: int = 1) -> Tensor:
    """|x − target|."""
    return _reduced((x - target).abs(), reduction)


def mse_loss(x: Tensor, target: Tensor, reduction: int = 1) -> Tensor:
    """(x − target)²."""
    return _reduced((x - target).square(), reduction)


def smooth_l1_loss(x: Tensor, target: Tensor, reduction: int = 1, beta: float = 1.0) -> Tensor:
    """The distance, squared below `beta`."""
    if beta == 0:
        return l1_loss(x, target, reduction)
    far = (x - target).abs()
    near = far.clamp(max=beta)
    return _reduced(near.square() / (2 * beta) + (far - near), reduction)


def huber_loss(x: Tensor, target: Tensor, reduction: int = 1, delta: float = 1.0) -> Tensor:
    """Half the squared distance, a line from `delta`."""
    far = (x - target).abs()
    near = far.clamp(max=delta)
    return _reduced(near.square() / 2 + delta * (far - near), reduction)


def soft_margin_loss(x: Tensor, target: Tensor, reduction: int = 1) -> Tensor:
    """log(1 + e^(−target·x))."""
    return _reduced(-F.logsigmoid(target * x), reduction)


def hinge_embedding_loss(x: Tensor, target: Tensor, margin: float = 1.0, reduction: int = 1) -> Tensor:
    """x where the target is not −1, and margin − x where it is not 1."""
    near = torch.where(target != -1, x, torch.zeros_like(x))
    far = torch.where(target != 1, (margin - x).clamp(min=0), torch.zeros_like(x))
    return _reduced(near + far, reduction)


def margin_ranking_loss(
    first: Tensor, second: Tensor, target: Tensor, margin: float = 0.0, reduction: int = 1
) -> Tensor:
    """max(0, margin − target·(first − second))."""
    return _reduced((margin - target * (first - second)).clamp(min=0), reduction)


def multi_margin_loss(
    x: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    reduction: int = 1,
) -> Tensor:
    """Mean over classes of max(0, margin − x[target] + x)^p, the target's own left out."""
    rows, wanted = (x, target.reshape(-1)) if x.dim() > 1 else (x.unsqueeze(0), target.reshape(1))
    own = F.one_hot(wanted, rows.shape[1]).to(torch.bool)
    short = (margin - rows.gather(1, wanted.unsqueeze(1)) + rows).clamp(min=0)
    short = short.square() if p == 2 else short
    if weight is not None:
        short = short * weight[wanted].unsqueeze(1)
    loss = torch.where(own, torch.zeros_like(short), short).sum(1) / rows.shape[1]
    return _reduced(loss if x.dim() > 1 else loss.squeeze(0), reduction)


def multilabel_margin_loss(x: Tensor, target: Tensor, reduction: int = 1) -> Tensor:
    """Mean over classes of max(0, 1 − x[label] + x[other]), of all labels before the first −1 with all others."""
    rows, labels = (x, target) if x.dim() > 1 else (x.reshape(1, -1), target.reshape(1, -1))
    counts = (labels >= 0).cumprod(1).to(torch.bool)
    placed = F.one_hot(labels.clamp(min=0), rows.shape[1]).to(torch.bool) & counts.unsqueeze(-1)
    others = ~placed.any(1)
    pairs = (1 - rows.gather(1, labels.clamp(min=0)).unsqueeze(2) + rows.unsqueeze(1)).clamp(min=0)
    taken = counts.unsqueeze(2) & others.unsqueeze(1)
    loss = torch.where(taken, pairs, torch.zeros_like(pairs)).sum((1, 2)) / rows.shape[1]
    return _reduced(loss if x.dim() > 1 else loss.squeeze(0), reduction)


def cosine_embedding_loss(
    first: Tensor, second: Tensor, target: Tensor, margin: float = 0.0, reduction: int = 1
) -> Tensor:
    """1 − cos where the target is 1, max(0, cos − margin) where it is −1."""
    alike = cosine(first, second)
    none = torch.zeros_like(alike)
    loss = torch.where(target == 1, 1 - alike, none) + torch.where(target == -1, (alike - margin).clamp(min=0), none)
    return _reduced(loss, reduction)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: int = 1,
) -> Tensor:
    """max(0, margin + distance to the positive − distance to the negative)."""
    near = pairwise_distance(anchor, positive, p, eps)
    far = pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = torch.minimum(far, pairwise_distance(positive, negative, p, eps))
    return _reduced((margin + near - far).clamp(min=0), reduction)


def poisson_nll_loss(x: Tensor, target: Tensor, log_input: bool, full: bool, eps: float, reduction: int) -> Tensor:
    """e^x − target·x, or x − target·log(x + eps), and with `full` Stirling's term of targets above 1."""
    loss = x.exp() - target * x if log_input else x - target * (x + eps).log()
    if full:
        safe = target.clamp(min=1)
        stirling = target * safe.log() - target + 0.5 * (2 * math.pi * safe).log()
        loss = loss + torch.where(target > 1, stirling, torch.zeros_like(stirling))
    return _reduced(loss, reduction)


def kl_div(x: Tensor, target: Tensor, reduction: int = 1, log_target: bool = False) -> Tensor:
    """target·(log target − x)."""
    loss = target.exp() * (target - x) if log_target else torch.xlogy(target, target) - target * x
    return _reduced(loss, reduction)


def binary_cross_entropy(x: Tensor, target: Tensor, weight: Tensor | None = None, reduction: int = 1) -> Tensor:
    """−target·log x − (1 − target)·log(1 − x), each logarithm at least −100."""
    loss = -(target * x.log().clamp(min=-100) + (1 - target) * torch.log1p(-x).clamp(min=-100))
    return _reduced(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy_with_logits(
    x: Tensor, target: Tensor, weight: Tensor | None = None, pos_weight: Tensor | None = None, reduction: int = 1
) -> Tensor:
    """`binary_cross_entropy` of logits, written so that no logarithm is of 0."""
    stretch = 1 if pos_weight is None else (pos_weight - 1) * target + 1
    loss = (1 - target) * x - stretch * F.logsigmoid(x)
    return _reduced(loss if weight is None else loss * weight, reduction)
