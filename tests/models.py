"""Small models that do what real ones do: reuse, residuals, keywords, nests, in-place ops, sequence-first layouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class Plain(nn.Module):
    """Linear → ReLU → Linear, nothing unusual: captum is right about it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.second = nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.relu(self.first(x)))


class Residual(nn.Module):
    """`h + relu(h)`: captum's rule on `h` overwrites what the addition sent back (a lost path)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.last = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        return self.last(h + self.relu(h))


class NestedResidual(nn.Module):
    """A pre-activation block: the rewritten tensor reaches the ruled module through a container's border."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)
        self.body = nn.Sequential(nn.Sequential(nn.ReLU(), nn.Linear(4, 4)), nn.Tanh())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        return self.last(h + self.body(h))


class Stale(nn.Module):
    """Tanh straight into Sigmoid: captum's Tanh rule reads a gradient that the Sigmoid rule rewrites afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head, self.tail = nn.Linear(4, 4), nn.Sequential(nn.Tanh()), nn.Sequential(nn.Sigmoid())
        self.last = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.tail(self.head(self.first(x))))


class Reused(nn.Module):
    """One linear layer called three times, one activation that works in place."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.relu, self.last = nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.shared(self.shared(self.shared(x)))
        return self.last(self.relu(h)) * 2


class Keywords(nn.Module):
    """A child called by keywords only, with nested arguments and a dict for a result."""

    class Child(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, *, hidden: torch.Tensor, extra: dict[str, Any]) -> dict[str, Any]:
            product = self.linear(hidden) * extra["scale"][0]
            return {"out": product, "more": (torch.sigmoid(hidden), [extra["scale"][0]])}

    def __init__(self) -> None:
        super().__init__()
        self.child, self.last = Keywords.Child(), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(x)
        result = self.child(hidden=h, extra={"scale": [h.exp(), 1]})
        out: torch.Tensor = self.last(result["out"] + result["more"][0] - result["more"][1][0])
        return out


class InPlace(nn.Module):
    """Assignments to slices, `+=`, views written to, a buffer of zeros filled step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        h = h.clone()
        h += 1
        h[:, 0] *= h[:, 1].detach() * 0 + 2
        out = torch.zeros_like(h)
        out[:, 1:3] = h[:, :2] * h[:, 2:]
        out.select(1, 0).add_(h[:, 0])
        out[:, 3].copy_(h[:, 3]).mul_(2)
        return self.last(F.relu_(out))


class WrittenView(nn.Module):
    """DeBERTa's habit: what a linear layer gives, a view of a matrix product, is reshaped and divided in place."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.last = nn.Linear(2, 4), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query = self.query(x.view(-1, 2, 2)).view(-1, 2, 2, 2).transpose(1, 2)
        query /= 3
        query *= query.detach().new_ones(1) * 2
        return self.last((query.exp() + query).flatten(1))


class EncoderDecoder(nn.Module):
    """Returns, beside its logits, a state that it also uses itself."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder, self.cross = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        state = torch.tanh(self.encoder(x))
        return {"logits": self.cross(self.decoder(state) * state), "state": state}


class TimeMajor(nn.Module):
    """Steps of a sequence stacked, repeated, and broadcast against weights with axes in front."""

    def __init__(self) -> None:
        super().__init__()
        self.step, self.last, self.weight = nn.Linear(2, 5), nn.Linear(5, 3), nn.Parameter(torch.ones(2, 1, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = torch.stack([torch.tanh(self.step(t)) for t in x.view(x.shape[0], -1, 2).unbind(1)])
        h = steps * steps.exp() + steps[0].repeat(2, 1, 1) * self.weight
        h = torch.einsum("tbh->bth", torch.sigmoid(self.weight) * h * h)
        return self.last(h.mean(1))


class Attention(nn.Module):
    """`nn.MultiheadAttention` and an encoder layer, sequence first, behind a view."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8)
        self.last = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x.view(-1, 2, 4).transpose(0, 1)
        h = self.attention(h, h, h)[0]
        return self.last(self.layer(h).mean(0))


class Cube(torch.autograd.Function):
    """x³: a custom function, which no `TorchFunctionMode` sees."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * gradients[0]


class Unseen(nn.Module):
    """Calls a custom autograd function between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(Cube.apply(self.first(x)))


class Dense(nn.Module):
    """DenseNet's habit: a list of features that grows and is handed to every layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4 * (i + 1), 4) for i in range(3))
        self.last = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [x]
        for layer in self.layers:
            features.append(F.silu(layer(torch.cat(features, 1))))
        return self.last(torch.cat(features, 1)).softmax(-1)


class Convolution(nn.Module):
    """Convolutions, batch norm, pooling with overlapping windows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv1d(1, 3, 3), nn.BatchNorm1d(3), nn.ReLU()
        self.pool, self.last = nn.MaxPool1d(3, 1), nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.pool(self.relu(self.norm(self.conv(x.unsqueeze(1))))).flatten(1))


class FunctionModel(nn.Module):
    """Runs `function(self, *inputs)` with the modules that it is given by name."""

    def __init__(self, function: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


class Wrong(nn.Module):
    """Raises in its second layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


MODELS: dict[str, tuple[type[nn.Module], int]] = {
    "plain": (Plain, 4),
    "residual": (Residual, 4),
    "nested residual": (NestedResidual, 4),
    "stale": (Stale, 4),
    "reused": (Reused, 4),
    "keywords": (Keywords, 4),
    "in place": (InPlace, 4),
    "written view": (WrittenView, 4),
    "time major": (TimeMajor, 4),
    "attention": (Attention, 8),
    "unseen": (Unseen, 4),
    "dense": (Dense, 4),
    "convolution": (Convolution, 8),
}
