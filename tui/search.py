"""Which calls a query finds: every word of it in the path, the type or the source line, whatever the case."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tui.figures import Ints

_JOINT = "\n"


class Index:
    """Made from lists of texts, one text a call in each; a longer query looks only where the shorter one found."""

    def __init__(self, *texts: Sequence[str]) -> None:
        self._texts = [_JOINT.join(parts).casefold() for parts in zip(*texts, strict=True)]
        self._words: list[str] = []
        self._found: list[int] = []

    def find(self, query: str) -> Ints:
        """The sorted ids of what `query` finds; nothing for an empty one."""
        words = query.casefold().split()
        if not words:
            self._words, self._found = [], []
            return np.zeros(0, dtype=np.int64)
        narrower = bool(self._words) and all(any(old in word for word in words) for old in self._words)
        among: Sequence[int] = self._found if narrower else range(len(self._texts))
        for word in words:
            among = [index for index in among if word in self._texts[index]]
        self._words, self._found = words, list(among)
        return np.array(self._found, dtype=np.int64)
