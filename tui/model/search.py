"""The search of calls by path, type and source line: which calls a query finds, best first.

Every word of the query has to be in the path, the type or the source line, whatever the case. Where no call has all
words as they are written, their letters may have others between them: "sfmx" finds softmax.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tracer.tracefile.trace import Trace
from tui.model.figures import Figures, Ints

_JOINT = "\n"
_LONGEST = 1 << 40
_RANKED = 20_000  # more hits than a user reads in order; ranking them takes long
_CHUNK = 5_000


@dataclass(frozen=True, slots=True)
class Found:
    """The ids that were found, the best first. `loosely`: with other letters between those of the query."""

    ranked: Ints
    loosely: bool = False

    def __len__(self) -> int:
        return len(self.ranked)

    def place_of(self, node: int) -> int | None:
        """The place of a call among the hits, from 0; None where it is not a hit."""
        places = np.flatnonzero(self.ranked == node)
        return int(places[0]) if len(places) else None

    def below(self, count: int) -> Found:
        """The hits among the first `count` calls."""
        return self if not len(self) or self.ranked.max() < count else Found(self.ranked[self.ranked < count])


NOTHING = Found(np.zeros(0, dtype=np.int64))


class Index:
    """Made from columns of texts, one text a call in each: paths, types and, once they are read, source lines."""

    def __init__(self, paths: Sequence[str], types: Sequence[str], sources: Sequence[str] | None = None) -> None:
        self._columns = [paths, types] if sources is None else [paths, types, sources]
        self._texts = [_JOINT.join(parts).casefold() for parts in zip(*self._columns, strict=True)]
        self._letters: _Letters | None = None
        self._words: list[str] = []
        self._among: list[int] = []

    def find(self, query: str) -> Found:
        """What `query` finds; nothing for an empty one. A longer query looks only where the shorter one found."""
        words = query.casefold().split()
        if not words:
            self._words, self._among = [], []
            return NOTHING
        narrower = bool(self._words) and all(any(old in word for word in words) for old in self._words)
        among: Sequence[int] = self._among if narrower else range(len(self._texts))
        for word in words:
            among = [index for index in among if word in self._texts[index]]
        self._words, self._among = words, list(among)
        if len(self._among) > _RANKED:
            return Found(np.array(self._among))
        if self._among:
            scores = np.zeros(len(self._among), dtype=np.int64)
            for word in words:
                scores += np.fromiter((_score(self._texts[index], word) for index in self._among), np.int64)
            return Found(np.array(self._among)[np.argsort(scores, kind="stable")])
        return self._find_loosely(words)

    def _find_loosely(self, words: Sequence[str]) -> Found:
        if not all(word.isascii() for word in words):
            return NOTHING
        if self._letters is None:
            self._letters = _Letters(self._columns)
        among, total = np.arange(len(self._texts)), np.zeros(len(self._texts), dtype=np.int64)
        for word in words:
            spans = self._letters.spans(word, among)
            inside = spans <= _LONGEST
            among, total = among[inside], total[inside] + spans[inside]
        return Found(among[np.argsort(total, kind="stable")], loosely=True)


class Searchable:
    """The index of a trace: of paths and types when it is first asked for, of source lines too once they are read."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._index: Index | None = None
        self.complete = False
        self.reading = False

    def __len__(self) -> int:
        return len(self._figures)

    @property
    def index(self) -> Index:
        """The index of the texts that are read so far."""
        if self._index is None:
            self._index = Index(self._figures.paths, self._figures.types)
        return self._index

    def completed(self, sources: list[str]) -> Index:
        """An index with the source lines, one a call; a thread may build it while the present one is searched."""
        return Index(self._figures.paths, self._figures.types, sources)

    def replace(self, index: Index) -> None:
        """Search this complete index from now on."""
        self._index, self.complete = index, True


def read_sources(trace: Trace, cancelled: Callable[[], bool]) -> list[str] | None:
    """The source lines of all calls, "" for a call without; None if cancelled. TraceFileError for a damaged file."""
    sources: list[str] = []
    count = len(trace.nodes)
    while len(sources) < count:
        if cancelled():
            return None
        sources += trace.sources(len(sources), min(len(sources) + _CHUNK, count))
    return sources


def _score(text: str, word: str) -> int:
    """How well a word fits a text that has it, 0 best: the call's name, its type, then parts of path and source."""
    path, _, rest = text.partition(_JOINT)
    at = path.rfind(word)
    if at < 0:
        return 3 if rest.startswith(word) else 5
    end = at + len(word)
    begins = at == 0 or not path[at - 1].isalnum()
    if end == len(path):
        return 0 if begins else 2
    last = path.find(".", end) < 0 and path.find("/", end) < 0
    return (1 if begins else 2) if last else (3 if begins and not path[end].isalnum() else 4)


class _Letters:
    """All texts as one row of letters, to find words with other letters between theirs in all texts at once."""

    def __init__(self, columns: Sequence[Sequence[str]]) -> None:
        texts = [text.casefold() for column in columns for text in column]
        self._row = np.frombuffer("\n".join(texts).encode("ascii", "replace"), dtype=np.uint8)
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        self._ends = np.cumsum(lengths + 1) - 1
        self._starts = self._ends - lengths
        self._count = len(texts) // len(columns)
        self._places: dict[int, npt.NDArray[np.int32]] = {}

    def spans(self, word: str, among: Ints) -> Ints:
        """Over how many letters the word's letters, in order, stretch in each of these calls; more than _LONGEST: none.

        The least of the columns. In each from the left for the first end, from there back for the shortest stretch.
        """
        spans = np.full(len(among), _LONGEST + 1, dtype=np.int64)
        for first in range(0, len(self._starts), max(self._count, 1)):
            inside, span = self._find(word.encode("ascii"), among + first)
            spans[inside] = np.minimum(spans[inside], span)
        return spans

    def _find(self, letters: bytes, texts: Ints) -> tuple[npt.NDArray[np.bool_], Ints]:
        place, end = self._starts[texts], self._ends[texts]
        inside = np.ones(len(texts), dtype=np.bool_)
        for letter in letters:
            places = self._of(letter)
            if not len(places):
                return np.zeros(len(texts), dtype=np.bool_), np.zeros(0, dtype=np.int64)
            found = np.searchsorted(places, place)
            inside &= found < len(places)
            place = places[np.minimum(found, len(places) - 1)].astype(np.int64) + 1
            inside &= place <= end
        last = place[inside]
        first = last
        for letter in reversed(letters):
            places = self._of(letter)
            first = places[np.searchsorted(places, first) - 1].astype(np.int64)
        return inside, last - first

    def _of(self, letter: int) -> npt.NDArray[np.int32]:
        if letter not in self._places:
            self._places[letter] = np.flatnonzero(self._row == letter).astype(np.int32)
        return self._places[letter]
