"""What every screen of a trace has: header, tabs, footer, and the actions that work everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.events import Resize, ScreenResume
from textual.screen import Screen

from tui import actions
from tui.host import Host, host_of
from tui.keys import Scope
from tui.lines.help import HelpText
from tui.model.session import Session
from tui.terminal.files import stem_of, write_new, write_report
from tui.widgets.footer import Footer
from tui.widgets.header import SHORT, Header
from tui.widgets.hint import Hint
from tui.widgets.tabs import Tabs

if TYPE_CHECKING:
    from tui.lines.menus import Item


class TraceScreen(Screen[None]):
    """A screen on the session. A subclass names its scope, composes its body and shows the session.

    `SCOPE` is its name in the table of screens, and `BINDINGS` of a subclass are `actions.bindings(SCOPE)`. `READING`
    says how to read it, for the help. The body lies between tabs and footer. `refresh_session` is called when the
    screen comes up and the session's example, threshold or trace is no longer what it last showed.
    """

    SCOPE: ClassVar[Scope] = "screen"
    READING: ClassVar[HelpText] = ()
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("screen")]

    def __init__(self) -> None:
        super().__init__()
        self._shown_revision = -1

    @property
    def host(self) -> Host:
        return host_of(self)

    @property
    def session(self) -> Session:
        """What all screens share."""
        return self.host.session

    def compose(self) -> ComposeResult:
        """Header, tabs, body, footer."""
        yield Header(self.session, id="header")
        yield Tabs(self.SCOPE, id="tabs")
        with Container(id="body"):
            yield from self.compose_body()
        yield from self.compose_below()
        if self.session.settings.first_start:
            yield Hint(id="first")
        yield Footer(self.SCOPE, id="footer")

    def compose_body(self) -> ComposeResult:
        """The screen's own panes."""
        yield from ()

    def compose_below(self) -> ComposeResult:
        """What lies between the body and the footer."""
        yield from ()

    def refresh_session(self) -> None:
        """Show the session as it is now."""

    def session_changed(self) -> None:
        """Show another example, threshold or trace, unless this is what is shown."""
        if self._shown_revision != self.session.revision and self.is_mounted:
            self._shown_revision = self.session.revision
            self.lay_out_header()
            self.refresh_session()

    def on_mount(self) -> None:
        """Show the session for the first time."""
        self.session_changed()

    def on_screen_resume(self, event: ScreenResume) -> None:
        """Show what has changed while another screen was shown."""
        self.session_changed()

    def on_resize(self, event: Resize) -> None:
        """Give the header the room it needs at this size."""
        self.lay_out_header()

    def lay_out_header(self) -> None:
        """Lay header and tabs out for this size; the tabs go on a short screen, their keys stay."""
        width, height = self.app.size
        self.query_one("#header", Header).lay_out(width, height)
        self.query_one("#tabs", Tabs).display = height >= SHORT

    def on_header_example_wanted(self, event: Header.ExampleWanted) -> None:
        """Another example, or the list of them."""
        if event.which == "choose":
            self.action_choose_example()
        else:
            self.action_example(1 if event.which == "next" else -1)

    def action_show(self, name: str) -> None:
        """Show another screen."""
        self.host.show_screen(name)

    def action_example(self, step: int) -> None:
        """The next example, or the one before."""
        if self.session.trace.run.examples <= 1:
            self.host.say("This trace has one example.")
            return
        self.session.step_example(step)
        self.host.session_changed()

    def action_back(self) -> None:
        """Go back to the call that was selected before the last jump."""
        self.host.travel(forward=False)

    def action_forward(self) -> None:
        """Go forward to the call that was left by going back."""
        self.host.travel(forward=True)

    def action_choose_example(self) -> None:
        """Offer the examples, with their deltas."""
        run = self.session.trace.run
        if run.examples <= 1:
            self.host.say("This trace has one example.")
            return
        from tui.lines.menus import example_items

        heading = "delta, and its share of f(x)-f(x')"
        items = partial(example_items, run, self.session.example)
        self.offer("Example", items, self._choose_example, heading=heading)

    def action_copy(self, what: str) -> None:
        """Copy what this screen has to copy: a path, or a number."""
        path, number = self.copyable()
        text = path if what == "path" else number
        if not text:
            self.host.say("There is nothing to copy here.")
            return
        self.host.copy(text)

    def copyable(self) -> tuple[str, str]:
        """A path and a number for the clipboard, "" for none: here those of the selected call."""
        session = self.session
        if session.node < 0:
            return "", ""
        return session.figures.paths[session.node], repr(float(session.figures.self_leak[session.node]))

    def action_theme(self) -> None:
        """Offer the themes."""
        from tui.lines.menus import theme_items

        self.offer("Theme", partial(theme_items, self.host.look.name), self.host.use_theme)

    def action_screenshot(self) -> None:
        """Write a picture of the screen to a file."""
        name = f"{stem_of(self.session.trace)}-{self.SCOPE}"
        self.host.say(write_new(Path.cwd(), name, ".svg", self.app.export_screenshot(title=self.app.title)))

    def action_report(self) -> None:
        """Write the report to a file."""
        self.host.say(write_report(Path.cwd(), self.session.trace, self.session.example))

    def action_leave(self) -> None:
        """Go back to the list of traces, if the trace was opened from one."""
        self.host.leave_trace()

    def action_redraw(self) -> None:
        """Paint everything again."""
        self.host.action_redraw()

    def action_help(self) -> None:
        """Show the help on this screen and on the pane that has the keys."""
        from tui.screens.help import HelpScreen

        pane: Scope | None = getattr(self.focused, "SCOPE", None)
        self.app.push_screen(HelpScreen(self.SCOPE, self.READING, pane))

    def offer(
        self,
        title: str,
        items: Callable[[], Sequence[Item]],
        choose: Callable[[str], None],
        stays: bool = False,
        heading: str = "",
    ) -> None:
        """Open a menu; `choose` is given the value of what is chosen."""
        from tui.screens.menu import MenuScreen

        self.app.push_screen(MenuScreen(title, items, choose, stays, heading))

    def _choose_example(self, name: str) -> None:
        self.session.set_example(None if name == "all" else int(name))
        self.host.session_changed()

    async def action_quit(self) -> None:
        self.app.exit()
