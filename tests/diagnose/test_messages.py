"""What a finding says, word by word."""

from __future__ import annotations

import pytest

import tracer
from tests.diagnose.minimal import CASES
from tracer.records import FindingKind


@pytest.mark.parametrize("kind", CASES)
def test_words(kind: FindingKind) -> None:
    case = CASES[kind]
    finding = tracer.diagnose(case.record())[0]
    assert (finding.message, finding.advice) == (case.message, case.advice)
