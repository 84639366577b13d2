"""Models of a few layers, each with one fault that its leaks show, or without it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.models import Cube


class Between(nn.Module):
    """Linear → `function` → Linear; a module in `function` is its child."""

    def __init__(self, function: Callable[[Tensor], Tensor], classes: int = 6) -> None:
        super().__init__()
        self.first, self.function, self.last = nn.Linear(4, 6), function, nn.Linear(classes, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.function(self.first(x)))
        return out


class Ending(nn.Module):
    """`module` on the input itself, whose differences are then those of the test, and a linear layer."""

    def __init__(self, module: nn.Module, width: int = 4) -> None:
        super().__init__()
        self.module, self.last = module, nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.module(x))
        return out


class Chain(nn.Module):
    """Tanh → Sigmoid; `apart`: with a tensor of its own for each."""

    def __init__(self, apart: bool) -> None:
        super().__init__()
        self.first, self.tanh, self.sigmoid, self.last = nn.Linear(4, 6), nn.Tanh(), nn.Sigmoid(), nn.Linear(6, 3)
        self.apart = apart

    def forward(self, x: Tensor) -> Tensor:
        h = self.tanh(self.first(x))
        out: Tensor = self.last(self.sigmoid(h.clone() if self.apart else h))
        return out


class Skip(nn.Module):
    """h + relu(h); `apart`: with a tensor of its own for the ReLU."""

    def __init__(self, apart: bool) -> None:
        super().__init__()
        self.first, self.relu, self.last = nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)
        self.apart = apart

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        out: Tensor = self.last(h + self.relu(h.clone() if self.apart else h))
        return out


class SkippedView(Skip):
    """v + relu(v) for a view v of what the linear layer gives."""

    def forward(self, x: Tensor) -> Tensor:
        view = self.first(x).view(-1, 2, 3)
        out: Tensor = self.last((view + self.relu(view)).flatten(1))
        return out


class Gate(nn.Module):
    """The product of two linear layers, or of one with a constant."""

    def __init__(self, constant: bool) -> None:
        super().__init__()
        self.left, self.right, self.last = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 3)
        self.constant = constant

    def forward(self, x: Tensor) -> Tensor:
        right = torch.full_like(x[:1, :1], 3.0) if self.constant else self.right(x)
        out: Tensor = self.last(self.left(x) * right)
        return out


class RootMeanSquareNorm(nn.Module):
    """RMSNorm written out, as models of transformers do."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class Pooled(nn.Module):
    """A convolution and a max pool."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv1d(1, 3, 3), nn.MaxPool1d(width, stride)
        self.last = nn.Linear(3 * ((10 - width) // stride + 1), 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.pool(self.conv(x[:, None])).flatten(1))
        return out


class PooledPairs(nn.Module):
    """Sums of pairs, then a max pool: a pair that is swapped in the baseline has Δ = 0 though its elements differ."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.last = nn.MaxPool1d(2), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.pool(x.view(-1, 1, 4, 2).sum(-1)).flatten(1))
        return out


class Explosion(nn.Module):
    """A GELU and a product before a softmax one of whose logits hardly moves: 1e-4 of what the others do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gelu, self.second = nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4)
        self.softmax, self.last = nn.Softmax(-1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.gelu(self.first(x))
        still = torch.tensor([1.0, 1e-4, 1.0, 1.0], dtype=x.dtype)
        out: Tensor = self.last(self.softmax(self.second(h) * still))
        return out


class Classifier(nn.Module):
    """A classifier that is very sure; `probabilities`: that gives them instead of logits."""

    def __init__(self, probabilities: bool, scale: float = 60) -> None:
        super().__init__()
        self.first, self.relu, self.last = nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)
        self.probabilities, self.scale = probabilities, scale

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.relu(self.first(x))) * self.scale
        return logits.softmax(-1) if self.probabilities else logits


class CubeLayer(nn.Module):
    """A custom autograd function."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = Cube.apply(x)
        return out


def masked_softmax(h: Tensor) -> Tensor:
    """Softmax over the first four logits; the others are masked as in transformers."""
    return (h + torch.where(torch.arange(6) < 4, 0.0, torch.finfo(h.dtype).min)).softmax(-1)


def normal(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers, float32."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def swapped(x: Tensor) -> Tensor:
    """A baseline of random numbers, but with the first pair of each row of `x` swapped."""
    baseline = normal(*x.shape, seed=4)
    baseline[:, 0], baseline[:, 1] = x[:, 1], x[:, 0]
    return baseline
