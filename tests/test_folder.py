"""The traces in a folder: each by its head, the unreadable ones with their reason."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import numpy as np
import pytest

from tests.synthetic import write_synthetic
from tests.tui.builders import EVIL, write
from tracer import cli
from tracer.analysis.folder import FolderEntry, folder_text, list_traces
from tracer.analysis.verdict import verdict
from tracer.errors import TraceFileError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_synthetic(tmp_path / "broken.dltrace", layers=1)
    write(tmp_path / "closes", [], delta=np.zeros(1), output=np.ones(1), output_reference=np.zeros(1))
    write(
        tmp_path / "odd.dltrace", [], model=EVIL, delta=np.array([1e-9, math.nan]), output=np.ones(2),
        output_reference=np.zeros(2),
    )  # fmt: skip
    write_synthetic(tmp_path / "failed.dltrace", layers=1, status="failed")
    write_synthetic(tmp_path / "recording.dltrace", layers=1, status="recording")
    (tmp_path / "text.dltrace").write_text("hello")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "folder.dltrace").mkdir()
    (tmp_path / "gone.dltrace").symlink_to(tmp_path / "nowhere")
    return tmp_path


def by_name(folder: Path) -> dict[str, FolderEntry]:
    return {entry.path.stem: entry for entry in list_traces(folder)}


def test_every_trace_is_listed_with_its_verdict(folder: Path) -> None:
    entries = by_name(folder)
    assert list(entries) == ["broken", "closes", "failed", "odd", "recording", "text"]
    levels = {name: entry.level for name, entry in entries.items()}
    assert levels == {
        "broken": "broken", "closes": "holds", "odd": "broken", "failed": "unfinished", "recording": "unfinished",
        "text": "unreadable",
    }  # fmt: skip
    assert "is not a trace" in entries["text"].problem and entries["text"].reason.startswith("is not a trace")
    assert entries["failed"].message == "it failed on purpose" and math.isnan(entries["failed"].delta)
    assert entries["recording"].status == "recording"
    assert math.isnan(entries["odd"].relative), "the worst of its two examples"


def test_the_figures_are_those_of_the_verdict(folder: Path) -> None:
    from tracer.tracefile.trace import open_trace

    write_synthetic(folder / "three.dltrace", layers=1, examples=3)
    entry = by_name(folder)["three"]
    with open_trace(entry.path) as trace:
        judged = verdict(trace)
        assert (entry.level, entry.relative) == (judged.level, judged.relative_delta)
        assert entry.delta in trace.run.delta and entry.examples == 3


def test_the_plain_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["view", str(folder)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == "" and [line.split()[0] for line in lines[1:7]] == [
        "BROKEN", "OK", "UNFINISHED", "BROKEN", "UNFINISHED", "UNREADABLE",
    ]  # fmt: skip
    assert "-770" in lines[1] and "captum, softmax explicit" in lines[1] and "synthetic" in lines[1]
    assert lines[7].startswith("text.dltrace is not a trace: give") and len(lines) == 8
    assert "\x1b" not in out and "\u202e" not in out
    assert all(len(line) <= 60 for line in folder_text(folder, list_traces(folder), 60).splitlines()[:7])


def test_an_empty_folder_and_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["view", str(tmp_path)]) == 0
    assert "holds no traces" in capsys.readouterr().out
    assert cli.main(["view", str(tmp_path), str(tmp_path)]) == 2
    assert "give two files, or one folder" in capsys.readouterr().err
    with pytest.raises(TraceFileError, match="cannot read the folder"):
        list_traces(tmp_path / "none")


def test_two_hundred_traces_take_a_moment(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "0.dltrace", layers=1)
    data = (tmp_path / "0.dltrace").read_bytes()
    for index in range(1, 200):
        (tmp_path / f"{index}.dltrace").write_bytes(data)
    began = time.process_time()
    assert len(list_traces(tmp_path)) == 200
    assert time.process_time() - began < 1
    assert not any(name.endswith(("-wal", "-shm")) for name in os.listdir(tmp_path))
