"""One attribution that can be run again with other rules: recorded, or for its delta alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from tracer.exact.deeplift import DeepLift, Unobserved
from tracer.model.tensors import as_floats
from tracer.recording.options import Details
from tracer.recording.record import Method, record
from tracer.records import Floats
from tracer.rules.rulebook import Rulebook
from tracer.tracefile.trace import Trace


@dataclass(slots=True)
class Attribution:
    """One attribution that can be run with any rules."""

    model: nn.Module
    call: tuple[Any, Any, Any, Any]
    baseline_forward_args: Any
    method: Method
    base: tuple[str, ...]
    details: Details

    def recorded(self, rules: Sequence[str]) -> Trace:
        """The trace with these overrides, in memory and without tensors."""
        inputs, baselines, target, extras = self.call
        return record(
            self.model, inputs, baselines, target=target, additional_forward_args=extras,
            baseline_forward_args=self.baseline_forward_args, method=self.method, rules=rules, capture="summary",
            details=self.details,
        )  # fmt: skip

    def delta(self, rules: Sequence[str]) -> Floats:
        """The delta alone (E,), which costs half as much as a recording."""
        lift = DeepLift(self.model, rulebook=Rulebook.parse(self.method, rules))
        _attributions, delta = lift.attribute(
            *self.call,
            return_convergence_delta=True,
            baseline_forward_args=self.baseline_forward_args,
            observer=Unobserved(self.details.names),
        )
        return np.atleast_1d(as_floats(delta))

    def emulated(self) -> Trace:
        """The run itself by the rulebook: captum's own one emulated."""
        return self.recorded(self.base or (["*=captum"] if self.method == "captum" else []))


def with_added(
    names: Mapping[nn.Module, str], model: nn.Module, before: Collection[nn.Module]
) -> Mapping[nn.Module, str]:
    """The modules' paths as given, and those of the modules in `model` that were not there `before`."""
    known = dict(names)
    # From the inside out: what a wrapper holds is called as it is, not as the wrapper calls it.
    for module, path in reversed(list(names.items())):
        for tail, added in module.named_modules():
            if added not in before:
                known.setdefault(added, f"{path}.{tail}" if path else tail)
    return known
