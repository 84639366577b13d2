"""What is exported is what was recorded; other programs read it; a file is complete or not there."""

from __future__ import annotations

import csv
import io
import json
import math
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from tests.synthetic import synthetic_run, write_synthetic
from tests.test_borders import HEAVY, loaded
from tests.test_cli import call
from tests.test_report import memory_trace, strict, with_delta
from tests.test_rows import node
from tracer.commands import export
from tracer.commands.output_file import new_file
from tracer.errors import InputError, TraceFileError
from tracer.records import Edge, Note, TensorRef
from tracer.report import safetensors as export_tensors
from tracer.report.csv_json import LEDGER, csv_lines, json_lines
from tracer.report.safetensors import write_safetensors
from tracer.tracefile.trace import Trace, open_trace
from tracer.tracefile.writer import TraceWriter

NAMES = {
    "in": ("input", "reference", "multiplier_in"),
    "out": ("output", "output_reference", "multiplier_out"),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("traces") / "run.dltrace"
    write_synthetic(path, layers=2, examples=2, tensors=True)
    return path


def stored(trace: Trace, path: Path) -> tuple[int, int]:
    with path.open("wb") as out:
        return write_safetensors(trace, out)


def with_tensors(path: str, *tensors: tuple[bytes, str, tuple[int, ...]]) -> Trace:
    """A trace with one call, whose inputs are these tensors, by slot."""
    with TraceWriter(None) as writer:
        writer.begin(synthetic_run(tensors=True))
        edges = [
            Edge("in", slot, str(slot), shape, dtype, np.zeros(1), value=writer.put_tensor(raw, dtype, shape))
            for slot, (raw, dtype, shape) in enumerate(tensors)
        ]
        writer.add(node(path=path), edges)
        writer.finish(synthetic_run(tensors=True))
        return writer.trace()


def test_every_recorded_tensor_is_in_the_safetensors_file_by_its_name(file: Path, tmp_path: Path) -> None:
    with open_trace(file) as trace:
        count, elided = stored(trace, tmp_path / "out")
        found = load_file(tmp_path / "out")
        expected = {"attribution.0": trace.attributions[0]}
        for one in trace.nodes:
            for edge in trace.edges(one):
                for name in NAMES[edge.direction]:
                    tensor = trace.tensor(one, name, edge.slot)  # type: ignore[arg-type]
                    expected[f"{one.path}#{one.call}/{name}.{edge.slot}"] = tensor
    assert (count, elided) == (len(expected), 0) and set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and np.array_equal(found[name], tensor), name


def test_the_metadata_has_the_run_and_its_calls(file: Path, tmp_path: Path) -> None:
    with open_trace(file) as trace:
        stored(trace, tmp_path / "out")
        with safe_open(tmp_path / "out", "np") as opened:
            data = opened.metadata()
        run, nodes = strict(data["run"]), strict(data["nodes"])
        assert data["format"] == "deeplift-tracer" and strict(data["elided"]) == []
        assert run["model"] == "synthetic" and run["delta"] == trace.delta.tolist()
        assert [one["path"] for one in nodes] == trace.columns.paths
        assert [one["self_leak"] for one in nodes] == [one.self_leak.tolist() for one in trace.nodes]


def test_tensors_of_every_dtype_and_shape_are_written_as_they_are(tmp_path: Path) -> None:
    half = np.array([1.0, -2.5], dtype=np.float32).view(np.uint32) >> 16
    given: list[tuple[bytes, str, tuple[int, ...]]] = [
        (b"\1\0\1", "bool", (3,)),
        (half.astype("<u2").tobytes(), "bfloat16", (2, 1)),
        (np.float16([1, 2, 3]).tobytes(), "float16", (1, 3)),
        (np.float64([math.nan, math.inf]).tobytes(), "float64", (2,)),
        (b"", "float32", (0, 4)),
        (np.int64([7]).tobytes(), "int64", ()),
        (np.complex64([1j]).tobytes(), "complex64", (1,)),
        (np.complex128([1j]).tobytes(), "complex128", (1,)),
    ]
    count, elided = stored(with_tensors("odd#0/input.0", *given), tmp_path / "out")
    assert (count, elided) == (7, 1)
    raw = (tmp_path / "out").read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    assert size % 8 == 0 and json.loads(header["__metadata__"]["elided"]) == ["odd#0/input.0#0/input.7"]
    for slot, (data, _dtype, shape) in enumerate(given[:7]):
        entry = header[f"odd#0/input.0#0/input.{slot}"]
        start, end = (8 + size + place for place in entry["data_offsets"])
        assert raw[start:end] == data and entry["shape"] == list(shape)
        assert start % max(len(data) // max(math.prod(shape), 1), 1) == 0  # as a reader that maps the file needs it
    torch = pytest.importorskip("torch")
    with safe_open(tmp_path / "out", "pt") as opened:
        assert torch.equal(opened.get_tensor("odd#0/input.0#0/input.1"), torch.tensor([[1.0], [-2.5]]).bfloat16())


@pytest.mark.parametrize("length", range(8))
def test_tensors_begin_at_a_multiple_of_eight(length: int, tmp_path: Path) -> None:
    stored(with_tensors("p" * length, (bytes(8), "float64", (1,))), tmp_path / "out")
    raw = (tmp_path / "out").read_bytes()
    assert int.from_bytes(raw[:8], "little") % 8 == 0 and raw[-8:] == bytes(8)
    assert load_file(tmp_path / "out")[f"{'p' * length}#0/input.0"].tolist() == [0.0]


def test_what_was_left_out_is_named(tmp_path: Path) -> None:
    with TraceWriter(None) as writer:
        writer.begin(synthetic_run(tensors=True))
        elided = TensorRef(None, "float32", (2,), elided=True)
        writer.add(node(path="p"), [Edge("out", 3, "x", (2,), "float32", np.zeros(1), multiplier=elided)])
        writer.finish(synthetic_run(tensors=True))
        assert stored(writer.trace(), tmp_path / "out") == (0, 1)
    with safe_open(tmp_path / "out", "np") as opened:
        assert strict(opened.metadata()["elided"]) == ["p#0/multiplier_out.3"]


def test_a_tensor_that_is_not_what_was_recorded_is_said(tmp_path: Path) -> None:
    path = tmp_path / "run.dltrace"
    write_synthetic(path, layers=1, tensors=True)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE tensor SET data = zeroblob(length(data)) WHERE id = 3")
    assert call("export", path, "--to", "safetensors") == 2
    assert sorted(each.name for each in tmp_path.iterdir()) == ["run.dltrace"]  # and nothing is left behind
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE tensor SET data = zeroblob(5) WHERE id = 3")
    with open_trace(path) as trace, pytest.raises(TraceFileError, match="a tensor has 5 bytes, its shape needs"):
        stored(trace, tmp_path / "out")
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM tensor WHERE id = 3")
    with open_trace(path) as trace, pytest.raises(TraceFileError, match=r"#0/multiplier_in\.0 is missing"):
        stored(trace, tmp_path / "out")


def test_a_head_that_readers_would_refuse_is_not_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_tensors, "_LONGEST_HEADER", 1_000)
    with open_trace(file) as trace, pytest.raises(TraceFileError, match="do not fit into the head of a safetensors"):
        write_safetensors(trace, io.BytesIO())


def test_the_json_has_the_report_and_all_calls_with_their_edges(file: Path) -> None:
    with open_trace(file) as trace:
        data = strict("".join(json_lines(trace)))
        assert {"schema", "delta", "findings", "counterfactuals", "panel", "versions", "run", "notes"} <= set(data)
        assert [one["id"] for one in data["nodes"]] == list(range(len(trace.nodes)))
        for one, node_ in zip(data["nodes"], trace.nodes, strict=True):
            assert one["path"] == node_.path and one["leak"] == node_.leak.tolist()
            edges = trace.edges(node_)
            assert [edge["flow"] for edge in one["edges"]] == [edge.flow.tolist() for edge in edges]
            assert [edge["name"] for edge in one["edges"]] == [edge.name for edge in edges]
            assert one["edges"][0]["value"]["norm"] == edges[0].value_statistics.norm  # type: ignore[union-attr]
            assert one["edges"][0]["difference"]["count"] == edges[0].difference_statistics.count  # type: ignore[union-attr]
            assert one["edges"][1]["reference"] is None and edges[1].reference_statistics is None


def test_the_json_is_strict_whatever_the_numbers() -> None:
    bad = np.array([math.nan])
    run = replace(with_delta(math.nan), output=np.array([math.inf]), seconds=math.nan)
    with TraceWriter(None) as writer:
        writer.begin(run)
        writer.add(node(leak=bad, self_leak=bad, gain=math.inf), [Edge("in", 0, "x", (1,), "float32", bad)])
        writer.add_notes([Note("cut", "p0", 0, "detach")])
        writer.finish(run)
        data = strict("".join(json_lines(writer.trace())))
    assert data["nodes"][0]["gain"] == "inf" and data["nodes"][0]["leak"] == [None]
    assert data["run"]["seconds"] is None and data["run"]["output"] == ["inf"]
    assert data["notes"] == [
        {"what": "cut", "path": "p0", "call": 0, "detail": "detach", "amount": None, "source": None}
    ]
    assert data["nodes"][0]["edges"][0]["value"] is None
    empty = "".join(json_lines(memory_trace(synthetic_run(tokens=False))))
    assert strict(empty)["nodes"] == []


def rows_of(trace: Trace) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO("".join(csv_lines(trace)))))


def test_the_csv_has_the_ledger_a_line_a_call(file: Path) -> None:
    with open_trace(file) as trace:
        rows = rows_of(trace)
        assert tuple(rows[0]) == LEDGER and [row["path"] for row in rows] == trace.columns.paths
        assert [float(row["self_leak"]) for row in rows] == trace.columns.self_leak.tolist()
        assert sum(float(row["share"]) for row in rows) == pytest.approx(1)
        assert sum(float(row["self_leak"]) for row in rows) == pytest.approx(float(trace.delta.sum()))
        assert rows[0]["parent"] == "" and rows[1]["parent"] == "0" and rows[1]["largest_secant"] == ""


@pytest.mark.parametrize("evil", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", 'a,"b"\nc;d'])
def test_a_text_in_the_csv_is_no_formula_and_breaks_no_line(evil: str) -> None:
    (row,) = rows_of(memory_trace(with_delta(1.0), node(path=evil, type=evil, source=evil, self_leak=np.array([-1.0]))))
    assert not row["path"].startswith(("=", "+", "-", "@", "\t", "\r"))
    assert row["path"].removeprefix("'").replace("\r", "\n") == evil.replace("\r", "\n")
    assert row["type"] == row["source"] == row["path"] and float(row["self_leak"]) == -1.0  # a number stays one


@pytest.mark.parametrize("form", export.FORMATS)
def test_the_file_lies_beside_the_trace_and_an_old_one_is_kept(
    file: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = file.with_suffix(f".{form}")
    assert call("export", file, "--to", form) == 0
    assert capsys.readouterr().out == f"{out}\n" and out.stat().st_size > 1_000
    out.write_text("mine")
    assert call("export", file, "--to", form) == 2
    assert f"{out} already exists: give another file with -o, or overwrite it with --force" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert call("export", file, "--to", form, "--force") == 0
    assert out.stat().st_size > 1_000


@pytest.mark.parametrize("form", export.FORMATS)
def test_nothing_heavy_is_loaded(file: Path, tmp_path: Path, form: str) -> None:
    arguments = ["export", str(file), "--to", form, "-o", str(tmp_path / "out")]
    code = f"from tracer.cli import main; assert main({arguments!r}) == 0"
    assert loaded(code, *HEAVY, "textual", "tui") == set()


@pytest.mark.parametrize("form", ["--html", "--markdown"])
def test_reports_load_nothing_heavy(file: Path, form: str) -> None:
    code = f"from tracer.cli import main; assert main(['report', {str(file)!r}, {form!r}]) == 0"
    assert loaded(code, *HEAVY, "textual", "tui") == set()


def test_a_trace_of_figures_has_its_attributions_to_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_synthetic(tmp_path / "run.dltrace", layers=1)
    assert call("export", tmp_path / "run.dltrace", "--to", "safetensors") == 0
    assert capsys.readouterr().err.splitlines()[-1] == "1 tensor"
    assert set(load_file(tmp_path / "run.safetensors")) == {"attribution.0"}
    with pytest.raises(InputError, match="the trace holds no tensors: record it with --capture tensors, or export to"):
        export._write(memory_trace(synthetic_run()), "safetensors", io.BytesIO(), lambda *told: None)


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.csv"
    write_synthetic(path, layers=1)

    def refused(*arguments: object) -> str:
        assert call(*arguments) == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert "is the trace itself: give another file with -o" in refused("export", path, "--to", "csv", "--force")
    assert "invalid choice: 'xml'" in refused("export", path, "--to", "xml")
    assert "the following arguments are required: --to" in refused("export", path)
    assert "does not exist" in refused("export", tmp_path / "none", "--to", "csv")
    assert "is a folder: give a file in it" in refused("export", path, "--to", "json", "-o", tmp_path, "--force")
    assert "cannot write" in refused("export", path, "--to", "json", "-o", tmp_path / "no" / "file")
    assert open_trace(path).run.model == "synthetic" and [each.name for each in tmp_path.iterdir()] == ["run.csv"]


def test_a_report_is_written_to_a_file_too(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form, start in (("--html", "<!DOCTYPE html>"), ("--markdown", "**BROKEN.**"), ("--json", "{")):
        out = tmp_path / f"report{form}"
        assert call("report", file, form, "-o", out) == 0
        assert capsys.readouterr().out == f"{out}\n" and out.read_text().startswith(start)
        assert call("report", file, form, "-o", out) == 2
        assert call("report", file, form) == 0
        capsys.readouterr()
    assert call("report", file, "--html", "--json") == 2


def test_a_file_comes_into_being_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with pytest.raises(RuntimeError), new_file(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with new_file(path) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(KeyboardInterrupt), new_file(path, force=True) as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"whole" and list(tmp_path.iterdir()) == [path]


def test_progress_is_told(file: Path) -> None:
    said: list[tuple[Any, ...]] = []
    with open_trace(file) as trace:
        count, _ = write_safetensors(trace, io.BytesIO(), lambda *told: said.append(told))
    assert [told[1] for told in said] == list(range(count)) and {told[2] for told in said} == {count}
