"""The fuzzer's reader: for each path on stdin one line of JSON on stdout, under a limit on memory."""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import tracer
from tests.fuzzing.reading import FORMS, Unsound, read_everything
from tests.process_memory import limit_memory

_ROOT = str(Path(tracer.__file__).parent)
_WATCHED = 3  # of so many files the lines of one are watched: that triples its time
_LONGEST, _SPEED = 1.0, 2e7
"""Seconds of processor time that reading one part of a file may take, and bytes a second where the file is large."""


class Lines:
    """The lines of `tracer` that were reached, as "file:line"."""

    def __init__(self) -> None:
        self._unreached: dict[CodeType, set[int]] = {}
        self._news: list[str] = []

    def __call__(self, frame: FrameType, event: str, _argument: object) -> Any:
        """A trace function for `sys.settrace`; it leaves alone what has no line left to reach."""
        code = frame.f_code
        if event == "call":
            if not code.co_filename.startswith(_ROOT):
                return None
            if code not in self._unreached:
                self._unreached[code] = {line for _, _, line in code.co_lines() if line is not None}
            return self if self._unreached[code] else None
        unreached = self._unreached[code]
        if frame.f_lineno in unreached:
            unreached.discard(frame.f_lineno)
            self._news.append(f"{Path(code.co_filename).name}:{frame.f_lineno}")
        return self

    def news(self) -> list[str]:
        """The lines reached since it was asked last and never before."""
        news, self._news = self._news, []
        return news


def judge(path: Path, forms: Sequence[str]) -> dict[str, Any]:
    """`outcome` and `detail` of one file; of one that was read `figures` too, and the `seconds` of its longest part."""
    warned: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: warned.append(f"{message} {_last_line(traceback.extract_stack())}")
        try:
            reading = read_everything(path, forms)
        except MemoryError:
            return {"outcome": "memory", "detail": _last_line()}
        except Unsound as error:
            return {"outcome": "unsound", "detail": str(error)}
        except Exception as error:
            return {"outcome": "crash", "detail": f"{type(error).__name__}: {error} {_last_line()}"[:500]}
    if warned:
        return {"outcome": "warning", "detail": warned[0]}
    if "opening" in reading.refused:
        return {"outcome": "refused on opening", "detail": reading.refused["opening"], "seconds": reading.longest}
    return {
        "outcome": "read",
        "detail": str(reading.refused)[:500],
        "figures": reading.figures,
        "seconds": reading.longest,
        "refused": list(reading.refused),
    }


def main() -> None:
    """Answer until stdin ends."""
    limit_memory(int(sys.argv[1]) * 1_000_000)
    lines = Lines()
    for number, line in enumerate(sys.stdin):
        path = Path(line.rstrip("\n"))
        forms = [list(FORMS)[number % len(FORMS)]]
        sys.settrace(None if number % _WATCHED else lines)
        try:
            answer = judge(path, forms)
        finally:
            sys.settrace(None)
        longest = _LONGEST + path.stat().st_size / _SPEED
        if answer.get("seconds", 0) > longest:  # watching the lines takes time of its own
            answer = judge(path, forms)
        if answer.get("seconds", 0) > longest:
            detail = f"{answer['seconds']:.1f} s; {answer['outcome']}: {answer['detail']}"
            answer |= {"outcome": "slow", "detail": detail}
        print(json.dumps({"figures": {}, "refused": [], "seconds": 0.0, **answer, "lines": lines.news()}), flush=True)


def _last_line(stack: traceback.StackSummary | None = None) -> str:
    """Where in `tracer` the exception at hand, or that stack, comes from."""
    places = traceback.extract_tb(sys.exc_info()[2]) if stack is None else stack
    frames = [frame for frame in places if frame.filename.startswith(_ROOT)]
    return f"at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


if __name__ == "__main__":
    main()
