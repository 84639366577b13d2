"""A text coloured by attribution, as running text, and how far the methods' rankings agree, as lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.cells import cell_len, chop_cells

from tracer.analysis.agreement import cosine, spearman
from tracer.records import Floats, Ranking
from tracer.text import clean
from tracer.tracefile.tensors import Array
from tui.lines.format import fit, number, shorten
from tui.lines.help import HelpText
from tui.lines.pieces import paragraph
from tui.looks import heat
from tui.looks.roles import Line, Piece, Role

_FIGURE = 7
_LONGEST_NAME = 34
READING: HelpText = (
    ("text", "each token painted by its score, with + or - in front where it matters; pieces of a word joined"),
    ("▲", "there is something known against this method on this text: see the warnings below"),
    ("cosine", "of the angle between two methods' scores: 1 the same, 0 nothing in common, -1 the contrary"),
    ("rank", "Spearman's rank correlation of the two orders of the tokens"),
)
"""How to read the screen Tokens, for the help."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A text with one score a token; `title` names their method, `doubt` is a warning about them, or ""."""

    title: str
    tokens: tuple[str, ...]
    scores: Floats
    doubt: str = ""


def token_scores(attributions: Sequence[Array], tokens: Sequence[Sequence[str]], example: int) -> Floats | None:
    """The attribution of each token of an example, (T,) float64, summed over all else and over all inputs by token.

    None where no attribution has an axis of tokens.
    """
    count = len(tokens[example]) if example < len(tokens) else 0
    total: Floats | None = None
    for array in attributions:
        if count and array.ndim >= 2 and array.shape[0] == len(tokens) and array.shape[1] == count:
            scores = array[example].reshape(count, -1).sum(axis=1, dtype=np.float64)
            total = scores if total is None else total + scores
    return total


def scored_lines(text: Scored, width: int) -> list[Line]:
    """Title, what the scores sum to, and the text coloured by them."""
    title, role = clean(text.title, 200), Role.WARNING if text.doubt else Role.STRONG
    lines: list[Line] = paragraph(f"▲ {title}" if text.doubt else title, width, role)
    finite = text.scores[np.isfinite(text.scores)]
    wrong = len(text.scores) - len(finite)
    facts = [f"sum {number(float(text.scores.sum()), signed=True)}"]
    if len(finite):
        high, low = int(np.nanargmax(text.scores)), int(np.nanargmin(text.scores))
        facts += [_extreme("highest", text, high), _extreme("lowest", text, low)]
    if wrong:
        facts.append(f"{wrong} of {len(text.scores)} not a number")
    lines += paragraph(", ".join(facts), width, Role.MUTED)
    return [*lines, *running_text(text.tokens, text.scores, width)]


def running_text(tokens: Sequence[str], scores: Floats, width: int) -> list[Line]:
    """The text in lines of `width` cells: pieces of a word joined, each piece painted by its score.

    A piece that matters carries its sign in front as well, once where a neighbour of its word has the same.
    """
    found = heat.levels(scores, heat.largest_of(scores))
    words: list[list[tuple[str, int]]] = []
    for index, (text, glued) in enumerate(joined(tokens)):
        piece = (clean(text, 200), int(found[index]))
        if glued and words:
            words[-1].append(piece)
        else:
            words.append([piece])
    lines: list[list[Piece]] = [[]]
    room = width
    for word in words:
        cells = _word(word, width)
        size = sum(cell_len(text) for text, _ in cells)
        if lines[-1] and size + 1 > room:
            lines.append([])
            room = width
        if lines[-1]:
            lines[-1].append((" ", Role.TEXT))
            room -= 1
        for cell in cells:
            if cell_len(cell[0]) > room:
                lines.append([])
                room = width
            lines[-1].append(cell)
            room -= cell_len(cell[0])
    return [line for line in lines]


def joined(tokens: Sequence[str]) -> list[tuple[str, bool]]:
    """Each token's own text, and whether it goes on with the word before it.

    Three ways of writing are known: "##ing" goes on (WordPiece); "Ġword" and "▁word" begin a word, and what has no
    such mark goes on (byte-level BPE, SentencePiece). Special tokens stand alone.
    """
    mark = next((sign for sign in "Ġ▁" if any(token.startswith(sign) for token in tokens)), "")
    found: list[tuple[str, bool]] = []
    after_special = True
    for token in tokens:
        special = _is_special(token)
        if mark:
            begins = token.startswith(mark) or special or after_special
            text = token.removeprefix(mark) or "␣"
        else:
            begins = not (token.startswith("##") and len(token) > 2)
            text = token if begins else token[2:]
        found.append((text.replace("Ċ", "⏎") if mark == "Ġ" else text, not begins))
        after_special = special
    return found


def agreement_lines(rankings: Sequence[Ranking], width: int) -> list[Line]:
    """How far the rankings agree, as two small matrices, side by side where there is room; nothing for fewer than
    two."""
    if len(rankings) < 2:
        return []
    names = [f"{index + 1} {clean(ranking.name, 200)}" for index, ranking in enumerate(rankings)]
    figures = len(rankings) * _FIGURE
    label = max(min(max(map(cell_len, names)), _LONGEST_NAME, width - figures - 1), 6)
    first = _matrix("cosine", cosine, rankings, names, label)
    both = label + 2 * figures + 4 <= width
    second = _matrix("rank correlation", spearman, rankings, names, 0 if both else label)
    lines: list[Line] = paragraph("Agreement: 1 the same, 0 none, -1 the contrary", width, Role.TITLE)
    if both:
        return [*lines, *([*one, ("    ", Role.TEXT), *other] for one, other in zip(first, second, strict=True))]
    return [*lines, *first, [], *second]


def legend_lines(width: int) -> list[Line]:
    """What colours and signs in the text mean."""
    text = (
        "+ raises the output at the target, - lowers it (attention only weighs); "
        "the deeper the colour, the nearer to the largest |score| of the text."
    )
    return paragraph(text, width, Role.MUTED)


def _word(word: Sequence[tuple[str, int]], width: int) -> list[Piece]:
    cells: list[Piece] = []
    before = 0
    for text, level in word:
        role = Role.MUTED if level == 0 else heat.role_of(level)
        sign = 0 if level == 0 else 2 if level == heat.NO_NUMBER else 1 if level > 0 else -1
        shown = heat.sign_of(level) + text if sign and sign != before else text
        before = sign
        cells += [(part, role) for part in chop_cells(shown, max(width, 2))]
    return cells


def _matrix(
    title: str,
    measure: Callable[[Sequence[float], Sequence[float]], float],
    rankings: Sequence[Ranking],
    names: Sequence[str],
    label: int,
) -> list[list[Piece]]:
    size = len(rankings) * _FIGURE
    numbers = "".join(fit(str(index + 1), _FIGURE, right=True) for index in range(len(rankings)))
    lines: list[list[Piece]] = [
        [(fit("", label), Role.TITLE), (fit(title, size), Role.TITLE)],
        [(fit("", label), Role.TITLE), (numbers, Role.MUTED)],
    ]
    for row, one in enumerate(rankings):
        cells: list[Piece] = [(fit(shorten(names[row], label), label), Role.TEXT)] if label else []
        for column, other in enumerate(rankings):
            if row == column:
                cells.append((fit("·", _FIGURE, right=True), Role.FAINT))
                continue
            value = measure(one.scores, other.scores) if len(one.scores) == len(other.scores) else math.nan
            text = "-" if math.isnan(value) else f"{value:+.2f}"
            role = Role.FAINT if math.isnan(value) else _agreement_role(value)
            cells += [(" " * (_FIGURE - len(text)), Role.TEXT), (text, role)]
        lines.append(cells)
    return lines


def _agreement_role(value: float) -> Role:
    return Role.GOOD if value >= 0.8 else Role.TEXT if value >= 0.4 else Role.WARNING


def _extreme(which: str, text: Scored, index: int) -> str:
    return f"{which} “{shorten(clean(text.tokens[index], 60), 20)}” {number(float(text.scores[index]), signed=True)}"


def _is_special(token: str) -> bool:
    return len(token) > 2 and ((token[0], token[-1]) in (("[", "]"), ("<", ">")))
