"""The sanity panel as lines: outputs, and the tokens as each method ranks them, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.cells import cell_len

from tracer.analysis.verdict import ranking_warning
from tracer.records import Panel, Ranking, Run
from tracer.text import clean, multiple
from tui.lines.format import bar, fit, number, shorten, wrap
from tui.lines.pieces import paragraph
from tui.looks.roles import Line, Piece, Role

_LEAST = 20
_GAP = "  "
_FIGURE = 6


def token_lines(run: Run, width: int) -> list[Line]:
    """The token pane in `width` cells; what the trace does not have is said in words."""
    panel = run.panel
    lines = _outputs(panel, width)
    if not panel.rankings:
        if lines:
            lines.append([])
        return lines + paragraph("No rankings of tokens in this trace: they are recorded for texts.", width, Role.MUTED)
    if lines:
        lines.append([])
    if not run.tokens or not run.tokens[0]:
        lines += paragraph("The trace names no tokens; they are numbered.", width, Role.MUTED)
        lines.append([])
    tokens = run.tokens[0] if run.tokens else ()
    if run.examples > 1:
        lines += paragraph(f"Rankings are of the first of {run.examples} examples.", width, Role.MUTED)
        lines.append([])
    warnings = _warnings(panel, width)
    if warnings:
        lines += [*warnings, []]
    across = max(1, min(len(panel.rankings), (width + len(_GAP)) // (_LEAST + len(_GAP))))
    for start in range(0, len(panel.rankings), across):
        group = panel.rankings[start : start + across]
        each = (width + len(_GAP)) // len(group) - len(_GAP)
        lines += _side_by_side([_ranking(ranking, tokens, max(each, 8)) for ranking in group], each)
        lines.append([])
    return lines[:-1]


def _outputs(panel: Panel, width: int) -> list[Line]:
    """What the model answers to text and reference: in one line where that fits, else one line a class."""
    names = [clean(label, 60) for label in panel.labels]
    references = (*panel.output_reference, *(math.nan,) * len(panel.output))
    facts: list[list[Piece]] = []
    for index, (value, reference) in enumerate(zip(panel.output, references, strict=False)):
        name = shorten(names[index] if index < len(names) else f"class {index}", max(width - 24, 6))
        facts.append(
            [
                (f"{name} ", Role.TEXT),
                (f"{number(reference, signed=True)} → ", Role.MUTED),
                (number(value, signed=True), Role.STRONG),
            ]
        )
    if not facts:
        return []
    gap: Piece = ("   ", Role.TEXT)
    title: Piece = ("output, reference → text  ", Role.TITLE)
    whole: list[Piece] = [title]
    for fact in facts:
        whole += [*fact, gap]
    if sum(cell_len(text) for text, _ in whole[:-1]) <= width:
        return [whole[:-1]]
    return [[title], *([("  ", Role.TEXT), *fact] for fact in facts)]


def _warnings(panel: Panel, width: int) -> list[Line]:
    """Warnings about the rankings, over the whole width: they are too long for a column."""
    lines: list[Line] = []
    for ranking in panel.rankings:
        text = clean(ranking_warning(ranking))
        for index, part in enumerate(wrap(text, width - 2) if text else []):
            lines.append([("▲ " if index == 0 else "  ", Role.WARNING), (part, Role.WARNING)])
    return lines


def _ranking(ranking: Ranking, tokens: Sequence[str], width: int) -> tuple[list[Line], list[Line]]:
    """One ranking in a column of `width` cells: name and delta, "▲" if there is a warning; tokens, highest first."""
    name = clean(ranking.name, 200)
    role = Role.WARNING if ranking_warning(ranking) else Role.STRONG
    title = f"▲ {name}" if ranking_warning(ranking) else name
    lines: list[Line] = [[(fit(text, width), role)] for text in wrap(title, width)[:2]]
    if ranking.delta is None:
        lines.append([(fit("no delta of its own", width), Role.MUTED)])
    else:
        relative = "" if ranking.relative_delta is None else f"  {multiple(ranking.relative_delta)}"
        lines.append([(fit(f"delta {number(ranking.delta, signed=True)}{relative}", width), Role.MUTED)])
    scores = _normalised(ranking.scores)
    ranked: list[Line] = []
    largest = max((abs(score) for score in scores if math.isfinite(score)), default=0.0)
    order = sorted(range(len(scores)), key=lambda index: -scores[index] if math.isfinite(scores[index]) else math.inf)
    for index in order:
        name = clean(tokens[index], 200) if index < len(tokens) else f"token {index}"
        ranked.append(_token(name, scores[index], largest, width))
    return lines, ranked


def _normalised(scores: Sequence[float]) -> list[float]:
    """As `Ranking.normalised`, but NaN and infinite scores are left out of the norm."""
    norm = math.hypot(*(score for score in scores if math.isfinite(score))) or 1.0
    return [score / norm for score in scores]


def _token(name: str, score: float, largest: float, width: int) -> Line:
    length = min(max(width - _FIGURE - 10, 0), 16)
    label = width - _FIGURE - (length + 1 if length else 0) - 1
    cells: list[Piece] = [(fit(name, label) + " ", Role.TEXT)]
    figure = f"{score:+.2f}" if math.isfinite(score) else number(score)
    role = Role.MUTED if not math.isfinite(score) else Role.POSITIVE if score >= 0 else Role.NEGATIVE
    cells.append((fit(figure, _FIGURE, right=True), Role.TEXT))
    if length:
        part = abs(score) / largest if largest and math.isfinite(score) else 0.0
        cells.append((" " + bar(part, length), role))
    return cells


def _side_by_side(blocks: Sequence[tuple[list[Line], list[Line]]], width: int) -> list[Line]:
    """Blocks of a head and a list, each `width` cells wide, one beside the other; the lists start at one height."""
    tallest = max(len(head) for head, _ in blocks)
    padded = [[*head, *([[]] * (tallest - len(head))), *tokens] for head, tokens in blocks]
    lines: list[Line] = []
    for index in range(max(map(len, padded), default=0)):
        cells: list[Piece] = []
        for place, block in enumerate(padded):
            line = block[index] if index < len(block) else []
            cells += line or [(" " * width, Role.TEXT)]
            if place + 1 < len(padded):
                cells.append((_GAP, Role.TEXT))
        lines.append(cells)
    return lines
