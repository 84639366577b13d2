"""Each benchmark has its part of RESULTS.md, and `--write` replaces that part and nothing else."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from tests.architectures import ARCHITECTURES
from tests.benchmarks import kills, results

FOLDER = results.RESULTS.parent
SCRIPTS = sorted(file.stem for file in FOLDER.glob("*.py") if "\ndef main(" in file.read_text(encoding="utf-8"))
TEXT = "before\n<!-- a -->\nold\n<!-- /a -->\nbetween\n<!-- b -->\nkept\n<!-- /b -->\n"


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 10


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_has_its_markers_and_takes_the_option(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = results.RESULTS.read_text(encoding="utf-8")
    assert f"<!-- {script} -->\nnew\n<!-- /{script} -->" in results.replaced(text, script, ["new"])
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit):
        importlib.import_module(f"tests.benchmarks.{script}").main()
    assert results.OPTION in capsys.readouterr().out


def test_the_table_of_architectures_has_them_all() -> None:
    part = results.RESULTS.read_text(encoding="utf-8").split("<!-- architectures -->")[1].split("<!-- /")[0]
    assert re.findall(r"^\| (\w.*?) \|", part, re.MULTILINE) == ["architecture", *ARCHITECTURES]


def test_only_the_part_of_that_name_is_replaced() -> None:
    assert results.replaced(TEXT, "a", ["x", "y"]) == TEXT.replace("old", "x\ny")
    assert results.replaced(TEXT, "b", ["", "x", ""]) == TEXT.replace("kept", "x")


@pytest.mark.parametrize(
    "wrong", ["", TEXT + TEXT, "<!-- /a -->\n<!-- a -->\n", "<!-- a -->\n", "<!-- /a -->\n" + TEXT]
)
def test_markers_that_do_not_stand_once_and_in_order_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="the markers of a "):
        results.replaced(wrong, "a", ["x"])


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page of results with one part, which `printed` writes to, from a script that was given `--count 3 --write`."""
    file = tmp_path / "RESULTS.md"
    file.write_text("<!-- kills -->\nold\n<!-- /kills -->\n", encoding="utf-8")
    monkeypatch.setattr(results, "RESULTS", file)
    monkeypatch.setattr(sys, "argv", ["kills.py", "--count", "3", "--write"])
    return file


def test_what_is_printed_is_written_with_its_origin(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with results.printed(kills.__file__, write=True) as line:
        line("| of 3 |")
        line("| done |")
    assert capsys.readouterr().out == "| of 3 |\n| done |\n"
    opening, caption, gap, *lines = page.read_text(encoding="utf-8").splitlines()
    assert (opening, gap, lines) == ("<!-- kills -->", "", ["| of 3 |", "| done |", "<!-- /kills -->"])
    assert caption.startswith("`python -m tests.benchmarks.kills --count 3`, 2")
    assert "captum 0.9" in caption and "cores" in caption and caption.endswith(":")


def test_without_the_option_nothing_is_written(page: Path) -> None:
    before = page.read_text(encoding="utf-8")
    with results.printed(kills.__file__, write=False) as line:
        line("new")
    assert page.read_text(encoding="utf-8") == before


def test_a_script_that_fails_leaves_the_page_as_it_is(page: Path) -> None:
    before = page.read_text(encoding="utf-8")
    with pytest.raises(ZeroDivisionError), results.printed(kills.__file__, write=True) as line:
        line("half")
        line(str(1 / 0))
    assert page.read_text(encoding="utf-8") == before
