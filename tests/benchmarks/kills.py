"""What `kill -9` leaves of a recording: `python -m tests.benchmarks.kills [--kills 200] [--seed 0]`.

Each recording runs in a forked process, commits after every call, and is killed after a random time. Counted are files
that do not open and calls that had been committed but are not shown. Exit code 1 where there is one of either.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

import tracer
from tests.test_journal import Chain
from tracer import journal
from tracer.errors import TraceFileError
from tracer.store import TraceWriter

LAYERS = 60


def record(path: Path, method: Any, report: int) -> None:
    """Record in this process; the number of calls in the file is written to `report` after every commit."""
    journal._SECONDS, journal._SHARE = 0.0, 0
    note = TraceWriter.note_progress

    def told(self: TraceWriter, message: str, nodes: Any) -> None:
        note(self, message, nodes)
        ((count,),) = self._connection.execute("SELECT count(*) FROM node").fetchall()
        os.write(report, f"{count}\n".encode())

    TraceWriter.note_progress = told  # type: ignore[method-assign]
    torch.manual_seed(0)
    tracer.record(Chain(LAYERS), torch.randn(2, 4), path=path, method=method)


def run(path: Path, method: str, delay: float | None) -> tuple[int, float]:
    """(calls committed, seconds) of one recording that is killed after `delay` seconds; None lets it end."""
    read, write = os.pipe()
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            record(path, method, write)
        finally:
            os._exit(0)
    os.close(write)
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    said = b""
    while chunk := os.read(read, 65_536):
        said += chunk
    os.close(read)
    os.waitpid(child, 0)
    complete = said.rpartition(b"\n")[0].split()
    return int(complete[-1]) if complete else 0, time.perf_counter() - started


def outcome(path: Path, committed: int) -> str:
    """What the file shows, in a word or two."""
    try:
        with tracer.open_trace(path) as trace:
            if len(trace.nodes) < committed:
                return "calls lost"
            return str(trace.run.status)
    except FileNotFoundError:
        return "no file yet"
    except TraceFileError as error:
        # Between making the file and writing the head there is no run in it, and nothing was committed.
        if not path.exists() or (committed == 0 and ("holds no run yet" in str(error) or "is empty" in str(error))):
            return "not begun"
        return f"unreadable: {error}"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(options.seed)
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        lengths = {method: run(Path(folder) / f"{method}.dltrace", method, None)[1] for method in ("captum", "exact")}
        for number in range(options.kills):
            path = Path(folder) / f"{number}.dltrace"
            method = rng.choice(sorted(lengths))
            committed, _ = run(path, method, rng.uniform(0, 1.05) * lengths[method])
            found[outcome(path, committed)] += 1
    print(f"{options.kills} recordings killed")
    for word, count in found.most_common():
        print(f"  {count:>5}  {word}")
    return int(any(word == "calls lost" or word.startswith("unreadable") for word in found))


if __name__ == "__main__":
    sys.exit(main())
