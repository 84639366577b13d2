"""The import contracts of pyproject.toml, each broken on purpose in a copy and seen to fail."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TRACER, TUI = "tracer is a way from the model to the command line", "tui is a way from a trace to the screen"
UI = "Only the commands that show a trace know the terminal UI"
READS = "The terminal UI knows of tracer what reads a trace"
SAVED = "A saved trace is read, judged, reported and shown without a model"
FORMULAS = "The formulas are pure maths"
CIRCLE = "No circle of imports, inside a folder or between folders"
LAZY = "\n\ndef _late():\n    {}\n"
TYPES = "\n\nimport typing\nif typing.TYPE_CHECKING:\n    {}\n"

BROKEN = [
    (TRACER, "tracer/ledger/rows.py", "import tracer.recording.watch"),  # upwards
    (TRACER, "tracer/model/hooks.py", "import tracer.rules.table"),  # sideways
    (TRACER, "tracer/tracefile/cells.py", LAZY.format("import tracer.report.html")),  # lazily
    (TRACER, "tracer/analysis/verdict.py", TYPES.format("import tracer.diagnosis.faults")),  # for a type alone
    (TRACER, "tracer/nowhere.py", ""),  # a file that has no place in the way
    (TUI, "tui/lines/format.py", "import tui.widgets.lines"),
    (TUI, "tui/live/watch.py", LAZY.format("import tui.terminal.files")),
    (TUI, "tui/widgets/short_lines.py", TYPES.format("import tui.app")),
    (UI, "tracer/report/text.py", "import tui.lines.format"),
    (UI, "tracer/commands/report.py", LAZY.format("import textual")),
    (READS, "tui/model/session.py", LAZY.format("import tracer.recording.run")),
    (SAVED, "tracer/text.py", "import torch"),
    (SAVED, "tracer/diagnosis/phrases.py", LAZY.format("import captum")),
    (SAVED, "tui/app.py", TYPES.format("import transformers")),
    (FORMULAS, "tracer/rules/formulas/norm.py", "import captum"),
    (CIRCLE, "tracer/rules/formulas/elementwise.py", LAZY.format("import tracer.rules.formulas.activation")),
    (CIRCLE, "tui/looks/roles.py", TYPES.format("import tui.looks.ramp")),
]


def verdicts(root: Path) -> dict[str, str]:
    """The contracts by name, with "KEPT" or "BROKEN"."""
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    done = subprocess.run(
        command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, timeout=120
    )
    return dict(re.findall(r"^(.+?) (KEPT|BROKEN)(?: \(.*\))?$", done.stdout, re.MULTILINE))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("house")
    shutil.copy(ROOT / "pyproject.toml", root)
    for package in ("tracer", "tui"):
        shutil.copytree(
            ROOT / package, root / package, ignore=shutil.ignore_patterns("*.pyc", "*.safetensors", "*.svg")
        )
    return root


def test_all_contracts_are_kept(copy: Path) -> None:
    written = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    assert verdicts(copy) == {contract["name"]: "KEPT" for contract in written}
    assert {contract["name"] for contract in written} == {name for name, _file, _line in BROKEN}


@pytest.mark.parametrize(("contract", "file", "line"), BROKEN)
def test_a_broken_contract_is_seen(copy: Path, contract: str, file: str, line: str) -> None:
    path = copy / file
    before = path.read_text(encoding="utf-8") if path.exists() else None
    try:
        path.write_text(f"{before or ''}\n{line}\n", encoding="utf-8")
        assert verdicts(copy)[contract] == "BROKEN"
    finally:
        path.unlink()
        if before is not None:
            path.write_text(before, encoding="utf-8")


def test_no_folder_is_crowded_and_each_says_what_it_is_for() -> None:
    for package in ("tracer", "tui"):
        for folder in (ROOT / package, *(p for p in (ROOT / package).rglob("*") if (p / "__init__.py").exists())):
            modules = [p for p in folder.glob("*.py") if p.name != "__init__.py"]
            assert len(modules) <= 20, folder
            assert (folder / "__init__.py").read_text(encoding="utf-8").startswith('"""'), folder
