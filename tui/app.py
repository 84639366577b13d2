"""The application: opens a trace, works out its figures, and shows the first screen."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from textual.app import App, SystemCommand
from textual.filter import LineFilter, NoColor
from textual.screen import Screen

from tracer.trace import Trace, open_trace
from tracer.verdict import verdict
from tui import actions
from tui.figures import Figures, derive
from tui.screens.layers import LayersScreen
from tui.theme import THEME, AsciiFilter, encodes_glyphs


class TracerApp(App[None]):
    """The terminal view of one trace. It only reads."""

    CSS_PATH = "tui.tcss"
    TITLE = "deeplift-tracer"

    def __init__(self, trace: Trace, ascii_only: bool = False) -> None:
        super().__init__()
        self.trace = trace
        self.animation_level = "none"
        self._own_filters: list[LineFilter] = []
        if self.no_color:
            self._own_filters.append(NoColor())
        if ascii_only:
            self._own_filters.append(AsciiFilter())
        self.register_theme(THEME)
        self.theme = THEME.name

    def get_default_screen(self) -> Screen[None]:
        """The layers of the trace."""
        return LayersScreen(self.trace, figures_of(self.trace), verdict(self.trace))

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's filters, then ours: no colours where NO_COLOR is set, ASCII where the terminal has nothing else."""
        return [*super().get_line_filters(), *self._own_filters]

    def get_system_commands(self, screen: Screen[None]) -> Iterable[SystemCommand]:
        """What the command palette offers: the actions of the table."""
        for action in actions.of("screen"):
            yield SystemCommand(
                action.title, f"key: {action.keys_shown}", partial(self.run_action, action.name, screen)
            )


def figures_of(trace: Trace) -> Figures:
    """The figures of all calls of a trace, summed over its examples."""
    columns = trace.columns
    return derive(
        parent=columns.parent,
        end=columns.end,
        depth=columns.depth,
        leak=columns.leak,
        self_leak=columns.self_leak,
        gain=columns.gain,
        call=columns.call,
        kinds=columns.kinds,
        types=columns.types,
        paths=columns.paths,
        change=float((trace.run.output - trace.run.output_reference).sum()),
    )


def run(path: Path) -> None:
    """Show the trace in this file until the user quits; TraceFileError, before anything is drawn, if it is none."""
    stream = sys.__stderr__
    with open_trace(path) as trace:
        app = TracerApp(trace, ascii_only=not encodes_glyphs(stream.encoding if stream else None))
        app.run()
