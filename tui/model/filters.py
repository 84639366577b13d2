"""Which calls a filter keeps: what diverges, what belongs to attention, GELU or normalisation, what a text finds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tracer.records import Bools
from tui.model.figures import Figures, Ints

FAMILIES: Mapping[str, str] = {"attention": "attention", "gelu": "GELU", "norm": "normalisation"}
"""The families of calls to filter by, with their names in words."""

_ATTENTION = re.compile(r"attention|attn")
_NORM = re.compile(r"norm(?:\d*d)?$|norms?\b|(?:^|_)norm(?:_|$)")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which calls to keep: those of any of the families that are also diverging and found by the text, where asked.

    The calls inside a family's calls belong to it too: a GELU that is written out is a module with tanh and products.
    """

    diverging: bool = False
    families: frozenset[str] = frozenset()
    text: str = ""

    def __bool__(self) -> bool:
        return self.diverging or bool(self.families) or bool(self.text.strip())

    @property
    def words(self) -> str:
        """What it keeps, in words; "" if it keeps all."""
        parts = ["diverging"] if self.diverging else []
        parts += [title for name, title in FAMILIES.items() if name in self.families]
        if self.text.strip():
            parts.append(f"“{self.text.strip()}”")
        return f"only {', '.join(parts)}" if parts else ""

    def toggled(self, name: str) -> Filter:
        """The same with one family, or "diverging", the other way round."""
        if name == "diverging":
            return replace(self, diverging=not self.diverging)
        return replace(self, families=self.families ^ {name})


def kept(figures: Figures, wanted: Filter, find: Callable[[str], Ints]) -> Bools | None:
    """Which calls the filter keeps, (N,); None where it keeps all. `find` gives the ids that a text finds."""
    if not wanted:
        return None
    keep = np.ones(len(figures), dtype=np.bool_)
    if wanted.diverging:
        keep &= figures.severity > 0
    if wanted.families:
        keep &= np.logical_or.reduce([family(figures, name) for name in sorted(wanted.families)])
    if wanted.text.strip():
        found = np.zeros(len(figures), dtype=np.bool_)
        found[find(wanted.text)] = True
        keep &= found
    return keep


def family(figures: Figures, name: str) -> Bools:
    """The calls of a family and all inside them, (N,)."""
    kinds = {type_name: _belongs(type_name, name) for type_name in set(figures.types)}
    own = np.fromiter((kinds[type_name] for type_name in figures.types), np.bool_, len(figures))
    if name == "attention":  # a module may be an attention by its name alone
        own |= np.fromiter((_ATTENTION.search(path.casefold()) is not None for path in figures.paths), np.bool_)
    return inside(own, figures.end)


def inside(chosen: Bools, end: Ints) -> Bools:
    """The chosen calls and all calls in their subtrees, (N,)."""
    begins = np.flatnonzero(chosen)
    steps = np.zeros(len(chosen) + 1, dtype=np.int64)
    np.add.at(steps, begins, 1)
    np.add.at(steps, end[begins], -1)
    return np.cumsum(steps)[:-1] > 0


def _belongs(type_name: str, family_name: str) -> bool:
    folded = type_name.casefold()
    if family_name == "attention":
        return _ATTENTION.search(folded) is not None
    if family_name == "gelu":
        return "gelu" in folded
    return _NORM.search(folded) is not None
