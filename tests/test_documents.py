"""README.md and CONTRIBUTING.md stay short, and what the pages name exists: files, sections, commands, options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tracer.cli import parser

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "tests" / "benchmarks" / "RESULTS.md",
    *sorted(page for package in ("tracer", "tui") for page in (ROOT / package).rglob("*.md")),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LONGEST = {"README.md": 150, "CONTRIBUTING.md": 60}
NEW = {"tui/lines/notes.py", "tui/screens/notes.py", "tracer/commands/delta.py", "tests/test_delta.py"}
"""The files that the examples of CONTRIBUTING.md make."""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def broken_links(page: Path, text: str) -> list[str]:
    """The relative links of a page, whose text may be another, that lead to no file or to no heading of it."""
    broken = []
    for link in LINK.findall(text):
        name, _, heading = link.partition("#")
        if ":" in name:
            continue
        file = page.parent / name
        target = text if not name else text_of(file) if file.suffix == ".md" and file.exists() else ""
        if not file.exists() or (heading and heading not in headings(target)):
            broken.append(link)
    return broken


def headings(text: str) -> set[str]:
    """The headings of a page as links name them."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(text: str) -> list[str]:
    """The lines of `deeplift-tracer` in a page's shell examples."""
    blocks = [body for language, body in FENCE.findall(text) if language == "sh"]
    return [line for body in blocks for line in body.splitlines() if line.startswith("deeplift-tracer ")]


def test_what_is_broken_is_found() -> None:
    text = "[a](LICENSE) [b](nowhere.md) [c](#here) [d](#there) [e](https://example.org/x)\n# Here\n"
    assert broken_links(ROOT / "README.md", text) == ["nowhere.md", "#there"]
    assert commands("```sh\ndeeplift-tracer view x\nls\n```\n```python\ndeeplift-tracer no\n```\n") == [
        "deeplift-tracer view x"
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken_links(page, text_of(page)) == []


@pytest.mark.parametrize("name", LONGEST)
def test_a_page_stays_short(name: str) -> None:
    lines = text_of(ROOT / name).splitlines()
    assert len(lines) <= LONGEST[name]
    assert max(map(len, lines)) <= 140


def test_what_people_do_takes_twelve_lines_each() -> None:
    sections = text_of(ROOT / "README.md").split("\n### ")[1:]
    bodies = [section.split("\n## ")[0].splitlines()[1:] for section in sections]
    assert len(bodies) == 6
    assert max(sum(bool(line) for line in body) for body in bodies) <= 12


@pytest.mark.parametrize("line", sorted({line for page in PAGES for line in commands(text_of(page))}))
def test_every_command_is_understood(line: str) -> None:
    arguments = shlex.split(line, comments=True)[1:]
    assert parser(arguments).parse_args(arguments).command == arguments[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_example_is_python(page: Path) -> None:
    for language, body in FENCE.findall(text_of(page)):
        if language == "python":
            compile(body, str(page), "exec")


def test_the_two_set_up_commands_stand_where_the_checks_look_for_them() -> None:
    section = text_of(ROOT / "README.md").split("\n## Set up\n")[1].split("\n## ")[0]
    demo, tests = (line for line in section.splitlines() if line.startswith("python3 -m venv"))
    assert demo.endswith("deeplift-tracer demo") and tests.endswith("pytest")


def test_every_path_of_the_recipes_exists_or_is_new() -> None:
    text = LINK.sub("", text_of(ROOT / "CONTRIBUTING.md"))
    paths = {
        path.rstrip(".")
        for path in re.findall(r"[\w.]+(?:/[\w.]*)+", text)
        if path.split("/")[0] in {"tests", "tracer", "tui", ".ci"}
    }
    assert paths >= NEW and ".ci/check" in paths
    assert [path for path in sorted(paths - NEW) if not (ROOT / path).exists()] == []
    assert [path for path in sorted(NEW) if (ROOT / path).exists() or not (ROOT / path).parent.is_dir()] == []


@pytest.mark.parametrize("package", ["tracer", "tui"])
def test_the_map_names_every_folder(package: str) -> None:
    order = text_of(ROOT / "CONTRIBUTING.md").split(f"    {package}:")[1].split("\n\n")[0].split("\n    tui:")[0]
    folders = {file.parent.name for file in (ROOT / package).glob("*/__init__.py")} - {"pictures"}
    assert folders <= set(re.findall(r"\w+", order))
