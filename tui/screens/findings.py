"""The diagnosis: a list of findings, causes before what they cause, and the selected one in full."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import BindingType

from tracer.text import clean
from tui import actions
from tui.lines import findings as finding_lines
from tui.lines.findings import ListedFinding
from tui.lines.format import plural
from tui.looks.roles import Line
from tui.screens.list_screen import ListScreen
from tui.widgets.line_list import LineList


class FindingsScreen(ListScreen):
    """The findings over the selected one."""

    SCOPE = "findings"
    READING = finding_lines.READING
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("findings")]

    def __init__(self) -> None:
        super().__init__()
        self._entries: tuple[ListedFinding, ...] = ()

    def refresh_session(self) -> None:
        """Show the findings of the session."""
        session = self.session
        self._entries = entries = finding_lines.entries(session.findings)
        run, verdict, problem = session.trace.run, session.verdict, session.findings_problem
        if not entries:
            self.show_nothing(lambda width: finding_lines.nothing_lines(run, verdict, problem, width))
            return
        self.show_list(
            f"Findings   {plural(len(entries), 'finding')}, causes first",
            "Finding",
            len(entries),
            finding_lines.heading,
            lambda index, width: finding_lines.row(entries[index], width),
        )

    def lines_of(self, index: int, width: int) -> list[Line]:
        """The finding in full."""
        session = self.session
        delta = float(session.trace.run.delta.sum())  # what was measured after is a sum over the examples as well
        return finding_lines.finding_lines(self._entries[index].finding, session.figures, delta, width)

    def on_line_list_chosen(self, event: LineList.Chosen) -> None:
        """Go to the call of a finding that was clicked."""
        self.action_open_call()

    def copyable(self) -> tuple[str, str]:
        """The path of the call to look at first, and the finding's share of all leaks."""
        if not self._entries:
            return "", ""
        finding = self._entries[self.line_list.cursor].finding
        return clean(finding.path), repr(finding.share)

    def action_open_call(self) -> None:
        """Show the call to look at first in Layers."""
        if not self._entries:
            self.host.say("There is no finding.")
            return
        node = self._entries[self.line_list.cursor].finding.node
        if node is None:
            self.host.say("This finding is about the whole run, not about one call.")
        else:
            self.host.go_to(node)
