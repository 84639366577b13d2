"""Recordings that end before they are finished, each in a forked process, and what each leaves: `outcome` says it."""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import captum.attr
import safetensors.torch
import torch
from torch import nn

import tracer
import tracer.recording.record
import tracer.recording.subject
import tracer.subject.factory
from tests.fuzzing.reading import read_everything
from tests.process_memory import limit_memory
from tests.test_journal import Chain
from tracer import cli
from tracer.errors import TraceFileError
from tracer.recording import journal
from tracer.tracefile import writer

LAYERS = 12
WORDS = r"deeplift-tracer: .*"
Ending = Callable[[random.Random, "Bench"], tuple["Ended", Path]]


class Wide(Chain):
    """Layers in a row, and an output of two columns for a target to be chosen from."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)[:, :2]


def net() -> nn.Module:
    """The model; `deeplift-tracer trace tests.ends:net` loads it."""
    torch.manual_seed(0)
    return Wide(LAYERS)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a recording ended: `code` is negative for a signal, `said` standard error, `committed` (calls, tensors)."""

    code: int
    said: str
    committed: tuple[int, int]
    commits: int
    seconds: float


class Bench:
    """Inputs in a folder, and how long a recording takes that nobody ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inputs = folder / "inputs.safetensors"
        torch.manual_seed(1)
        self.x = torch.randn(2, 3_000, 4)
        safetensors.torch.save_file({"input": self.x}, self.inputs)
        self._number = 0
        whole = [self.forked(self.path(), method) for method in ("captum", "exact")]
        for ended in whole:
            assert ended.code == 0, ended.said
            # Fewer say that `_hasten` no longer knows what holds commits back.
            assert ended.commits > LAYERS, ended
        self.seconds = max(ended.seconds for ended in whole)
        self.bytes = max(path.stat().st_size for path in folder.glob("*.dltrace"))

    def path(self) -> Path:
        """A file of its own for the next recording."""
        self._number += 1
        return self.folder / f"{self._number}.dltrace"

    def command(self, path: Path, method: str) -> list[str]:
        """The arguments of the command line that records into `path`."""
        inputs = ["--inputs", str(self.inputs), "--target", "0", "--method", method]
        return ["trace", "tests.ends:net", *inputs, "-o", str(path), "--no-repair"]

    def forked(
        self,
        path: Path,
        method: str,
        prepare: Callable[[], object] = lambda: None,
        delay: float | None = None,
        sent: signal.Signals = signal.SIGKILL,
        work: Callable[[], int] = cli.main,
    ) -> Ended:
        """One recording by `work` in a forked process, after `prepare`; `sent` is sent to it after `delay` seconds."""
        told, telling = os.pipe()
        said, saying = os.pipe()
        started = time.perf_counter()
        child = os.fork()
        if child == 0:
            code = 99
            try:
                signal.signal(signal.SIGINT, signal.default_int_handler)  # it may have been started in the background
                os.dup2(saying, 2)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                sys.argv = ["deeplift-tracer", *self.command(path, method)]
                _hasten()
                _tell_commits(path, telling)
                prepare()
                code = work()
            except BaseException:
                sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            finally:
                os._exit(code)
        os.close(telling)
        os.close(saying)
        if delay is not None:
            time.sleep(delay)
            os.kill(child, sent)
        lines = _read(told).rpartition(b"\n")[0].split(b"\n")
        words = _read(said).decode(errors="replace")
        _, status = os.waitpid(child, 0)
        calls, tensors = lines[-1].split() if lines[-1] else (0, 0)
        return Ended(
            os.waitstatus_to_exitcode(status),
            words,
            (int(calls), int(tensors)),
            len(lines),
            time.perf_counter() - started,
        )


def kill(rng: random.Random, bench: Bench) -> tuple[Ended, Path]:
    """`kill -9` at any moment."""
    path = bench.path()
    return bench.forked(path, rng.choice(("captum", "exact")), delay=rng.uniform(0.2, 1.05) * bench.seconds), path


def interrupt(rng: random.Random, bench: Bench) -> tuple[Ended, Path]:
    """Ctrl-C at any moment of the command."""
    path, delay = bench.path(), rng.uniform(0.1, 1.05) * bench.seconds
    return bench.forked(path, rng.choice(("captum", "exact")), delay=delay, sent=signal.SIGINT), path


def process(rng: random.Random, bench: Bench) -> tuple[Ended, Path]:
    """Ctrl-C at any moment of a process of its own, the loading of torch included."""
    path = bench.path()
    command = [sys.executable, "-m", "tracer", *bench.command(path, rng.choice(("captum", "exact")))]
    started = time.perf_counter()
    running = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # the same
    )  # fmt: skip
    time.sleep(rng.uniform(0.1, 6.0))
    running.send_signal(signal.SIGINT)
    _, said = running.communicate()
    return Ended(running.returncode, said, (0, 0), 0, time.perf_counter() - started), path


def memory(rng: random.Random, bench: Bench) -> tuple[Ended, Path]:
    """No memory is left at some moment."""
    path, room = bench.path(), int(10 ** rng.uniform(5.7, 8))
    return bench.forked(path, rng.choice(("captum", "exact")), partial(limit_memory, room)), path


def disk(rng: random.Random, bench: Bench) -> tuple[Ended, Path]:
    """The disk is full at some moment."""
    path = bench.path()
    return bench.forked(path, rng.choice(("captum", "exact")), _full_disk(rng, bench)), path


def watch(rng: random.Random, bench: Bench) -> tuple[Ended, Path]:
    """The disk is full at some moment of an attribution of somebody's own, which must come out as it is."""
    path, model = bench.path(), net()
    free = captum.attr.DeepLift(model).attribute(bench.x, target=0)

    def watched() -> int:
        attributions, code = None, 0
        try:
            with tracer.watch(model, path):
                attributions = captum.attr.DeepLift(model).attribute(bench.x, target=0)
        except TraceFileError as error:
            print(f"deeplift-tracer: {error}", file=sys.stderr)
            code = 2
        # Where the file cannot even be made the block is not entered.
        as_ever = not path.exists() if attributions is None else torch.equal(free, attributions)
        return code if as_ever else 3

    return bench.forked(path, "captum", _full_disk(rng, bench), work=watched), path


def _full_disk(rng: random.Random, bench: Bench) -> Callable[[], None]:
    room = int(rng.choice((rng.uniform(0, 1.1) * bench.bytes, rng.uniform(0, 2_000_000))))

    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    return prepare


ENDINGS: dict[str, Ending] = {each.__name__: each for each in (kill, interrupt, process, memory, disk, watch)}  # type: ignore[dict-item]
_CODES = {
    "kill": (-9, 0),
    "interrupt": (130, 0),
    "process": (130, -2, 0),
    "memory": (2, 0),
    "disk": (2, 0),
    "watch": (2, 0),
}


def outcome(what: str, ended: Ended, path: Path) -> str:
    """What the file shows and what was said, in a word or two; it begins with "FAULT" where one of them is wrong."""
    for fault in _faults(what, ended, path):
        return f"FAULT: {fault}"
    words = {0: "done", -9: "killed"}.get(ended.code, f"exit {ended.code}")
    return f"{words}: {_shown(path)}"


def _faults(what: str, ended: Ended, path: Path) -> list[str]:
    found = []
    lines = [line for line in ended.said.splitlines() if line.startswith("deeplift-tracer: ")]
    if "Traceback" in ended.said or "ignored" in ended.said:
        found.append(f"a raw traceback: {ended.said[-1500:]}")
    if ended.code not in _CODES[what]:
        found.append(f"exit code {ended.code}, said {ended.said[-1500:]!r}")
    if ended.code in (2, 130) and len(lines) != 1:
        found.append(f"{len(lines)} lines of talk: {ended.said!r}")
    shown = _shown(path)
    if shown.startswith("unreadable"):
        found.append(shown)
    if shown in ("no file", "not begun", "empty"):
        if ended.committed[0]:
            found.append(f"{ended.committed[0]} calls lost")
        return found
    with tracer.open_trace(path) as trace:
        calls, ((tensors,),) = len(trace.nodes), trace.query("SELECT count(*) FROM tensor")
        if (calls, tensors) < ended.committed or tensors < ended.committed[1]:
            found.append(f"{ended.committed} committed, {(calls, tensors)} shown")
        if what == "memory" and trace.run.status == "recording":
            found.append("it says that it is being recorded")
        if calls and trace.run.status != "complete" and not trace.run.message:
            found.append("it does not say how far it got")
    refused = read_everything(path, ["text"]).refused
    if {"run", "nodes", "columns", "verdict", "text"} & refused.keys():
        found.append(f"refused: {refused}")
    beside = sorted(each.name for each in path.parent.glob(f"*{path.name}*") if each != path)
    # A full disk may keep SQLite from putting the log into the file: both together are the trace.
    if what not in ("disk", "watch") and ended.code in (0, 130) and beside:
        found.append(f"left beside it: {beside}")
    return found


def _shown(path: Path) -> str:
    if not path.exists():
        return "no file"
    if not path.stat().st_size:
        return "empty"  # killed between making the file and writing the layout
    try:
        with tracer.open_trace(path) as trace:
            message = re.sub(r"\d+", "N", trace.run.message)
            return f"{trace.run.status}, {message[:60]}" if message else trace.run.status
    except TraceFileError as error:
        return "not begun" if "holds no run yet" in str(error) else f"unreadable: {error}"


def _hasten() -> None:
    """Commit at every occasion."""
    for module in (journal, writer):
        for name in ("_SECONDS", "_SHARE", "_COMMIT_SECONDS"):
            if hasattr(module, name):
                setattr(module, name, 0.0)


def _tell_commits(path: Path, telling: int) -> None:
    """Write how many calls and tensors the file holds, after every commit."""

    class Telling(sqlite3.Connection):
        def __init__(self, database: Any, *arguments: Any, **options: Any) -> None:
            super().__init__(database, *arguments, **options)
            self.tells = str(database) == str(path)

        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            done = super().execute(sql, *values)
            if sql == "COMMIT" and self.tells:
                counts = "SELECT (SELECT count(*) FROM node), (SELECT count(*) FROM tensor)"
                ((calls, tensors),) = super().execute(counts).fetchall()
                os.write(telling, f"{calls} {tensors}\n".encode())
            return done

    plain = sqlite3.connect
    sqlite3.connect = lambda *arguments, **options: plain(*arguments, **({"factory": Telling} | options))  # type: ignore


def _read(file: int) -> bytes:
    content = b""
    while chunk := os.read(file, 65_536):
        content += chunk
    os.close(file)
    return content
