"""Exceptions raised at any point of a run at which Python looks for a Ctrl-C.

CPython looks where a function begins and where a call of a C function has ended (and at each turn of a loop).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import CO_GENERATOR
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import tracer

PACKAGE = str(Path(tracer.__file__).parent)
Points = Callable[[CodeType, str], bool]
"""Which points of a run count, by the code that runs and the event: its "call", or a "c_return" to it."""


def calls_of(*names: str) -> Points:
    """The starts of the package's functions of these names."""
    return lambda code, event: event == "call" and code.co_name in names and code.co_filename.startswith(PACKAGE)


def steps_in(*parts: str) -> Points:
    """All points in files in whose path one of these stands."""
    return lambda code, _event: any(part in code.co_filename for part in parts)


class Fault:
    """Counts the points of a run; at the one with the number `at` it raises `error`."""

    def __init__(self, points: Points, at: int | None = None, error: BaseException | None = None) -> None:
        self.count = 0
        self.place = ""
        self._points, self._at, self._error = points, at, error
        self._known: dict[tuple[CodeType, str], bool] = {}

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        """What `sys.setprofile` takes."""
        code = frame.f_code
        # A generator that goes on: Python would run its `finally`, a profiler's exception ends it without.
        if event not in ("call", "c_return") or (event == "call" and code.co_flags & CO_GENERATOR):
            return
        key = (code, event)
        if key not in self._known:
            self._known[key] = self._points(code, event)
        if self._known[key]:
            self.count += 1
            if self.count - 1 == self._at and self._error is not None:
                self.place = f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name} ({event})"
                raise self._error  # Python ends the profiling now


@contextmanager
def approaching(fault: Fault) -> Iterator[None]:
    """The fault is on its way while this lasts."""
    before = sys.getprofile()
    sys.setprofile(fault)
    try:
        yield
    finally:
        sys.setprofile(before)


def spread(count: int, most: int) -> list[int]:
    """`most` of the numbers below `count`, evenly spread; all where there are no more."""
    return sorted({round((i + 0.5) * count / most - 0.5) for i in range(most)}) if count > most else list(range(count))
