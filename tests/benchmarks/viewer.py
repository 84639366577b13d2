"""How quickly the terminal view answers, in a real pseudo-terminal: `python -m tests.benchmarks.viewer`.

The trace is synthetic, 101 101 calls. A key's latency is the time from writing it to the last byte of its first burst
of output; its bytes count everything until the screen is at rest, the detail that follows the cursor included.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import signal
import statistics
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.results import add_option, printed
from tests.synthetic import write_synthetic

BURST = 0.008
REST = 0.25
DOWN, PAGE_DOWN, HOME = b"\x1b[B", b"\x1b[6~", b"\x1b[H"
REDRAW = b"\x0c"


class Terminal:
    """The view in a pseudo-terminal of its own."""

    def __init__(self, trace: Path, columns: int, rows: int) -> None:
        self.began = time.perf_counter()
        self.process, self._master = pty.fork()
        if self.process == 0:
            environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
            environment.pop("NO_COLOR", None)
            state = tempfile.mkdtemp()
            environment |= {"XDG_STATE_HOME": state, "XDG_CONFIG_HOME": state}
            os.execvpe(sys.executable, [sys.executable, "-m", "tracer", "view", str(trace)], environment)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, quiet: float, longest: float = 20.0) -> tuple[bytes, float]:
        """All output until there was none for `quiet` seconds after some, and when the last of it came."""
        parts: list[bytes] = []
        last = time.perf_counter()
        end = last + longest
        while time.perf_counter() < end:
            ready, _, _ = select.select([self._master], [], [], quiet if parts else 0.5)
            if not ready:
                if parts or quiet >= REST:
                    break
                continue
            try:
                parts.append(os.read(self._master, 1 << 16))
            except OSError:
                break
            last = time.perf_counter()
        return b"".join(parts), last

    def press(self, key: bytes) -> tuple[float, int]:
        """Milliseconds until the key is answered, and the bytes sent until the screen is at rest."""
        began = time.perf_counter()
        os.write(self._master, key)
        burst, last = self.read(BURST)
        rest, _ = self.read(REST)
        return (last - began) * 1e3, len(burst) + len(rest)

    def wait_for(self, text: bytes, longest: float = 30.0) -> float:
        """Seconds since the start until `text` has been painted, and everything that came with it."""
        seen = b""
        while text not in seen and time.perf_counter() - self.began < longest:
            part, last = self.read(0.02)
            seen += part
        return last - self.began

    def work(self) -> float:
        """Seconds of processor time that the process has taken: what other work on the machine does not change."""
        fields = Path(f"/proc/{self.process}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """The most memory the process ever held, in MB."""
        status = Path(f"/proc/{self.process}/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def close(self) -> None:
        """End the process."""
        os.kill(self.process, signal.SIGTERM)
        os.close(self._master)
        os.waitpid(self.process, 0)


@contextmanager
def terminal(trace: Path, columns: int, rows: int) -> Iterator[Terminal]:
    """A view, started and at last ended."""
    view = Terminal(trace, columns, rows)
    try:
        yield view
    finally:
        view.close()


def measure(trace: Path, columns: int, rows: int, repeats: int) -> list[tuple[str, str, str]]:
    """What was measured, the figure, and what it should be."""
    starts, works = [], []
    for _ in range(3):
        with terminal(trace, columns, rows) as view:
            starts.append(view.wait_for(b"quit"))
            works.append(view.work())
    with terminal(trace, columns, rows) as view:
        view.wait_for(b"quit")
        view.read(1.0)

        def several(*keys: bytes) -> tuple[float, float]:
            """Median milliseconds and bytes of these keys, pressed in turn."""
            pressed = [view.press(keys[index % len(keys)]) for index in range(repeats)]
            return statistics.median(time for time, _ in pressed), statistics.median(size for _, size in pressed)

        view.press(HOME)
        moved = several(DOWN)
        view.press(HOME)
        toggled = several(b"\r")
        expanded, _ = view.press(b"e")
        view.press(HOME)
        in_view = several(DOWN)
        view.press(HOME)
        view.press(PAGE_DOWN)
        scrolled = several(DOWN)
        paged = several(PAGE_DOWN)
        opened, _ = view.press(b"/")
        typed = [view.press(letter.encode())[0] for letter in "softmax_9"]
        memory = view.memory()
        redrawn = view.press(b"\x1b\x1b")[1] and view.press(REDRAW)[1]
    return [
        ("start to painted", f"{statistics.median(starts):.2f} s", "< 1 s"),
        ("processor time of it", f"{statistics.median(works):.2f} s", ""),
        ("move in view", f"{max(moved[0], in_view[0]):.1f} ms", "< 20 ms"),
        ("move that scrolls", f"{scrolled[0]:.1f} ms", "< 40 ms"),
        ("a page", f"{paged[0]:.1f} ms", "< 40 ms"),
        ("toggle the model", f"{toggled[0]:.1f} ms", "< 50 ms"),
        ("expand all", f"{expanded:.1f} ms", "< 300 ms"),
        ("open the search", f"{opened:.1f} ms", "< 150 ms"),
        ("search, slowest letter", f"{max(typed):.1f} ms", "< 150 ms"),
        ("bytes of a move in view", f"{max(moved[1], in_view[1]):.0f}", "< 1000"),
        ("bytes of everything", f"{redrawn:.0f}", ""),
        ("bytes of a scroll", f"{scrolled[1]:.0f}", ""),
        ("memory", f"{memory:.0f} MB", "< 200 MB"),
    ]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="120x40")
    parser.add_argument("--layers", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=15)
    add_option(parser)
    options = parser.parse_args()
    columns, rows = map(int, options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder, printed(__file__, options.write) as line:
        trace = Path(folder) / "synthetic.dltrace"
        write_synthetic(trace, layers=options.layers, ops_per_layer=1000)
        line(f"{options.size} cells, medians of {options.repeats}\n")
        line("| | figure | budget |\n|---|---|---|")
        for name, figure, budget in measure(trace, columns, rows, options.repeats):
            line(f"| {name} | {figure} | {budget} |")


if __name__ == "__main__":
    main()
