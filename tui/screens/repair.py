"""What was measured with other rules: the ladder of repairs and each change on its own, and one run in full."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import BindingType

from tracer.errors import TracerError
from tracer.text import clean
from tui import actions
from tui.lines import repair as repair_lines
from tui.lines.format import plural
from tui.lines.pieces import paragraph
from tui.lines.repair import Ladder
from tui.looks.roles import Line, Role
from tui.screens.list_screen import ListScreen
from tui.widgets.line_list import LineList


class RepairScreen(ListScreen):
    """The ladder over the selected run."""

    SCOPE = "repair"
    READING = repair_lines.READING
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("repair")]

    def __init__(self) -> None:
        super().__init__()
        self._ladder: Ladder | None = None

    def refresh_session(self) -> None:
        """Show what was measured, as it is in the trace now."""
        trace, problem = self.session.trace, ""
        try:
            measured = trace.counterfactuals
        except TracerError as error:
            measured, problem = (), clean(str(error))
        self._ladder = repair_lines.ladder(trace.run, measured, self.session.example) if measured else None
        file = str(trace.path) if trace.path else ""

        def nothing(width: int) -> list[Line]:
            if problem:
                return paragraph(problem, width, Role.WARNING)
            return repair_lines.nothing_lines(trace.run, file, width)

        if self._ladder is None:
            self.show_nothing(nothing)
            return
        given = self._ladder
        self.show_list(
            f"Repair   {plural(len(measured), 'run')} measured",
            "Run",
            len(given.steps),
            repair_lines.heading,
            lambda index, width: repair_lines.row(given, index, width),
        )

    def lines_of(self, index: int, width: int) -> list[Line]:
        """The run in full."""
        if self._ladder is None:
            return []
        return repair_lines.step_lines(self._ladder, index, self.session.figures, width)

    def on_line_list_chosen(self, event: LineList.Chosen) -> None:
        """Go to the call that the run changes most."""
        self.action_open_call()

    def copyable(self) -> tuple[str, str]:
        """The options that make the selected run again, and its delta."""
        if self._ladder is None:
            return "", ""
        step = self._ladder.steps[self.line_list.cursor]
        return " ".join(repair_lines.rule_options(step.run)) if step.run else "", repr(step.delta)

    def action_open_call(self) -> None:
        """Show the call whose self leak this run changes most in Layers."""
        run = self._ladder.steps[self.line_list.cursor].run if self._ladder else None
        nodes = repair_lines.moved_most(run, self.session.figures) if run else []
        if nodes:
            self.host.go_to(nodes[0])
        else:
            self.host.say("No call belongs to this line.")
