"""The text coloured by each method's scores, how far the methods agree, and their rankings side by side."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from textual.app import ComposeResult
from textual.binding import BindingType

from tracer.analysis.verdict import HOLDS, ranking_warning, relative_deltas
from tracer.errors import TracerError
from tracer.records import Floats
from tracer.text import clean
from tui import actions
from tui.lines import text as text_lines
from tui.lines.format import number
from tui.lines.pieces import paragraph
from tui.lines.text import Scored
from tui.lines.tokens import token_lines
from tui.looks.roles import Line, Role
from tui.screens.base import TraceScreen
from tui.widgets.lines import LinesView

_MOST_EXAMPLES = 50


class TokensScreen(TraceScreen):
    """One pane that scrolls: texts first, then agreement and rankings."""

    SCOPE = "tokens"
    READING = text_lines.READING
    DEFAULT_CSS = """
    TokensScreen {
        #text { padding: 0 0 0 1; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("tokens")]
    AUTO_FOCUS = "#text"

    def __init__(self) -> None:
        super().__init__()
        self._method = 0
        self._alone = False

    def compose_body(self) -> ComposeResult:
        yield LinesView(id="text")

    def refresh_session(self) -> None:
        """Show the texts of the example, or of all."""
        self._show()

    def action_colour(self) -> None:
        """Show the text with the scores of the next method alone; after the last with those of all again."""
        self._method += 1
        self._show()

    def action_only(self) -> None:
        """The texts alone, or with agreement and rankings."""
        self._alone = not self._alone
        self._show()

    def _show(self) -> None:
        self.query_one("#text", LinesView).show(self._lines)

    def _lines(self, width: int) -> list[Line]:
        run = self.session.trace.run
        lines = self._texts(width)
        if self._alone:
            return lines
        agreement = text_lines.agreement_lines(run.panel.rankings, width)
        if agreement:
            lines += [[], *agreement]
        return [*lines, [], *token_lines(run, width)]

    def _texts(self, width: int) -> list[Line]:
        if not any(self.session.trace.run.tokens):
            return paragraph("This trace names no tokens: there is no text to colour.", width, Role.MUTED)
        texts, problem = self._attributed()
        texts += self._ranked(texts)
        if texts:
            self._method %= len(texts) + 1
            if self._method:
                texts = [texts[self._method - 1]]
        lines = paragraph(problem, width, Role.MUTED) if problem else []
        for text in texts:
            lines += [*([[]] if lines else []), *text_lines.scored_lines(text, width)]
        return [*lines, [], *text_lines.legend_lines(width)] if texts else lines

    def _attributed(self) -> tuple[list[Scored], str]:
        """The trace's own attributions, of the example or of each example; and what is wrong with them, or ""."""
        session = self.session
        run = session.trace.run
        try:
            attributions = session.trace.attributions
        except TracerError as error:
            return [], f"The attributions cannot be read: {clean(str(error))}"
        chosen = [session.example] if session.example is not None else list(range(run.examples))
        texts: list[Scored] = []
        for example in chosen[:_MOST_EXAMPLES]:
            scores = text_lines.token_scores(attributions, run.tokens, example)
            if scores is None:
                return [], "The attributions of this trace are not by token."
            change = number(float(run.output[example] - run.output_reference[example]), signed=True)
            which = f"Example {example}: a" if run.examples > 1 else "A"
            title = f"{which}ttributions of this run ({clean(run.method, 40)}); f(x)-f(x') is {change}"
            doubt = "" if relative_deltas(run)[example] <= HOLDS else "they do not add up"
            texts.append(Scored(title, run.tokens[example], scores, doubt))
        more = len(chosen) - _MOST_EXAMPLES
        return (
            texts,
            f"Of {len(chosen)} examples the first {_MOST_EXAMPLES} are shown: [ and ] go on." if more > 0 else "",
        )

    def _ranked(self, before: list[Scored]) -> list[Scored]:
        """The scores of the rankings, but for those that are shown already; they are of the first example."""
        run = self.session.trace.run
        if self.session.example:
            return []
        texts = []
        for ranking in run.panel.rankings:
            scores = np.array(ranking.scores, dtype=np.float64)
            if len(scores) != len(run.tokens[0]) or any(_same(scores, text.scores) for text in before[:1]):
                continue
            which = ", of the first example" if run.examples > 1 else ""
            texts.append(Scored(f"{clean(ranking.name, 80)}{which}", run.tokens[0], scores, ranking_warning(ranking)))
        return texts


def _same(first: Floats, second: Floats) -> bool:
    return first.shape == second.shape and bool(np.allclose(first, second, rtol=1e-4, equal_nan=True))
