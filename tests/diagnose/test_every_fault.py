"""Each fault that has a name has its function, a minimal case with its texts, and is counted in the README."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

from tests.diagnose.case import Case
from tests.diagnose.minimal import CASES
from tracer.diagnosis.fault import Fault
from tracer.diagnosis.faults import FAULTS
from tracer.diagnosis.leftover import LEFTOVERS
from tracer.records import FaultKind, FindingKind, LeftoverKind

README = Path(__file__).parents[2] / "README.md"


def forgotten(
    kinds: Collection[str], faults: Collection[Fault], cases: Mapping[FindingKind, Case], readme: str
) -> Iterator[str]:
    """What is missing for the faults of these kinds, in words."""
    for kind in kinds:
        functions = [fault for fault in faults if fault.kind == kind]
        if len(functions) != 1:
            yield f"{kind}: {len(functions)} functions @fault({kind!r}) in modules that diagnosis.faults reads"
        case = cases.get(kind)  # type: ignore[call-overload]
        if case is None:
            yield f"{kind}: no case in tests/diagnose/minimal.py"
        elif not (case.message and case.advice):
            yield f"{kind}: its case has no message or no advice"
    counted = re.findall(r"(\d+) ways in which DeepLIFT goes wrong", readme)
    if counted != [str(len(kinds))]:
        yield f"the README counts {counted} ways in which DeepLIFT goes wrong, and there are {len(kinds)}"


def test_nothing_is_forgotten() -> None:
    assert list(forgotten(get_args(FaultKind), FAULTS, CASES, README.read_text(encoding="utf-8"))) == []


def test_what_is_forgotten_is_named() -> None:
    kinds, readme = get_args(FaultKind), README.read_text(encoding="utf-8")
    worded = {kind: replace(case, advice="" if kind == "lost-path" else case.advice) for kind, case in CASES.items()}
    del worded["stale-gradient"]
    found = list(forgotten([*kinds, "new-fault"], [*FAULTS[1:]], worded, readme))
    assert [each.partition(":")[0] for each in found] == [
        kinds[0], "stale-gradient", "lost-path", "new-fault", "new-fault",
        f"the README counts ['{len(kinds)}'] ways in which DeepLIFT goes wrong, and there are {len(kinds) + 1}",
    ]  # fmt: skip


def test_each_kind_of_leftover_has_its_function() -> None:
    assert tuple(LEFTOVERS) == get_args(LeftoverKind)
