"""Multipliers of softmax, log-softmax and log-sum-exp by the logarithmic mean of both probabilities.

With L_j = (p_j − p'_j) / (log p_j − log p'_j) the change of a softmax is p_j − p'_j = L_j·(Δx_j − Σ L·Δx / Σ L): exact,
with coefficients in [0, 1], blind to a shift of all logits. An entry masked in both runs (−inf or the dtype's minimum)
has L = 0. For one of −inf in a single run a large finite number stands there (`tracer.rules.formulas.infinity`), so
that L·Δx is the probability that it gains or loses.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tracer.rules.formulas.infinity import one_sided


def logarithmic_mean(log_p: Tensor, log_p_ref: Tensor) -> Tensor:
    """(p − p') / (log p − log p') from log-probabilities, p where they agree; 0 where either is masked.

    As max(p, p')·(1 − e^−d)/d with d = |log p − log p'|, which is exact for close and for distant probabilities alike.
    A row that is masked throughout has NaN for log-probabilities; its L is 0.
    """
    distance = (log_p - log_p_ref).abs_()
    top = torch.maximum(log_p, log_p_ref).exp_()
    mean = torch.expm1(-distance).neg_().div_(distance).mul_(top)
    mean = torch.where(distance == 0, top, mean)
    return mean.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)


# Half the minimum that masks are made with; float64 may be masked with float32's.
_MASKED = torch.finfo(torch.float32).min / 2


def masked_rows(x: Tensor, dim: int) -> Tensor:
    """Which rows of logits along `dim` are masked throughout by a dtype's minimum; `dim` stays, at size 1.

    Adding the minimum rounds the logit away, so such a row's probabilities do not depend on what it was: where both
    runs mask it, nothing flows through its logits.
    """
    return x.amax(dim, keepdim=True) <= _MASKED


def _total(mean: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    total = mean.sum(dim, keepdim=True)
    return total.masked_fill_(total == 0, 1.0)


def spread(g: Tensor, mean: Tensor, dim: int) -> Tensor:
    """L_j·(g_j − Σ L·g / Σ L): the multiplier at the logits of a softmax whose logarithmic mean is `mean`.

    They add up to 0. What rounding leaves of their sum, a common shift of the logits would multiply: it is taken off in
    the shares of L, so that a masked entry keeps its 0.
    """
    total = _total(mean, dim)
    centre = (mean * g).sum(dim, keepdim=True).div_(total)
    m = (g - centre).mul_(mean)
    return m.addcmul_(mean, m.sum(dim, keepdim=True).div_(total), value=-1)


def softmax(g: Tensor, x: Tensor, x_ref: Tensor, dim: int) -> Tensor:
    """Multiplier of the logits `x` of a softmax over `dim`."""
    x, x_ref = one_sided(x, x_ref)
    mean = logarithmic_mean(torch.log_softmax(x, dim), torch.log_softmax(x_ref, dim))
    mean.masked_fill_(masked_rows(x, dim) & masked_rows(x_ref, dim), 0.0)
    return spread(g, mean, dim)


def log_softmax(g: Tensor, x: Tensor, x_ref: Tensor, dim: int) -> Tensor:
    """Multiplier of the logits of a log-softmax: g − Σg·L / ΣL."""
    mean = logarithmic_mean(torch.log_softmax(x, dim), torch.log_softmax(x_ref, dim))
    return g - mean * (g.sum(dim, keepdim=True) / _total(mean, dim))


def logsumexp(g: Tensor, x: Tensor, x_ref: Tensor, dim: tuple[int, ...]) -> Tensor:
    """Multiplier of the logits of log Σ e^x over `dim`, g·L / ΣL; `g` has size 1 there."""
    log_p = x - torch.logsumexp(x, dim, keepdim=True)
    log_p_ref = x_ref - torch.logsumexp(x_ref, dim, keepdim=True)
    mean = logarithmic_mean(log_p, log_p_ref)
    return mean * (g / _total(mean, dim))
