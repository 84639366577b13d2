"""The texts of a trace that a query is held against: paths and types at once, source lines when they have been read."""

from __future__ import annotations

from collections.abc import Callable

from tracer.trace import Trace
from tui.figures import Figures
from tui.search import Index

_CHUNK = 1_000


class Searchable:
    """An index that is made when it is first asked for, and made again with the source lines."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._index: Index | None = None
        self.complete = False

    @property
    def index(self) -> Index:
        """The index as far as texts are known."""
        if self._index is None:
            self._index = Index(self._figures.paths, self._figures.types)
        return self._index

    def add_sources(self, sources: list[str]) -> None:
        """Search these source lines, too: one a call."""
        self._index = Index(self._figures.paths, self._figures.types, sources)
        self.complete = True


def read_sources(trace: Trace, cancelled: Callable[[], bool]) -> list[str] | None:
    """The source lines of all calls, "" where there is none; None if it was cancelled. TraceFileError as the trace."""
    sources: list[str] = []
    count = len(trace.nodes)
    while len(sources) < count:
        if cancelled():
            return None
        sources += [node.source or "" for node in trace.nodes[len(sources) : len(sources) + _CHUNK]]
    return sources
