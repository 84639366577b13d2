"""`diff` tells where two traces part, headline first, as text and as strict JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.synthetic import synthetic_run, write_synthetic
from tests.test_borders import HEAVY, loaded
from tests.test_cli import call
from tests.test_compare import leaf, made, with_outputs
from tests.test_report import strict
from tracer.analysis.compare import compare
from tracer.records import Run
from tracer.report.comparison import diff_text, headline
from tracer.report.comparison_data import diff_data
from tracer.tracefile.trace import Trace
from tracer.tracefile.writer import TraceWriter


def with_run(trace: Trace, run: Run) -> Trace:
    """The calls and edges of a trace under another head."""
    with TraceWriter(None) as writer:
        writer.begin(run)
        for node in trace.nodes:
            writer.add(node, trace.edges(node))
        writer.finish(run)
        return writer.trace()


def told(a: Trace, b: Trace, width: int = 100, top: int = 10) -> str:
    return diff_text(a, b, compare(a, b), width=width, top=top)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    write_synthetic(tmp_path / "a.dltrace", layers=2, seed=0, examples=2)
    write_synthetic(tmp_path / "b.dltrace", layers=3, seed=1, examples=2)
    return tmp_path / "a.dltrace", tmp_path / "b.dltrace"


def test_the_command_prints_the_headline_first(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert call("diff", *files, "--top", 2) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.startswith("A and B compute the same values and attribute them differently: ")
    assert "worst 1 of 1 calls that differ" in out and "only in B: 19 of 58 calls" in out and "only in A" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_the_command_prints_json(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("diff", *files, "--json") == 0
    data = strict(capsys.readouterr().out)
    assert set(data) == {
        "schema", "headline", "a", "b", "differing", "calls", "aligned", "only_a", "only_b", "diverging", "tolerance",
        "first_divergence", "worst_divergence", "first_value_difference", "first_reference_difference",
        "nearest_to_output", "rows",
    }  # fmt: skip
    assert (data["calls"], data["aligned"], data["only_a"], data["only_b"]) == (58, 39, 0, 19)
    assert data["differing"] == ["file", "calls", "output", "output_reference", "delta", "relative_delta"]
    sizes = [abs(row["difference"]) for row in data["rows"]]
    assert len(sizes) == 58 and sizes == sorted(sizes, reverse=True)
    assert sum(row["diverging"] for row in data["rows"]) == data["diverging"] > 0
    assert data["rows"][0] == data["worst_divergence"] and data["first_value_difference"] is None
    alone = next(row for row in data["rows"] if row["in"] == "b")
    assert alone["self_leak_a"] is None and alone["type_a"] is None and alone["gain_a"] is None
    assert alone["difference"] == alone["self_leak_b"]
    assert call("diff", *files, "--json", "--top", 3, "--example", 1) == 0
    one = strict(capsys.readouterr().out)
    assert len(one["rows"]) == 3 and one["a"]["delta"] != data["a"]["delta"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("A", "FOLDER/none"), "FOLDER/none does not exist: give a file that"),
        (("A", "B", "--example", "2"), "there is no example 2: the trace holds 2, 0 to 1"),
        (("A",), "the following arguments are required: B"),
    ],
)
def test_a_mistake_is_one_line(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], line: str
) -> None:
    folder = str(files[0].parent)
    names = {"A": str(files[0]), "B": str(files[1])}
    assert call("diff", *(names.get(each, each.replace("FOLDER", folder)) for each in arguments)) == 2
    assert line.replace("FOLDER", folder) in capsys.readouterr().err.splitlines()[-1]


def test_the_command_loads_no_torch(files: tuple[Path, Path]) -> None:
    code = f"from tracer.cli import main; assert main(['diff', {str(files[0])!r}, {str(files[1])!r}]) == 0"
    assert loaded(code, *HEAVY, "textual", "tui") == set()


def test_each_kind_of_difference_has_its_headline() -> None:
    a = with_outputs((1, 2, 3), (4, 5, 6))
    changed = with_outputs((1, 2.1, 3.1), (4, 5, 6))
    heads = {
        "same": (a, a),
        "values": (a, changed),
        "text": (a, with_run(changed, replace(changed.run, text="another"))),
        "reference": (a, with_outputs((1, 2, 3), (4, 5.1, 6))),
    }
    said = {name: headline(*pair, compare(*pair)) for name, pair in heads.items()}
    deltas = " The delta is 0 in A and 0 in B."
    assert said == {
        "same": f"A and B agree: they compute the same values, and no call's self leak differs.{deltas}",
        "values": f"A and B compute different values for the same input: their outputs differ from x.y on.{deltas}",
        "text": f"A and B are of two texts: their outputs differ from x.y on.{deltas}",
        "reference": f"A and B have different references: the reference's outputs differ from x on.{deltas}",
    }


def test_leaks_and_models_have_their_headlines_too() -> None:
    a = made(("m", (leaf("x"), leaf("y"))), {("x", 0): 3.0})
    b = made(("m", (leaf("x"), leaf("y"))), {("x", 0): -1.0})
    failed = with_run(b, replace(b.run, status="failed"))
    assert headline(a, failed, compare(a, failed)) == (
        "A and B compute the same values and attribute them differently: 1 of 3 calls leak differently. "
        "The delta is 0 in A and not known in B."
    )
    other = made(("m", (leaf("x"), *(leaf(name) for name in "abcdefg"))))
    assert headline(a, other, compare(a, other)).startswith(
        "A and B look like different models: only 2 of their 3 and 9 calls align."
    )


def test_the_text_says_where_they_part() -> None:
    a = made(("m", (leaf("x"), ("y", (leaf("/softmax"),)), leaf("z"))), {("x", 0): 0.5, ("y/softmax", 0): 3.0})
    b = made(("m", (leaf("x"), ("y", (leaf("softmax"),)), leaf("w"))), {("y.softmax", 0): -1.0, ("w", 0): 9.0})
    text = " ".join(told(a, b).split())
    assert "values the same in every call that both have" in text
    assert "first call x: self leak +0.5 in A, self leak 0 in B" in text
    assert "worst call w: not in A, self leak +9 in B" in text
    assert "last call z: gain 1 in A, not in B. Multipliers run from the output back" in text
    narrow = told(a, b, width=60)
    assert "difference" not in narrow and "           –           +9  w            w" in narrow.splitlines()
    plain, other = with_outputs((1, 2, 3), (4, 5, 6)), with_outputs((1, 2, 3), (4, 5, 6), (1, 2, 3), leak=3.0)
    assert "last call" in told(plain, other)
    other = with_outputs((1, 2.1, 3.1), (4, 5, 6), (1, 2, 3), leak=3.0)
    assert "worst call" in told(plain, other) and "last call" not in told(plain, other)  # other values, other gains
    lines = told(a, b).splitlines()
    assert "           –           +9           +9  w            w" in lines
    assert "          +3           -1           -4  softmax      y/softmax" in lines
    assert (
        "only in A: 1 of 5 calls" in lines and "  1 × z, the first: z" in lines and "only in B: 1 of 5 calls" in lines
    )


def test_the_heads_say_what_is_the_same_once_and_what_is_not_side_by_side() -> None:
    a = made(("m", (leaf("x"),)), {("x", 0): 1.0})
    versions = {"deeplift-tracer": "0.1.0", "torch": "2.12.0", "captum": "0.9.0", "file": "odd"}
    b = with_run(a, replace(a.run, versions=versions, method="exact", delta=np.array([0.5])))
    rounded = with_run(a, replace(a.run, output=a.run.output * (1 + 1e-9)))
    assert diff_data(a, rounded, compare(a, rounded))["differing"] == []
    lines = [" ".join(line.split()) for line in told(a, b).splitlines()]
    same, different = lines.index("the same in both"), lines.index("different A B")
    assert "model synthetic" in lines[same:different] and "versions captum 0.9.0, deeplift-tracer 0.1.0" in lines
    assert lines[different + 1 : different + 5] == [
        "method captum exact",
        "delta 0 (0 %) +0.5 (25 %)",
        "file – odd",  # a package of that name, and not the file's
        "torch 2.13.0 2.12.0",
    ]


def test_a_terminal_obeys_nothing_that_a_trace_says() -> None:
    evil = "\x1b]0;owned\x07\r\n\u202eabc\x9b2J"
    a = made(("m", (leaf("x" + evil), leaf(evil))), {(evil, 0): 5.0})
    b = made(("m", (leaf("x" + evil), leaf("y" + evil))), {("y" + evil, 0): 7.0})
    hostile = replace(
        synthetic_run(), model=evil, method=evil, variant=evil, rulebook=evil, target=evil, text=evil, reference=evil,
        versions={evil: evil},
    )  # fmt: skip
    texts = [told(a, with_run(b, hostile)), told(with_run(a, hostile), with_run(b, hostile))]
    assert all(character == "\n" or character.isprintable() for text in texts for character in text)
    assert json.dumps(diff_data(a, b, compare(a, b)), allow_nan=False)


@pytest.mark.parametrize("width", [60, 80, 160])
def test_lines_fit_the_terminal(width: int) -> None:
    long = "encoder.layer." * 9
    a = made(("m", (leaf(long + "a"), leaf("/softmax"), leaf(long + "c"))), {(long + "a", 0): -1234567.0})
    b = made(("m", (leaf(long + "a"), leaf("softmax"), leaf(long + "d"))), {(long + "d", 0): 7.0})
    b = with_run(b, replace(b.run, text="word " * 90, model="m" * 200))
    lines = told(a, b, width).splitlines()
    assert max(map(len, lines)) <= width and any("-1 234 567" in line for line in lines)
