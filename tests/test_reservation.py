"""What becomes of a file that stands where a recording or another output is to go."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.synthetic import synthetic_run, write_synthetic
from tracer import cli, errors
from tracer.commands.demo import check_folder
from tracer.commands.output_file import description
from tracer.demo.run import RUNS
from tracer.subject.run import DEMO
from tracer.tracefile.amend import amend
from tracer.tracefile.reservation import being_recorded, claim
from tracer.tracefile.trace import open_trace
from tracer.tracefile.writer import TraceWriter

ROOT = Path(__file__).parents[1]
RUNNING = r"run\.dltrace is being recorded at this moment: wait for it, end it, or give another file"


def call(*arguments: object) -> int:
    try:
        return cli.main([str(argument) for argument in arguments])
    except SystemExit as leaving:
        return int(leaving.code or 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.dltrace"


@pytest.fixture
def elsewhere(path: Path) -> subprocess.Popen[str]:
    """Another process that records into `path`, and ends the recording when its input ends."""
    code = (
        f"import sys; from tests.synthetic import write_synthetic, synthetic_run\n"
        f"writer = write_synthetic({str(path)!r}, layers=1, tensors=True, status='recording')\n"
        "print('begun', flush=True); sys.stdin.read(); writer.commit(); writer.finish(synthetic_run())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize("force", [False, True])
def test_a_running_recording_is_not_replaced(path: Path, elsewhere: subprocess.Popen[str], force: bool) -> None:
    before = path.read_bytes()
    assert being_recorded(path)
    for _ in range(3):
        with pytest.raises(errors.TraceFileError, match=RUNNING):
            TraceWriter(path, force=force)
    with open_trace(path) as trace:  # whoever looks at it records nothing
        assert trace.run.status == "recording" and being_recorded(path)
    assert path.read_bytes() == before
    elsewhere.communicate()
    assert elsewhere.returncode == 0 and not being_recorded(path)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    with open_trace(path) as trace:
        assert trace.run.status == "complete" and len(trace.nodes) > 10
    write_synthetic(path, layers=1, force=True)


def test_one_that_was_killed_is_replaced(path: Path, elsewhere: subprocess.Popen[str]) -> None:
    elsewhere.kill()
    elsewhere.communicate()
    log = path.with_name("run.dltrace-wal")
    before = log.read_bytes()
    with open_trace(path) as looking:
        assert not being_recorded(path) and looking.run.status == "recording"
    assert not being_recorded(path) and log.read_bytes() == before  # to ask changes nothing
    with pytest.raises(errors.TraceFileError, match="already exists: give another file, or overwrite it with --force"):
        TraceWriter(path)
    write_synthetic(path, layers=1, force=True)
    assert open_trace(path).run.status == "complete"


def test_this_process_is_told_apart_from_none(path: Path) -> None:
    writer = TraceWriter(path)
    for step in (lambda: None, lambda: writer.begin(synthetic_run()), writer.commit):
        step()
        assert being_recorded(path)
        with pytest.raises(errors.TraceFileError, match=RUNNING):
            TraceWriter(path, force=True)
    link = path.with_name("link.dltrace")
    link.symlink_to(path)
    assert being_recorded(link)
    writer.finish(synthetic_run())
    assert not being_recorded(path)
    writer.trace()  # taken before the writer is closed
    amend(open_trace(path), findings=[])
    writer.close()
    assert not being_recorded(path)


def test_a_file_may_be_looked_at_while_its_recording_ends(tmp_path: Path, busy: None) -> None:
    begun: list[Path] = []
    seen = set()

    def record() -> None:
        for number in range(100):
            path = tmp_path / f"{number}.dltrace"
            writer = write_synthetic(path, layers=1, status="recording")
            begun.append(path)
            writer.commit()
            writer.finish(synthetic_run())
            writer.close()

    recording = threading.Thread(target=record)
    recording.start()
    while recording.is_alive():
        for path in begun[-1:]:
            seen.add(being_recorded(path))
            with open_trace(path) as trace:
                seen.add(trace.run.status)
    assert {True, False, "complete"} <= seen


@pytest.mark.parametrize("content", [b"", b"mine", b"SQLite format 3\0" + bytes(4096)])
def test_what_is_no_trace_is_not_being_recorded(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.with_name("run.dltrace-wal").write_bytes(content)
    assert not being_recorded(path)
    assert not being_recorded(path.with_name("none"))
    assert not being_recorded(path.parent)


def test_a_database_of_others_is_not_touched(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (x); BEGIN IMMEDIATE")
        assert not being_recorded(path)


def test_a_full_disk_leaves_the_old_file(path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from tracer import errors; from tracer.tracefile.reservation import claim\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "for name, force in (('run.dltrace', True), ('new.dltrace', False)):\n"
        "    try: claim(Path(sys.argv[1]) / name, force, bytes(10_000))\n"
        "    except errors.TraceFileError as error: print(error)\n"
    )
    path.write_text("mine")
    done = subprocess.run(
        [sys.executable, "-c", code, str(path.parent)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        f"cannot write {path.with_name(name)} (No space left on device)" for name in ("run.dltrace", "new.dltrace")
    ]
    assert path.read_text() == "mine" and list(path.parent.iterdir()) == [path]


def test_the_old_file_is_given_back(path: Path) -> None:
    path.write_text("mine")
    old = claim(path, True, b"new")
    assert old is not None and old.read_text() == "mine" and path.read_bytes() == b"new"
    assert old == path.with_name(".run.dltrace.old")


@pytest.mark.parametrize("size", [0, None])
def test_a_kill_before_the_run_begins_does_not_lose_the_old_trace(path: Path, size: int | None) -> None:
    write_synthetic(path, layers=1)
    before = path.read_bytes()
    for _ in range(2):  # killed twice
        code = (
            "import os, signal; from tracer.tracefile.writer import TraceWriter;"
            f"TraceWriter({str(path)!r}, force=True);"
            f"size = {size}; size is None or os.truncate({str(path)!r}, size); os.kill(os.getpid(), signal.SIGKILL)"
        )
        assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == -9
        old = path.with_name(".run.dltrace.old")
        assert old.read_bytes() == before
    with pytest.raises(
        errors.TraceFileError, match=f"; the trace that it was to replace is {old}" if size is None else "is empty"
    ):
        open_trace(path)
    TraceWriter(path, force=True).close()  # nothing was begun
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_what_a_killed_run_replaced_goes_with_the_next(path: Path) -> None:
    write_synthetic(path, layers=1)
    code = (
        "import os, signal; from tests.synthetic import write_synthetic;"
        f"writer = write_synthetic({str(path)!r}, force=True, status='recording');"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == -9
    with open_trace(path) as trace:
        assert trace.run.status == "recording" and path.with_name(".run.dltrace.old").exists()
    write_synthetic(path, layers=2, force=True)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("force", [False, True])
def test_a_device_or_a_pipe_stays_where_it_is(path: Path, capsys: pytest.CaptureFixture[str], force: bool) -> None:
    write_synthetic(path, layers=1)
    pipe = path.with_name("pipe")
    os.mkfifo(pipe)
    for command in (("report", path), ("export", path, "--to", "csv"), ("trace", "none", "--text", "t")):
        assert call(*command, "-o", pipe, *["--force"] * force) == 2
        assert capsys.readouterr().err == f"deeplift-tracer: {pipe} is a device or a pipe: give a file\n"
    with pytest.raises(errors.TraceFileError, match="is a device or a pipe" if force else "already exists"):
        TraceWriter(pipe, force=force)
    assert pipe.is_fifo() and sorted(path.parent.iterdir()) == [pipe, path]


# What the commands say.


def test_what_is_lost_is_said(path: Path) -> None:
    write_synthetic(path, layers=1)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE run SET model = 'net' || char(27) || '[2J', variant = ''")
        connection.commit()
    with open_trace(path) as trace:
        assert description(path) == f"net␛[2J, captum, recorded {trace.run.started}, complete"
    path.write_bytes(path.read_bytes()[:5000])
    assert description(path) == "a trace that does not open, 5 000 bytes"
    path.write_text("mine")
    assert description(path) == "4 bytes"


@pytest.mark.parametrize("command", [("report", "--html"), ("export", "--to", "json")])
def test_force_says_what_it_replaces(path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    write_synthetic(path, layers=1)
    out = path.with_name("out")
    arguments = (command[0], path, *command[1:], "-o", out)
    assert call(*arguments, "--force") == 0
    assert "replacing" not in capsys.readouterr().err
    assert call(*arguments) == 2
    assert f"{out} already exists: give another file with -o" in capsys.readouterr().err
    size = f"{out.stat().st_size:,}".replace(",", " ")
    assert call(*arguments, "--force") == 0
    assert capsys.readouterr().err.splitlines()[0] == f"replacing {out}: {size} bytes"
    before = path.read_bytes()
    assert call(*arguments[:-1], path, "--force") == 2
    assert "is the trace itself: give another file with -o" in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "command", [("trace", "none", "--text", "t"), ("repair", "none", "--text", "t"), ("export", "other", "--to", "csv")]
)
@pytest.mark.parametrize("force", [False, True])
def test_commands_refuse_a_running_recording(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    force: bool,
) -> None:
    monkeypatch.chdir(path.parent)
    write_synthetic(path.with_name("other"), layers=1)
    with TraceWriter(path) as writer:
        writer.begin(synthetic_run())
        assert call(*command, "-o", "run.dltrace", *["--force"] * force) == 2
        err = capsys.readouterr().err
        assert (
            "deeplift-tracer: run.dltrace is being recorded at this moment: wait for it, " in err
            and err.count("\n") == 1
        )


def test_the_demo_replaces_nothing_but_a_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"{RUNS[1][0]}.dltrace"
    assert check_folder(tmp_path) == check_folder(tmp_path / "none") == []
    write_synthetic(path, layers=1)
    for content in (path.read_bytes(), b"mine"):
        path.write_bytes(content)
        assert call("demo", "--no-view", "-o", tmp_path) == 2
        assert f"{path} is not a trace of the demo: move it away, or give another folder" in capsys.readouterr().err
        assert path.read_bytes() == content
    write_synthetic(path, layers=1, force=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE run SET command = ?", (json.dumps({"model": DEMO}),))
        connection.commit()
    assert check_folder(tmp_path) == [path]
    content = path.read_bytes()
    path.write_bytes(content[:5000])
    assert check_folder(tmp_path) == [path]  # damaged
    path.unlink()
    with TraceWriter(path) as writer:
        assert writer.path == path
        with pytest.raises(errors.TraceFileError, match="is being recorded at this moment"):
            check_folder(tmp_path)


def test_of_two_recordings_that_begin_together_one_is_refused(tmp_path: Path) -> None:
    """Each in a process of its own: neither takes the other's file away, or writes into it."""
    code = (
        "import sys, time; from tracer.errors import TraceFileError; from tracer.tracefile.writer import TraceWriter;"
        "from tests.synthetic import synthetic_run\n"
        "for k in range(10):\n"
        "    while time.time() < float(sys.argv[1]) + k * 0.1: pass\n"
        "    try:\n"
        "        with TraceWriter(f'{k}.dltrace', force=True) as writer:\n"
        "            writer.begin(synthetic_run()); time.sleep(0.05); writer.finish(synthetic_run()); print('ok')\n"
        "    except TraceFileError as error: print('refused' if 'being recorded' in str(error) else error)\n"
    )
    for k in range(10):
        write_synthetic(tmp_path / f"{k}.dltrace").close()
    start = str(time.time() + 4)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-c", code, start]
    both = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)
    ]
    first, second = (process.communicate()[0].splitlines() for process in both)
    assert len(first) == len(second) == 10
    for pair in zip(first, second, strict=True):
        assert sorted(pair) in (["ok", "refused"], ["ok", "ok"])  # the latter where one was late
    assert ("ok", "refused") in zip(first, second, strict=True) or ("refused", "ok") in zip(first, second, strict=True)
