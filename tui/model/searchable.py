"""The texts of a trace that a query is held against: paths and types at once, source lines when they have been read."""

from __future__ import annotations

from collections.abc import Callable

from tracer.tracefile.trace import Trace
from tui.model.figures import Figures
from tui.model.search import Index

_CHUNK = 5_000


class Searchable:
    """An index of names, made when it is first asked for, and the one of names and source lines when that is ready."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._index: Index | None = None
        self.complete = False
        self.reading = False

    def __len__(self) -> int:
        return len(self._figures)

    @property
    def index(self) -> Index:
        """The index as far as texts are known."""
        if self._index is None:
            self._index = Index(self._figures.paths, self._figures.types)
        return self._index

    def completed(self, sources: list[str]) -> Index:
        """An index with the source lines, one a call; it can be made beside the one in use."""
        return Index(self._figures.paths, self._figures.types, sources)

    def replace(self, index: Index) -> None:
        """Search this complete index from now on."""
        self._index, self.complete = index, True


def read_sources(trace: Trace, cancelled: Callable[[], bool]) -> list[str] | None:
    """The source lines of all calls, "" where there is none; None if it was cancelled. TraceFileError as the trace."""
    sources: list[str] = []
    count = len(trace.nodes)
    while len(sources) < count:
        if cancelled():
            return None
        sources += trace.sources(len(sources), min(len(sources) + _CHUNK, count))
    return sources
