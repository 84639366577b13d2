"""The minimal models as `tests.diagnose.factories:KIND`, for the command line: "unseen_op", and "more_3" for MORE."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from tests.diagnose.minimal import CASES, MORE

_MODELS: dict[str, Callable[[], nn.Module]] = {
    **{kind.replace("-", "_"): case.model for kind, case in CASES.items()},
    **{f"more_{number}": model for number, (_kind, model, _pattern) in enumerate(MORE)},
}


def __getattr__(name: str) -> Callable[[], nn.Module]:
    if name not in _MODELS:
        raise AttributeError(name)

    def make() -> nn.Module:
        torch.manual_seed(0)
        return _MODELS[name]()

    return make
