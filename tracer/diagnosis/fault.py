"""What a fault is: its name, the function that finds it, and the conditions under which it counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from tracer.diagnosis.evidence import Evidence
from tracer.records import FaultKind, Finding


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault by name; `find` gives the findings of it in a trace, with their messages and advice.

    `ends_run`: captum's run ends with it, or explains another function, so nothing stands before it. `harmful`: it
    counts even where its own calls leak next to nothing, for what it does to other calls or to the function explained.
    """

    kind: FaultKind
    find: Callable[[Evidence], Iterator[Finding]]
    ends_run: bool = False
    harmful: bool = False


def fault(
    kind: FaultKind, *, ends_run: bool = False, harmful: bool = False
) -> Callable[[Callable[[Evidence], Iterator[Finding]]], Fault]:
    """Makes a `Fault` of the function that finds it; `tracer.diagnosis.faults` collects it from its module."""
    return partial(Fault, kind, ends_run=ends_run, harmful=harmful)
