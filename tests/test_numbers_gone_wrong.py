"""NaN, infinities, numbers near both ends of a dtype: the trace is written, its figures are right, every view shows
it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import tracer
from tests.models import Plain
from tests.rounding import of_delta
from tests.test_cli import call
from tests.test_report import strict
from tests.tui.test_tensor_screen import settle, text_of
from tests.wrong_numbers import (
    INF,
    METHODS,
    NAN,
    Inner,
    Method,
    attributed,
    made,
    put,
    quiet,
    spoilt,
    tensors,
    weighted,
)
from tracer.tracefile.trace import Trace, open_trace
from tui.app import TracerApp

SPOILT = spoilt()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A trace of each spoilt run, by captum's rules."""
    folder, found = tmp_path_factory.mktemp("spoilt"), {}
    for number, (name, (model, x, ref, _path)) in enumerate(SPOILT.items()):
        found[name] = folder / f"{number}.dltrace"
        attributed(model, x, ref, "captum", found[name]).close()
    return found


def nonfinite(array: Any) -> int:
    return int(np.count_nonzero(~np.isfinite(np.asarray(array, dtype=np.float64))))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_run_is_recorded_and_the_call_to_blame_is_named(name: str, method: Method) -> None:
    model, x, ref, path = SPOILT[name]
    with quiet():
        trace = attributed(model, x, ref, method)
        findings = [finding for finding in tracer.diagnose(trace) if finding.kind == "non-finite"]
    assert trace.run.status == "complete" and nonfinite(trace.delta)
    assert [finding.path for finding in findings] == [path]
    assert "NaN or infinite" in findings[0].message and "\n" not in findings[0].message
    assert check_statistics(trace) or "reference" in name


def check_statistics(trace: Trace) -> int:
    """How many numbers the statistics count as none; they describe the rest."""
    counted = 0
    for node in trace.nodes:
        for edge in trace.edges(node):
            kept = trace.tensor(node, "input" if edge.direction == "in" else "output", edge.slot)
            figures = edge.value_statistics
            assert figures is not None
            finite = kept[np.isfinite(kept)].astype(np.float64)
            assert (figures.count, figures.nonfinite) == (kept.size, kept.size - finite.size)
            assert figures.norm == pytest.approx(float(np.linalg.norm(finite)), rel=1e-6)
            assert figures.maximum == (finite.max() if finite.size else 0.0)
            counted += figures.nonfinite
    return counted


@pytest.mark.parametrize("method", METHODS)
def test_an_example_is_right_beside_one_that_is_spoilt(method: Method) -> None:
    x, ref = tensors(torch.float64)
    model = made(Plain, torch.float64)
    sound, beside = (attributed(model, each, ref, method) for each in (x, put(x, NAN)))
    assert np.isnan(beside.delta[0])
    assert np.allclose(beside.delta[1], sound.delta[1], rtol=0, atol=1e-15)
    assert np.allclose(beside.attributions[0][1], sound.attributions[0][1], rtol=0, atol=1e-15)
    for one, other in zip(sound.nodes, beside.nodes, strict=True):
        assert one.path == other.path
        assert np.allclose(one.leak[1], other.leak[1], rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", SPOILT)
def test_reports_of_a_spoilt_run_are_strict_json_and_raise_no_warning(
    name: str, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file = files[name]
    with quiet():
        for arguments in ([], ["--markdown"], ["--html"]):
            assert call("report", file, *arguments) == 0
            assert "Traceback" not in capsys.readouterr().out
        assert call("report", file, "--json") == 0
        data = strict(capsys.readouterr().out)
        assert data["delta"] is None or isinstance(data["delta"], str)
        assert "non-finite" in [finding["kind"] for finding in data["findings"]]
        assert call("check", file, "--max-relative-delta", 1e9) == 1
        assert "does not hold" in capsys.readouterr().out
        assert call("diff", file, file) == 0
        assert "no call" in (told := capsys.readouterr().out.lower()) or "same" in told
        assert call("diff", file, file, "--json") == 0
        strict(capsys.readouterr().out)


@pytest.mark.parametrize("name", SPOILT)
def test_exports_of_a_spoilt_run_are_whole(name: str, files: dict[str, Path], tmp_path: Path) -> None:
    file = files[name]
    with quiet():
        for form in ("json", "csv", "html", "safetensors"):
            assert call("export", file, "--to", form, "-o", tmp_path / form) == 0
    data = strict((tmp_path / "json").read_text())
    with open_trace(file) as trace, safe_open(tmp_path / "safetensors", "np") as stored:
        assert len(data["nodes"]) == len(trace.nodes)
        rows = list(csv.DictReader(io.StringIO((tmp_path / "csv").read_text())))
        assert [row["path"].lstrip("'") for row in rows] == [node.path for node in trace.nodes]
        for key in stored.keys():  # noqa: SIM118
            if key == "attribution.0":
                assert np.array_equal(stored.get_tensor(key), trace.attributions[0], equal_nan=True)


async def screens(trace: Trace) -> list[str]:
    """What the UI shows of a trace: its tree, the findings, the flow, the tensors of the first call."""
    app, found = TracerApp(trace), []
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        for key in ("2", "3", "4", "5", "6", "7", "1"):
            await pilot.press(key)
            await settle(pilot)
            found.append(text_of(pilot))
        app.open_tensor(0)
        await settle(pilot)
        found.append(text_of(pilot))
    return found


@pytest.mark.parametrize("name", ["NaN in the input", "the same inf in both", "inf in the weights"])
def test_the_ui_shows_a_spoilt_run(name: str, files: dict[str, Path]) -> None:
    with quiet(), open_trace(files[name]) as trace:
        shown = asyncio.run(screens(trace))
    assert "NaN or infinite" in shown[3] and "nan" in shown[6]
    assert all(screen.strip() for screen in shown)


def test_the_command_line_records_a_spoilt_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file({"input": put(tensors()[0], NAN)}, "x.safetensors")
    assert (
        call("trace", "tests.wrong_numbers:of_nan_weights", "--inputs", "x.safetensors", "--target", 1, "-o", "t") == 0
    )
    out, err = capsys.readouterr()
    assert out == "t\n" and "Do not read these attributions" in err and "Warning" not in err
    with open_trace(tmp_path / "t") as trace:
        assert nonfinite(trace.delta) == 2 and trace.run.status == "complete"


# --- what no multiplier reaches -------------------------------------------------------------------------------------


class Guarded(nn.Module):
    """`where` guards a logarithm, a root and a quotient from what they are not defined for."""

    def forward(self, x: Tensor) -> Tensor:
        good = x > 0
        parts = (torch.where(good, x.log(), x), torch.where(good, x.sqrt(), -x), torch.where(x != 0, 1 / x, x))
        return torch.stack([x.sum(1), sum(parts, x).sum(1)], 1)


def test_exact_rules_let_no_branch_through_that_is_not_taken() -> None:
    x = torch.tensor([[1.0, 2.0, -3.0, 0.0], [0.5, -1.0, 4.0, 0.0]], dtype=torch.float64)
    ref = x * torch.tensor([1.5, 0.25, 3.0, 1.0], dtype=torch.float64)
    with quiet():
        trace = attributed(Guarded(), x, ref, "exact")
    assert np.abs(trace.delta).max() < 1e-12
    attributions = tracer.DeepLift(Guarded()).attribute(x, ref, target=1)
    assert torch.isfinite(attributions).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_leak_is_finite_where_no_multiplier_reaches_what_is_not(method: Method) -> None:
    class Log(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.sum(1), torch.where(x > 0, x.log(), x).sum(1)], 1)

    x = torch.tensor([[1.0, 2.0, -3.0], [0.5, -1.0, 4.0]], dtype=torch.float64)
    with quiet():
        trace = attributed(Log(), x, x * torch.tensor([1.5, 0.25, 3.0], dtype=torch.float64), method)
    own = np.sum([node.self_leak for node in trace.nodes], axis=0)
    assert nonfinite(own) == 0 and np.allclose(own, trace.delta, rtol=0, atol=1e-12)
    assert "non-finite" not in [finding.kind for finding in tracer.diagnose(trace)]


@pytest.mark.parametrize("method", METHODS)
def test_masks_of_minus_infinity_are_no_fault(method: Method) -> None:
    x, ref = tensors(torch.float64)
    mask = torch.tensor([0.0, 0.0, 0.0, 0.0, -INF, -INF], dtype=torch.float64)
    with quiet():
        trace = attributed(made(lambda: Inner(lambda h: (h + mask).softmax(-1)), torch.float64), x, ref, method)
    assert nonfinite(trace.delta) == nonfinite([node.self_leak for node in trace.nodes]) == 0
    assert "non-finite" not in [finding.kind for finding in tracer.diagnose(trace)]
    if method == "exact":
        assert np.abs(trace.delta).max() < 1e-15


def test_an_infinite_slope_is_named_where_the_backward_pass_meets_it() -> None:
    x, ref = tensors()
    trace = attributed(made(lambda: Inner(lambda h: torch.relu(h).sqrt())), x, ref, "gradient")
    (finding,) = (found for found in tracer.diagnose(trace) if found.kind == "non-finite")
    assert finding.path == "/sqrt" and "slope is infinite" in finding.message
    exact = attributed(made(lambda: Inner(lambda h: torch.relu(h).sqrt())), x, ref, "exact")
    assert (np.abs(exact.delta) <= of_delta(exact, 6)).all()


def test_of_several_origins_the_first_is_named() -> None:
    model = made(lambda: Inner(lambda h: (-h.abs()).log() + (h * 0).reciprocal()))
    (finding,) = (f for f in tracer.diagnose(attributed(model, *tensors(), "gradient")) if f.kind == "non-finite")
    assert finding.path == "/log" and "out of finite ones" in finding.message


def test_infinities_that_both_runs_share_are_followed_to_where_they_came_from() -> None:
    model = made(lambda: Inner(lambda h: h.abs() / torch.zeros(6)))
    (finding,) = (f for f in tracer.diagnose(attributed(model, *tensors(), "gradient")) if f.kind == "non-finite")
    assert finding.path == "second" and "out of infinite ones, which /div makes first" in finding.message


# --- both ends of a dtype -------------------------------------------------------------------------------------------


class Curved(nn.Module):
    """Ops with a rule of their own each, near 0; no weights."""

    def forward(self, x: Tensor) -> Tensor:
        wide = (x.tanh() + torch.nn.functional.gelu(x) + x.exp() - 1 + torch.sigmoid(x)).sum(1)
        return torch.stack([x.sum(1), wide], 1)


@pytest.mark.parametrize(("dtype", "step"), [(torch.float32, 1e-40), (torch.float64, 1e-310), (torch.float16, 6e-8)])
def test_subnormal_differences_are_shared_out(dtype: torch.dtype, step: float) -> None:
    ref = torch.zeros(2, 4, dtype=dtype)
    x = ref.clone()
    x[0, 0] = step
    with quiet():
        trace = attributed(nn.Sequential(Curved()), x, ref, "exact")
    # The slopes at 0 are 1, 1/2, 1 and 1/4: no eps may take their place.
    expected = 2.75 * float(x[0, 0])
    tolerance = max(1e-2 * expected, float(torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps))
    assert trace.attributions[0][0, 0] == pytest.approx(expected, rel=0, abs=tolerance)
    assert not trace.attributions[0][1].any()
    edge = trace.edges(trace.nodes[0])[0]
    assert edge.difference_statistics is not None
    assert edge.difference_statistics.maximum == float(x[0, 0])
    assert edge.difference_statistics.norm == pytest.approx(float(x[0, 0]), rel=1e-6)


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 1e37), (torch.float64, 1e307), (torch.float16, 3e4)])
@pytest.mark.parametrize("method", METHODS)
def test_numbers_whose_squares_overflow_have_their_norms(
    dtype: torch.dtype, size: float, method: Method, tmp_path: Path
) -> None:
    x, ref = tensors(dtype)
    x, ref = x / x.abs().max(), ref / ref.abs().max()
    model = made(lambda: nn.Sequential(Inner(lambda h: h / h.abs().max().detach() * size)), dtype)
    with quiet():
        trace = attributed(model, x, ref, method, tmp_path / "t.dltrace")
        assert tracer.diagnose(trace) is not None
    largest = 0.0
    for node in trace.nodes:
        for edge in trace.edges(node):
            assert edge.value_statistics is not None and np.isfinite(edge.value_statistics.norm)
            kept = trace.tensor(node, "input" if edge.direction == "in" else "output", edge.slot).astype(np.float64)
            scale = np.abs(kept).max(initial=1e-300)
            assert edge.value_statistics.norm / scale == pytest.approx(float(np.linalg.norm(kept / scale)), rel=1e-6)
            largest = max(largest, edge.value_statistics.norm)
        assert not np.isinf(node.gain)
    assert largest >= size
    assert call("report", tmp_path / "t.dltrace", "--json") == 0


def test_figures_too_large_for_a_database_are_no_damage(tmp_path: Path) -> None:
    class Huge(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * 1e307).clone() * 100

    x, ref = tensors(torch.float64)
    with quiet():
        trace = attributed(Huge(), x, ref, "gradient", tmp_path / "t.dltrace")
        found = [(finding.kind, finding.path, finding.call) for finding in tracer.diagnose(trace)]
    assert ("non-finite", "/mul", 1) in found


def test_a_reference_equal_to_the_input_has_a_relative_delta(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    x, _ref = tensors()
    for method in METHODS:
        file = tmp_path / f"{method}.dltrace"
        with quiet():
            trace = attributed(made(Plain), x, x, method, file)
        assert not trace.delta.any() and not trace.attributions[0].any()
        assert call("report", file, "--json") == 0
        data = json.loads(capsys.readouterr().out)
        assert data["delta"] == 0 and data["relative_delta"] == 0 and data["verdict"] == "holds"
        assert call("check", file, "--max-relative-delta", 0) == 0
        capsys.readouterr()


def test_the_helpers_spoil_what_they_say() -> None:
    assert torch.isnan(weighted(NAN).first.weight).sum() == 1  # type: ignore[union-attr,arg-type]
    assert torch.isinf(put(tensors()[0], INF)).sum() == 1
