"""Models of a few layers, each with one fault in how it runs or is run, and clean twins of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    """Linear → ReLU → Linear → ReLU → Linear: captum is right about it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.act, self.act2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: torch.Tensor) -> Any:
        return self.last(self.act2(self.second(self.act(self.first(x)))))


class Reused(Net):
    """One ReLU twice."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h: torch.Tensor = self.last(self.act(self.second(self.act(self.first(x)))))
        return h


class Keyword(Net):
    """A ReLU called by keyword."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h: torch.Tensor = self.last(self.act(input=self.first(x)))
        return h


class NoGrad(Net):
    """A ReLU without gradients, as a gate that is meant to be constant."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            gate = self.act(self.first(x))
        h: torch.Tensor = self.last(self.second(x) + gate)
        return h


class TwoRows(Net):
    """Has a state for each of two rows."""

    def __init__(self) -> None:
        super().__init__()
        self.state = nn.Parameter(torch.ones(2, 4))

    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x + self.state)


class OtherWithoutGrad(Net):
    """Gives other values while gradients are off, as torch's fused transformer layers do at padded places."""

    def forward(self, x: torch.Tensor) -> Any:
        out = super().forward(x)
        return out if torch.is_grad_enabled() else 1.5 * out


class Wrapped(Net):
    """Returns a dict."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": super().forward(x)}


class Embedded(nn.Module):
    """Takes token ids."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.last = nn.Embedding(9, 4), nn.Linear(4, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        h: torch.Tensor = self.last(torch.tanh(self.embedding(ids)).sum(1))
        return h


class Overwritten(Net):
    """Adds in place to what a ReLU gave."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.act(self.first(x))
        h += 1
        out: torch.Tensor = self.last(h)
        return out


class Added(Net):
    """The same without overwriting."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h: torch.Tensor = self.last(self.act(self.first(x)) + 1)
        return h


class Indexed(nn.Module):
    """A pool that returns indices."""

    def __init__(self, return_indices: bool = True) -> None:
        super().__init__()
        self.pool, self.last = nn.MaxPool1d(2, return_indices=return_indices), nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.pool(x.unsqueeze(1))
        h: torch.Tensor = self.last((pooled[0] if self.pool.return_indices else pooled).flatten(1))
        return h


class ReadAgain(Net):
    """An in-place ReLU on a tensor that is read again: the model adds relu(h) to relu(h), captum sees h + relu(h)."""

    def __init__(self, inplace: bool = True) -> None:
        super().__init__()
        self.act = nn.ReLU(inplace)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        if not self.act.inplace:
            h = self.act(h)
            out: torch.Tensor = self.last(h * 2)
            return out
        out = self.last(self.act(h) + h)
        return out


class ReadView(Net):
    """The same through a view."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        self.act(h[:, :2])
        out: torch.Tensor = self.last(h.view(-1, 4))
        return out


class MyReLU(nn.ReLU):
    """A subclass without a difference."""


class Subclassed(Net):
    """Such a subclass for a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.act = MyReLU()


class Hooked(Net):
    """A ReLU with a backward hook that changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.act.register_full_backward_hook(looking)


def looking(_module: nn.Module, _into: Any, _out: Any) -> None:
    """A backward hook that changes nothing."""


class Halved(Net):
    """In half precision, and an input of the second ReLU is the same for all that the model takes."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.second.weight[1] = 0
        self.half()


class Lost(Net):
    """Returns a dict without a tensor."""

    def forward(self, x: torch.Tensor) -> Any:
        return {"loss": None}


class Functional(Net):
    """Functional dropout, which is on whatever mode the model is in."""

    def __init__(self, training: bool = True) -> None:
        super().__init__()
        self.drops = training

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h: torch.Tensor = self.last(F.dropout(self.act(self.first(x)), 0.3, training=self.drops))
        return h


class Masked(Net):
    """Takes a mask beside its input."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        h: torch.Tensor = self.last(self.act(self.first(x * mask)))
        return h


def made(model: nn.Module) -> nn.Module:
    """The model in float64 and evaluation mode, with weights of its type's own seed."""
    torch.manual_seed(5)
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.reset_parameters()
    return model.double().eval()


def pair(examples: int = 3, width: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Input and reference, float64."""
    torch.manual_seed(11)
    x, reference = torch.randn(2, examples, width, dtype=torch.float64).unbind()
    return x, reference


class Graph(nn.Module):
    """Three nodes, each the mean of all and itself; or each by itself."""

    def __init__(self, joined: bool) -> None:
        super().__init__()
        self.last, self.joined = nn.Linear(4, 3), joined

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(x)
        out: torch.Tensor = self.last(h + h.mean(0, keepdim=True) if self.joined else h)
        return out


def watched(make: Callable[[Any], Any]) -> Callable[[nn.Module, torch.Tensor, torch.Tensor | None], Any]:
    """An attribution, with its delta, by the DeepLift object that `make` gives for the watched model."""
    return lambda model, x, baseline: make(model).attribute(x, baseline, target=1, return_convergence_delta=True)
