"""The token pane: what the model answers, and the tokens as each method ranks them."""

from __future__ import annotations

from tracer.records import Run
from tui.token_lines import token_lines
from tui.widgets.lines import LinesView


class Tokens(LinesView):
    """The sanity panel of a run."""

    def __init__(self, run: Run, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.show(lambda width: token_lines(run, width))
