"""The application: holds the session, moves between the screens, and starts on a trace, a folder or a recording."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from textual.app import App, SystemCommand
from textual.driver import Driver
from textual.filter import LineFilter, NoColor
from textual.screen import Screen

from tracer.errors import TracerError
from tracer.text import clean, shorten
from tracer.tracefile.trace import TensorName, Trace, open_trace
from tui import actions
from tui.keys import Action, Keymap, keys_of, shown
from tui.live.follow import follow
from tui.live.process import RecordingProcess
from tui.live.watch import Watch
from tui.looks.themes import LOOKS, PLAIN, Look
from tui.model.placeholder import empty_trace
from tui.model.session import Session
from tui.model.settings import Settings, load
from tui.screen_table import entry_of
from tui.screens.base import TraceScreen
from tui.screens.layers import LayersScreen
from tui.terminal.ascii import AsciiFilter, encodes_glyphs
from tui.terminal.changed_cells import Shadow, thrifty
from tui.widgets.hint import Hint


class TracerApp(App[None]):
    """The terminal view of one trace, of two compared, of the traces in a folder, or of a trace while it is recorded.

    It only reads. Until a file of the folder is opened, or the recording has written its file, an empty trace stands
    in.
    """

    CSS_PATH = "tui.tcss"
    TITLE = "deeplift-tracer"

    def __init__(
        self,
        trace: Trace | None = None,
        other: Trace | None = None,
        ascii_only: bool = False,
        settings: Settings | None = None,
        recording: RecordingProcess | None = None,
        folder: Path | None = None,
    ) -> None:
        self._terminal = Shadow()
        super().__init__()
        self.session = Session(trace or empty_trace(), other, settings)
        self.recording = recording
        self.folder = folder
        self.keys: Keymap
        self.keys, problems = actions.keymap_of(self.session.settings.keys)
        self._problems = (*self.session.settings.problems, *problems)
        self.set_keymap({name: ",".join(keys) for name, keys in self.keys.items()})
        self.animation_level = "none"
        self._made: dict[str, TraceScreen] = {}
        self._own_filters: list[LineFilter] = []
        if self.no_color:
            self._own_filters.append(NoColor())
        if ascii_only:
            self._own_filters.append(AsciiFilter())
        for look in LOOKS.values():
            self.register_theme(look.theme)
        self.theme = self.look.theme.name

    @property
    def look(self) -> Look:
        """The theme in use; by weight alone where NO_COLOR is set."""
        return PLAIN if self.no_color else LOOKS.get(self.session.settings.theme, LOOKS["dark"])

    def get_driver_class(self) -> type[Driver]:
        """Textual's driver; one that draws on a terminal sends only the cells that change."""
        driver = super().get_driver_class()
        return thrifty(driver, self._terminal) if driver.__name__ == "LinuxDriver" else driver

    def on_mount(self) -> None:
        """Say what is wrong with the settings, a line each; show the recording, or the trace if there is one."""
        for problem in self._problems:
            self.notify(clean(problem), severity="warning", markup=False, timeout=10)
        if self.recording is not None:
            from tui.screens.waiting import WaitingScreen

            self.push_screen(WaitingScreen(self.recording))
            watch = Watch(self.recording.path, stale=self.recording.stale)
            self.run_worker(follow(self, watch, self.recording), group="follow")
        elif self.folder is None:
            self._begin()

    def on_resize(self) -> None:
        """Send the next picture in full: a terminal may move its lines when its size changes."""
        self._terminal.forget()

    def action_redraw(self) -> None:
        """Paint everything again."""
        self._terminal.forget()
        self.screen.refresh()

    def action_command_palette(self) -> None:
        from tui.screens.palette import Palette

        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(id="--command-palette"))

    def on_key(self) -> None:
        """Remove the hint of the first start at the first key."""
        if self.session.settings.first_start:
            self.session.settings = self.session.settings.started()
            for hint in self.screen.query(Hint):
                hint.remove()

    def get_default_screen(self) -> Screen[None]:
        """The bottom of the stack of screens: the folder where there is one, else Layers."""
        if self.folder is not None:
            from tui.screens.folder import FolderScreen

            return FolderScreen(self.folder)
        return self._screen("layers")

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's filters, then ours: no colours where NO_COLOR is set, ASCII where the terminal has nothing else."""
        return [*super().get_line_filters(), *self._own_filters]

    def get_system_commands(self, screen: Screen[None]) -> Iterable[SystemCommand]:
        """What the command palette offers: the actions of the table for this screen."""
        scope = getattr(screen, "SCOPE", "screen")
        for action in actions.of(*actions.scopes_of(scope)):
            yield SystemCommand(action.title, self._key_words(action), partial(self.run_action, action.name, screen))

    def show_screen(self, name: str) -> None:
        """Show a screen of the table; menus and other screens over the present one close."""
        main = 1 + max((place for place, screen in enumerate(self.screen_stack) if screen in self._made.values()))
        for _ in self.screen_stack[main:]:
            self.pop_screen()
        if self.screen is self._made.get(name):
            return
        if name == "layers":
            self.pop_screen()
        elif self.screen is self._screen("layers"):
            self.push_screen(self._screen(name))
        else:
            self.switch_screen(self._screen(name))

    def go_to(self, node: int) -> None:
        """Show this call in Layers; going back leads to the call that was selected before."""
        if not 0 <= node < len(self.session.figures):
            return
        if node != self.session.node:
            self.session.history.leave(self.session.node)
        self._select(node)

    def travel(self, forward: bool) -> None:
        """Go one step through the calls that were visited."""
        history, present = self.session.history, self.session.node
        node = history.forward(present) if forward else history.back(present)
        if node is None:
            self.say("There is nothing to go forward to." if forward else "There is nothing to go back to.")
        else:
            self._select(node)

    def open_tensor(self, node: int, name: TensorName = "input", slot: int = 0) -> None:
        """Show a tensor of a call; Esc comes back."""
        from tui.screens.tensor import TensorScreen

        self.push_screen(TensorScreen(node, name, slot))

    def enter_trace(self, trace: Trace, other: Trace | None = None) -> None:
        """Open a trace of the folder, or two to compare; TraceFileError where one cannot be read."""
        self.session = Session(trace, other, self.session.settings)
        self.push_screen(self._screen("layers"))
        self._begin()

    def leave_trace(self) -> None:
        """Go back to the folder, if there is one."""
        if self.folder is None or not self._made:
            return
        while len(self.screen_stack) > 1:
            self.pop_screen()
        for screen in self._made.values():
            self.uninstall_screen(screen)
            if screen.is_running:
                screen.remove()
        self._made.clear()
        self.session = Session(empty_trace(), settings=self.session.settings)

    def trace_arrived(self) -> None:
        """Take the waiting screen away: there is a trace to show."""
        from tui.screens.waiting import WaitingScreen

        for place, screen in enumerate(self.screen_stack):
            if isinstance(screen, WaitingScreen):
                for _ in self.screen_stack[place:]:
                    self.pop_screen()

    def recording_failed(self, reason: str) -> None:
        """Say why the recording failed; before there is anything to show, end the view instead."""
        if self.session.trace.path is None:
            self.exit()
        else:
            self.notify(reason, severity="error", markup=False, timeout=10)

    def select_worst(self) -> None:
        """Select the worst call in Layers; the user stays on the present screen."""
        self.session.node = self.session.figures.worst
        layers = self._screen("layers")
        assert isinstance(layers, LayersScreen)
        layers.layer_tree.go_to(self.session.node)

    def session_changed(self) -> None:
        """Show another example, threshold or trace on the present screen; the others update when they are shown."""
        for screen in self.screen_stack:
            if isinstance(screen, TraceScreen) and screen.is_current:
                screen.session_changed()

    def use_theme(self, name: str) -> None:
        """Show everything in another theme, and remember it."""
        self.session.settings = self.session.settings.with_theme(name)
        self.theme = self.look.theme.name
        for screen in self.screen_stack:
            for widget in screen.query("*"):
                widget.refresh()

    def copy(self, text: str) -> None:
        """Copy a text, and say where it went."""
        from tui.terminal import clipboard

        driver = self._driver
        where = clipboard.copy(text, driver.write if driver is not None else lambda sequence: None)
        self.say(f"Copied {shorten(clean(text), 60)} {where}.")

    def say(self, text: str) -> None:
        """Show a short message in place of the one before: a key that is held down leaves one, not many."""
        self.clear_notifications()
        self.notify(text, markup=False, timeout=3)

    def _key_words(self, action: Action) -> str:
        keys = keys_of(action, self.keys)
        return f"key: {shown(keys)}" if keys else ""

    def _begin(self) -> None:
        """Start on Compare where there are two traces; follow a trace that is being recorded."""
        if self.session.other is not None:
            self.show_screen("compare")
        trace = self.session.trace
        if trace.run.status == "recording" and trace.path is not None:
            self.run_worker(follow(self, Watch(trace.path, trace)), group="follow", exclusive=True)

    def _select(self, node: int) -> None:
        self.session.node = node
        self.show_screen("layers")
        layers = self._screen("layers")
        assert isinstance(layers, LayersScreen)
        layers.select(node)

    def _screen(self, name: str) -> TraceScreen:
        """The screen of this name, made at the first call and kept."""
        if name not in self._made:
            entry = entry_of(name)
            if entry is None:
                raise KeyError(name)
            screen = entry.load()()
            assert isinstance(screen, TraceScreen)
            self._made[name] = screen
            self.install_screen(screen, name)
        return self._made[name]


def run(path: Path, other: Path | None = None, served: bool = False) -> None:
    """Show the trace in this file, or two compared, until the user quits. `served`: in a browser.

    TraceFileError, before anything is drawn, where a file is not a trace.
    """
    with open_trace(path) as trace, nullcontext() if other is None else open_trace(other) as second:
        TracerApp(trace, second, ascii_only=not served and _terminal_is_ascii(), settings=load()).run()


def run_folder(folder: Path, served: bool = False) -> None:
    """Show the traces in this folder until the user quits."""
    TracerApp(folder=folder, ascii_only=not served and _terminal_is_ascii(), settings=load()).run()


def run_recording(command: Sequence[str], path: Path) -> RecordingProcess:
    """Run `command`, which records into the file `path`, show its trace as it grows, and give the process back.

    The process is stopped when the view ends: KeyboardInterrupt if the trace was not complete then, TracerError if the
    recording failed.
    """
    recording = RecordingProcess(command, path)
    try:
        TracerApp(recording=recording, ascii_only=_terminal_is_ascii(), settings=load()).run()
        early = recording.running
    finally:
        recording.stop()
    if early and recording.code not in (0, 2):  # 0: complete meanwhile; 2: failed meanwhile, said below
        raise KeyboardInterrupt
    if recording.failure:
        raise TracerError(recording.failure)
    return recording


def _terminal_is_ascii() -> bool:
    stream = sys.__stderr__
    return not encodes_glyphs(stream.encoding if stream else None)
