"""The sanity panel as lines: outputs, and the tokens as each method ranks them, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tracer.records import Panel, Ranking, Run
from tui.format import bar, clean, fit, number, ratio, wrap
from tui.theme import Cell, Line, Role

_LEAST = 20
_GAP = "  "
_FIGURE = 6


def token_lines(run: Run, width: int) -> list[Line]:
    """The token pane in `width` cells, or what it has not got, in words."""
    panel = run.panel
    lines = _outputs(panel, width)
    if not panel.rankings:
        if lines:
            lines.append([])
        return lines + _say("No rankings of tokens in this trace: they are recorded for texts.", width)
    if lines:
        lines.append([])
    if not run.tokens or not run.tokens[0]:
        lines += _say("The trace names no tokens; they are numbered.", width) + [[]]
    tokens = run.tokens[0] if run.tokens else ()
    if run.examples > 1:
        lines += _say(f"Rankings are of the first of {run.examples} examples.", width) + [[]]
    across = max(1, min(len(panel.rankings), (width + len(_GAP)) // (_LEAST + len(_GAP))))
    for start in range(0, len(panel.rankings), across):
        group = panel.rankings[start : start + across]
        each = (width + len(_GAP)) // len(group) - len(_GAP)
        lines += _side_by_side([_ranking(ranking, tokens, max(each, 8)) for ranking in group], each)
        lines.append([])
    return lines[:-1]


def _outputs(panel: Panel, width: int) -> list[Line]:
    if not panel.output:
        return []
    names = [clean(label) for label in panel.labels] or [str(index) for index in range(len(panel.output))]
    label = max(min(max(map(len, names), default=1), max(width - 26, 6)), 6)
    lines: list[Line] = [
        [
            (fit("output", label), Role.TITLE),
            (fit("text", 11, right=True) + fit("reference", 12, right=True), Role.TITLE),
        ]
    ]
    references = panel.output_reference or (math.nan,) * len(panel.output)
    for name, value, reference in zip(names, panel.output, references, strict=False):
        figures = fit(number(value, signed=True), 11, right=True) + fit(number(reference, signed=True), 12, right=True)
        lines.append([(fit(name, label), Role.TEXT), (figures, Role.TEXT)])
    return lines


def _ranking(ranking: Ranking, tokens: Sequence[str], width: int) -> list[Line]:
    """One ranking in a column of `width` cells: its name, its delta, its warning, then the tokens, highest first."""
    lines: list[Line] = [[(fit(clean(ranking.name), width), Role.STRONG)]]
    if ranking.delta is None:
        lines.append([(fit("no delta of its own", width), Role.MUTED)])
    else:
        relative = "" if ranking.relative_delta is None else f"  {ratio(ranking.relative_delta)}"
        lines.append([(fit(f"delta {number(ranking.delta, signed=True)}{relative}", width), Role.MUTED)])
    for index, text in enumerate(wrap(clean(ranking.note), width - 2) if ranking.note else []):
        lines.append([("▲ " if index == 0 else "  ", Role.WARNING), (fit(text, width - 2), Role.WARNING)])
    scores = ranking.normalised
    largest = max((abs(score) for score in scores if math.isfinite(score)), default=0.0)
    order = sorted(range(len(scores)), key=lambda index: -scores[index] if math.isfinite(scores[index]) else math.inf)
    for index in order:
        name = clean(tokens[index], 200) if index < len(tokens) else f"token {index}"
        lines.append(_token(name, scores[index], largest, width))
    return lines


def _token(name: str, score: float, largest: float, width: int) -> Line:
    length = min(max(width - _FIGURE - 10, 0), 16)
    label = width - _FIGURE - (length + 1 if length else 0) - 1
    cells: list[Cell] = [(fit(name, label) + " ", Role.TEXT)]
    figure = f"{score:+.2f}" if math.isfinite(score) else number(score)
    role = Role.MUTED if not math.isfinite(score) else Role.POSITIVE if score >= 0 else Role.NEGATIVE
    cells.append((fit(figure, _FIGURE, right=True), Role.TEXT))
    if length:
        part = abs(score) / largest if largest and math.isfinite(score) else 0.0
        cells.append((" " + bar(part, length), role))
    return cells


def _side_by_side(blocks: Sequence[Sequence[Line]], width: int) -> list[Line]:
    """Blocks of lines, each `width` cells wide, one beside the other; token lists start at one height."""
    heads = [next((i for i, line in enumerate(block) if i > 1 and line[0][1] is not Role.WARNING), len(block)) for block in blocks]
    head = max(heads, default=0)
    padded: list[list[Line]] = []
    for block, own in zip(blocks, heads, strict=True):
        padded.append([*block[:own], *([[]] * (head - own)), *block[own:]])
    lines: list[Line] = []
    for index in range(max(map(len, padded), default=0)):
        cells: list[Cell] = []
        for place, block in enumerate(padded):
            line = block[index] if index < len(block) else []
            cells += line or [(" " * width, Role.TEXT)]
            if place + 1 < len(padded):
                cells.append((_GAP, Role.TEXT))
        lines.append(cells)
    return lines


def _say(text: str, width: int) -> list[Line]:
    return [[(line, Role.MUTED)] for line in wrap(text, width)]
