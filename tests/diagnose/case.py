"""A minimal model with one fault, its clean twin, and what the fault's finding says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import tracer
from tests.diagnose.models import normal
from tracer.errors import TracerError
from tracer.tracefile.trace import Trace


@dataclass(frozen=True)
class Case:
    """A model on which one fault is to be found and named first, and `twin`, on which nothing is.

    Without `twin` the same model with `repaired` rules is the twin: the pattern that the advice names. `message` and
    `advice` are those of the finding. `options` are further arguments of `tracer.record`. `watched` is what somebody
    does with the model, the input and the baseline inside `tracer.watch`; then nothing else is run.
    """

    model: Callable[[], nn.Module]
    twin: Callable[[], nn.Module] | Case | None = None
    repaired: str = ""
    x: Tensor = field(default_factory=lambda: normal(2, 4, seed=1))
    baseline: Tensor | None = field(default_factory=lambda: normal(2, 4, seed=2))
    method: str = "captum"
    options: Mapping[str, Any] = field(default_factory=dict)
    watched: Callable[[nn.Module, Tensor, Tensor | None], Any] | None = None
    message: str = ""
    advice: str = ""

    def record(self, **options: Any) -> Trace:
        """The trace in which the fault is; of a run that ended with it the calls so far."""
        try:
            return self._record(self.model, **{"method": self.method, "rules": (), **options})
        except TracerError as error:
            assert isinstance(error.trace, Trace)
            return error.trace

    def record_twin(self, **options: Any) -> Trace:
        """The trace in which it is not."""
        if isinstance(self.twin, Case):
            return self.twin.record(**options)
        rules = [f"{self.repaired}=exact"] if self.twin is None else []
        return self._record(self.twin or self.model, **{"method": self.method, "rules": rules, **options})

    def _record(self, make: Callable[[], nn.Module], **options: Any) -> Trace:
        torch.manual_seed(0)
        if self.watched is not None:
            del options["method"], options["rules"]
            model = make().eval()
            with suppress(Exception), tracer.watch(model, **options) as watching:
                self.watched(model, self.x, self.baseline)
            assert watching.partial is not None
            return watching.partial
        return tracer.record(make().eval(), self.x, self.baseline, target=1, **{**self.options, **options})
