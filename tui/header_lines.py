"""The head of the screen as lines: the verdict first, then what ran on what and the numbers behind the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from tracer.records import Run

from tui.format import clean, fit, number, ratio, shorten, spaced, wrap
from tui.theme import Cell, Line, Role

Level = Literal["good", "warning", "bad"]
_SIGNS: dict[Level, tuple[str, Role]] = {
    "good": ("✔", Role.GOOD),
    "warning": ("▲", Role.WARNING),
    "bad": ("✖", Role.LARGE),
}


@dataclass(frozen=True, slots=True)
class Headline:
    """The verdict in words, and how bad it is."""

    level: Level
    text: str


def header_lines(run: Run, headline: Headline, width: int, short: bool) -> list[Line]:
    """The head in `width` cells: up to two lines of verdict and two of facts, or one of each if the screen is short."""
    glyph, role = _SIGNS[headline.level]
    texts = wrap(clean(headline.text), width - 2)
    if len(texts) > (1 if short else 2):
        texts = texts[: 1 if short else 2]
        texts[-1] = fit(texts[-1] + " …", width - 2)
    lines: list[Line] = [
        [(f"{glyph} " if index == 0 else "  ", role), (text, role)] for index, text in enumerate(texts)
    ]
    state = _state(run)
    if state:
        lines.append([("▲ ", Role.WARNING), (shorten(state, width - 2), Role.WARNING)])
    if short:
        return [*lines, _packed([_delta(run), _change(run)], width)]
    return [*lines, _packed(_numbers(run), width), _packed(_subject(run), width)]


def _numbers(run: Run) -> list[list[Cell]]:
    facts = [_delta(run)]
    facts.append([("relative ", Role.MUTED), (ratio(run.relative_delta), Role.TEXT)])
    facts.append([("f(x) ", Role.MUTED), (number(_total(run.output)), Role.TEXT)])
    facts.append([("f(x') ", Role.MUTED), (number(_total(run.output_reference)), Role.TEXT)])
    facts.append(_change(run))
    if run.examples > 1:
        facts.append([(f"sums over {run.examples} examples", Role.WARNING)])
    return facts


def _delta(run: Run) -> list[Cell]:
    return [("delta ", Role.MUTED), (spaced(_total(run.delta), signed=True), Role.STRONG)]


def _change(run: Run) -> list[Cell]:
    change = _total(run.output) - _total(run.output_reference)
    return [("f(x)-f(x') ", Role.MUTED), (number(change, signed=True), Role.TEXT)]


def _subject(run: Run) -> list[list[Cell]]:
    method = clean(run.method, 60) + (f" / {clean(run.variant, 60)}" if run.variant else "")
    facts: list[list[Cell]] = [[(shorten(clean(run.model) or "model", 40), Role.TEXT)], [(method, Role.TEXT)]]
    if run.target:
        facts.append([("target ", Role.MUTED), (clean(run.target, 40), Role.TEXT)])
    if run.panel.hooks is not None:
        facts.append([(run.panel.hooks.summary, Role.TEXT)])
    return facts


def _state(run: Run) -> str:
    if run.status == "recording":
        return "Still being recorded: figures are of what is in the file so far."
    if run.status == "failed":
        return f"The run failed: {clean(run.message) or 'no reason was kept'}"
    return ""


def _packed(facts: Sequence[Sequence[Cell]], width: int) -> Line:
    """As many of the facts as fit in one line, in their order; at least the first, cut if it must be."""
    line: list[Cell] = []
    used = 2
    for index, fact in enumerate(facts):
        gap = 3 if index else 0
        length = sum(len(text) for text, _ in fact) + gap
        if index and used + length > width:
            break
        line += [("   ", Role.TEXT), *fact] if index else [("  ", Role.TEXT), *fact]
        used += length
    return line


def _total(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    return float(np.sum(values))
