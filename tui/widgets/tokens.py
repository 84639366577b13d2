"""The token pane: what the model answers, and the tokens as each method ranks them."""

from __future__ import annotations

from tracer.records import Run
from tui.lines.tokens import token_lines
from tui.widgets.lines import LinesView


class Tokens(LinesView):
    """The sanity panel of a run."""

    def __init__(self, run: Run, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._run: Run | None = None
        self.show_run(run)

    def show_run(self, run: Run) -> None:
        """Show the panel of another run, or of this one when it is complete."""
        if run is not self._run:
            self._run = run
            self.show(lambda width: token_lines(run, width))
