"""A trace whose every text is made to take effect: none does, whatever command shows it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.hostile_texts import ACTIVE, obeyed, write_hostile
from tests.synthetic import write_synthetic
from tests.test_reservation import call
from tracer.commands.terminal import progress
from tracer.tracefile.trace import open_trace
from tracer.tracefile.writer import TraceWriter


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("traces")
    for status in ("complete", "failed"):
        write_synthetic(folder / f"{status}.dltrace", layers=2, tensors=True, status=status)  # type: ignore[arg-type]
    with write_synthetic(folder / "recording", layers=1, status="recording") as writer:
        assert writer.path is not None
        log = Path(f"{writer.path}-wal").read_bytes()
        (folder / "recording.dltrace").write_bytes(writer.path.read_bytes())
        (folder / "recording.dltrace-wal").write_bytes(log)
    return {path.stem: path for path in folder.glob("*.dltrace")}


def hostile(sources: dict[str, Path], folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.dltrace"
    if name == "recording":  # what is under way has no other texts than its run
        with TraceWriter(path) as writer, open_trace(sources["complete"]) as trace:
            writer.begin(replace(trace.run, model=text, text=text, target=text, method=text, variant=text))
            writer.note_progress(text, [replace(node, path=f"{text}{node.id}", type=text) for node in trace.nodes])
            writer.finish(replace(trace.run, status="recording", message=text))
        return path
    return write_hostile(sources[name], path, text)


class Tags(HTMLParser):
    """Collects elements, and attributes that load or run something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {tag} | {name for name, _ in attrs if name.startswith("on") or name in ("src", "href", "srcdoc")}


@pytest.mark.parametrize("text", ACTIVE.values(), ids=ACTIVE)
@pytest.mark.parametrize("status", ["complete", "failed", "recording"])
def test_no_command_lets_a_text_take_effect(
    sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, status: str
) -> None:
    path = hostile(sources, tmp_path, status, text)
    for command in (
        ("report", path), ("report", path, "--json"), ("report", path, "--example", 0), ("view", path),
        ("view", tmp_path), ("diff", path, sources["complete"]), ("diff", path, path), ("diff", path, path, "--json"),
        ("check", path, "--max-relative-delta", 1), ("check", path, "--max-relative-delta", 1, "--example", 0),
        ("repair", path), ("trace", "none", "--text", "x", "-o", path), ("report", path, "--markdown"),
        ("report", path, "--html"), ("export", path, "--to", "csv"), ("export", path, "--to", "json"),
        ("report", path, "-o", tmp_path / "complete.csv", "--force"),
    ):  # fmt: skip
        code = call(*command)
        out, err = capsys.readouterr()
        also = "\n\u200b" if "--markdown" in command else "\n"  # which the Markdown puts in to break links
        assert obeyed(out, also) == obeyed(err) == [], command
        assert code in (0, 1, 2) and "Traceback" not in err, command
        assert code != 2 or err.splitlines()[-1].startswith("deeplift-tracer: "), command
        if "--html" in command:
            tags = Tags()
            tags.feed(out)
            assert not tags.found & {"script", "img", "a", "iframe", "link", "object", "form", "src", "href", "onerror"}
        if "--markdown" in command:
            page = MarkdownIt("commonmark").enable("table").render(out)
            tags = Tags()
            tags.feed(page)
            assert not tags.found & {"script", "img", "a", "src", "href", "onerror"}, page
            for table in re.findall(r"<table>.*?</table>", page, re.DOTALL):
                cells = [row.count("<td>") or row.count("<th>") for row in re.split("<tr>", table)[1:]]
                assert len(set(cells)) == 1, table
        if "--json" in command and code == 0:
            json.loads(out)


@pytest.mark.parametrize("text", ACTIVE.values(), ids=ACTIVE)
def test_exports_hold_the_text_and_let_it_do_nothing(
    sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    path = hostile(sources, tmp_path, "complete", text)
    for form in ("csv", "json", "html"):
        assert call("export", path, "--to", form) == 0
    capsys.readouterr()
    rows = list(csv.reader(io.StringIO((tmp_path / "complete.csv").read_text())))
    assert len({len(row) for row in rows}) == 1
    assert not [cell for row in rows for cell in row if cell[:1] in "=+-@\t\r" and cell and not _is_number(cell)]
    json.loads((tmp_path / "complete.json").read_text())
    tags = Tags()
    tags.feed((tmp_path / "complete.html").read_text())
    assert not tags.found & {"script", "img", "a", "iframe", "src", "href", "onerror"}
    with open_trace(path) as trace:
        assert trace.nodes[1].type == text  # the file itself says what it says


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("name", [text for text in ACTIVE.values() if "\0" not in text and "/" not in text])
def test_a_file_name_takes_no_effect_in_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    other = f"x{name}"  # one that argparse does not take for an option
    write_synthetic(tmp_path / "run.dltrace", layers=1)
    Path(f"{other}.dltrace").write_bytes(b"SQLite format 3\0" + os.urandom(500))
    for command in (
        ("report", other), ("view", other), ("diff", other, "run.dltrace"), ("report", f"{other}.dltrace"),
        ("check", f"{other}.dltrace", "--max-relative-delta", "1"), ("export", f"{other}.dltrace", "--to", "csv"),
        ("repair", other, "--text", "x"), ("repair", f"{other}.dltrace"), ("trace", other, "--text", "x"),
        ("trace", "none", "--text", "x", "-o", f"{other}.dltrace"), ("report", "run.dltrace", "-o", f"{other}.dltrace"),
        ("demo", "--no-view", "-o", f"{other}.dltrace"), ("report", "run.dltrace", "--example", other),
        ("trace", "none", "--text", "x", "--rule", other), ("trace", f"{other}:net", "--inputs", other),
        ("trace", "tests.models:net", "--inputs", other), (other,), ("report", "run.dltrace", other),
    ):  # fmt: skip
        assert call(*command) == 2, command
        out, err = capsys.readouterr()
        assert obeyed(out) == obeyed(err) == [], command
        assert err.splitlines()[-1].startswith("deeplift-tracer") and "Traceback" not in err, command
    assert call("view", tmp_path) == 0
    assert obeyed(capsys.readouterr().out) == []


def test_progress_is_clean(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ACTIVE.values():
        with progress() as report:
            report(text, 0, 0)
    assert obeyed(capsys.readouterr().err) == []
