"""`tracer.testing.assert_complete`: passes or fails as captum's delta does, and its message is the ranking."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import tracer
from tests.models import MODELS, Keywords
from tracer.errors import TracerError
from tracer.testing import assert_complete
from tracer.text import figure

ROOT = Path(__file__).parent.parent


def small(name: str) -> tuple[nn.Module, torch.Tensor]:
    kind, width = MODELS[name]
    torch.manual_seed(0)
    return kind().eval(), torch.randn(2, width)


@pytest.mark.parametrize("name", ["plain", "residual", "keywords", "dense", "convolution", "stale"])
@pytest.mark.parametrize("method", ["captum", "exact", "gradient"])
def test_it_passes_exactly_where_the_worst_example_holds(name: str, method: str) -> None:
    model, x = small(name)
    trace = tracer.record(model, x, target=1, method=method, capture="summary")  # type: ignore[arg-type]
    change = trace.run.output - trace.run.output_reference
    worst = float(abs(trace.delta / change).max())
    settings = {"target": 1, "method": method}
    assert_complete(model, x, **settings, max_relative_delta=worst * 1.01 + 1e-12)  # type: ignore[arg-type]
    if worst > 1e-6:
        with pytest.raises(AssertionError):
            assert_complete(model, x, **settings, max_relative_delta=worst * 0.99)  # type: ignore[arg-type]


def test_the_message_is_the_ranking() -> None:
    model, x = small("keywords")
    with pytest.raises(AssertionError) as caught:
        assert_complete(model, x, target=1)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("the relative delta is ") and lines[0].endswith("more than 0.001 (captum, as shipped)")
    assert lines[1].startswith("Do not read these attributions: the delta in example ")
    trace = tracer.record(model, x, target=1, capture="summary")
    example = int(abs(trace.delta / (trace.run.output - trace.run.output_reference)).argmax())
    assert f"the delta in example {example} is " in lines[1]
    assert lines[2] == f"worst calls in example {example}, of {len(trace.nodes)}:"
    leaks = trace.leaks(example)[1]
    worst = trace.nodes[int(abs(leaks).argmax())]
    assert lines[3].split()[0] == figure(float(leaks[worst.id]), signed=True)
    assert lines[3].endswith(f"{worst.path} ({worst.type})")
    assert worst.source is not None and lines[4].strip() == worst.source
    findings = tracer.diagnose(trace, example)
    assert findings
    at = lines.index(f"{findings[0].kind}: {findings[0].message}")
    assert lines[at + 1].strip() == findings[0].advice


def test_a_repaired_rulebook_passes() -> None:
    model, x = small("keywords")
    found = tracer.repair(model, x, target=1)
    assert_complete(model, x, target=1, rules=found.rules)
    with pytest.raises(AssertionError):
        assert_complete(model, x, target=1, rules=found.rules[:1])


def test_a_delta_that_is_no_number_does_not_pass() -> None:
    class Root(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x - 1).sqrt().sum(1)

    with pytest.raises(AssertionError, match="the relative delta is nan, more than 1e"):
        assert_complete(Root(), torch.full((1, 3), 2.0), max_relative_delta=1e300)


def test_an_attribution_that_fails_is_no_failed_assertion() -> None:
    with pytest.raises(TracerError):
        assert_complete(*small("plain"), target=99)


def test_pytest_shows_the_message_and_not_the_inside_of_the_helper(tmp_path: Path) -> None:
    (tmp_path / "test_net.py").write_text(
        "import torch\n"
        "from tests.models import Keywords\n"
        "from tracer.testing import assert_complete\n"
        "def test_net():\n"
        "    torch.manual_seed(0)\n"
        "    assert_complete(Keywords().eval(), torch.randn(1, 4), target=1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "test_net.py"],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "E       AssertionError: the relative delta is " in done.stdout
    assert "E       worst calls, of " in done.stdout
    assert ">       assert_complete(Keywords().eval(), torch.randn(1, 4), target=1)" in done.stdout
    assert "def assert_complete" not in done.stdout and "raise AssertionError(message)" not in done.stdout
    assert Keywords.__module__ == "tests.models"
