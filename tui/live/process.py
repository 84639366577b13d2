"""A recording that runs in a process of its own while the view shows its trace."""

from __future__ import annotations

import codecs
import re
import signal
import subprocess
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import IO

from tracer.text import clean
from tui.live.watch import Stamp, stamp_of

_PREFIX = "deeplift-tracer: "
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_MOST_LINES = 500
_PATIENCE_S = 10.0
"""A process may take so long to stop: it may be in the middle of a long computation."""


class RecordingProcess:
    """Runs `command`, which records into the file `path`, and keeps its standard error as lines.

    `stale` is the stamp of the file that was at `path` before.
    """

    def __init__(self, command: Sequence[str], path: Path) -> None:
        self.path = path
        self.stale: Stamp | None = stamp_of(path)
        self.lines: deque[str] = deque(maxlen=_MOST_LINES)
        self.said = 0
        """How many lines came so far; `lines` keeps the latest."""
        self.output = ""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # the view handles Ctrl-C and stops this process
        )
        self._readers = [Thread(target=self._read_lines, daemon=True), Thread(target=self._read_output, daemon=True)]
        for reader in self._readers:
            reader.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    @property
    def failure(self) -> str:
        """Why it failed, in one line; "" if it did not, or still runs."""
        code = self.code
        if not code:
            return ""
        self._settle()
        last = self.lines[-1] if self.lines else ""
        if last.startswith(_PREFIX):
            return last.removeprefix(_PREFIX)
        if code < 0:
            with suppress(ValueError):
                return f"the recording was ended by {signal.Signals(-code).name}: look at the memory that is free"
        return f"the recording ended with exit code {code}{f' ({last})' if last else ''}"

    def stop(self) -> None:
        """Stop it as Ctrl-C does, so that the trace says "interrupted"; kill it if that does not help."""
        for way in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if not self.running:
                break
            with suppress(ProcessLookupError):
                self._process.send_signal(way)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE_S)
        self._settle()

    def wait(self) -> int:
        """Its exit code, once it has ended and everything it said is read."""
        code = self._process.wait()
        self._settle()
        return code

    def _settle(self) -> None:
        for reader in self._readers:
            reader.join(timeout=2.0)  # a grandchild may hold the pipe open

    def _read_output(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        self.output = stream.read().decode(errors="replace")

    def _read_lines(self) -> None:
        stream: IO[bytes] | None = self._process.stderr
        assert stream is not None
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        rest = ""
        while data := stream.read1():  # type: ignore[attr-defined]
            *whole, rest = re.split(r"[\r\n]", rest + decode(data))
            self._take(whole)
        self._take([rest])

    def _take(self, lines: Sequence[str]) -> None:
        for line in lines:
            if text := clean(_CONTROL.sub("", line).strip()):
                self.lines.append(text)
                self.said += 1
