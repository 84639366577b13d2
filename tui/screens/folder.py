"""The traces in a folder: open one, or two side by side, and come back."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.events import Click, Resize, ScreenResume
from textual.message import Message
from textual.screen import Screen

from tracer.analysis.folder import FolderEntry, list_traces
from tracer.errors import TracerError
from tracer.tracefile.trace import Trace, open_trace
from tui import actions
from tui.host import Host, host_of
from tui.keys import Scope
from tui.lines import folder as folder_lines
from tui.lines import layers as layer_lines
from tui.lines.folder import SORTS, Sort
from tui.lines.pieces import paragraph
from tui.looks.panes import titled
from tui.looks.roles import Role
from tui.widgets.footer import Footer
from tui.widgets.header import SHORT
from tui.widgets.line_list import HEADING, LineList
from tui.widgets.lines import LinesView
from tui.widgets.short_lines import ShortLines


class FolderList(LineList):
    """The files; a click on a title sorts by it."""

    class SortWanted(Message):
        """A title was clicked."""

        def __init__(self, sort: Sort) -> None:
            super().__init__()
            self.sort = sort

    def on_click(self, event: Click) -> None:
        """Sort by the title that was clicked; the rest is as in any list."""
        offset = event.get_content_offset(self)
        if offset is not None and offset.y < HEADING:
            event.prevent_default()
            self.post_message(self.SortWanted(folder_lines.sort_at(offset.x, self.scrollable_content_region.width)))


class FolderScreen(Screen[None]):
    """The list over the selected file in words. It is read again whenever it comes up."""

    SCOPE: ClassVar[Scope] = "folder"
    READING = layer_lines.READING
    DEFAULT_CSS = (
        titled("FolderScreen", "#folder")
        + """
    FolderScreen {
        #folder-entry { background: $panel; }
        #folder-empty { padding: 1 2; height: 1fr; }
    }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("folder")]
    AUTO_FOCUS = "#folder"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.entries: list[FolderEntry] = []
        self.sort: Sort = "name"
        self.marks: list[Path] = []
        self._problem = ""
        self._loaded = False

    @property
    def files(self) -> FolderList:
        return self.query_one("#folder", FolderList)

    @property
    def selected(self) -> FolderEntry | None:
        """The file under the cursor."""
        return self.entries[self.files.cursor] if self.entries else None

    def compose(self) -> ComposeResult:
        """The list, the selected file, or why there is none; the keys."""
        yield FolderList(id="folder")
        yield ShortLines(6, id="folder-entry")
        yield LinesView(id="folder-empty")
        yield Footer(self.SCOPE, id="footer")

    def on_screen_resume(self, event: ScreenResume) -> None:
        """Read the folder: a trace may have come, or been completed."""
        self.action_reload()

    def on_resize(self, event: Resize) -> None:
        """Show only the list on a short screen."""
        self._arrange()

    def on_line_list_moved(self, event: LineList.Moved) -> None:
        """Show the file under the cursor in words."""
        self._tell()

    def on_line_list_chosen(self, event: LineList.Chosen) -> None:
        """Open the file that was clicked."""
        self.action_open_trace()

    def on_folder_list_sort_wanted(self, event: FolderList.SortWanted) -> None:
        """Sort as the list asks."""
        self._sort_by(event.sort)

    def action_reload(self) -> None:
        """Read the folder again, in a thread: there may be hundreds of traces."""
        self.run_worker(self._read, thread=True, exclusive=True, exit_on_error=False)

    def action_open_trace(self) -> None:
        """Show the selected trace."""
        if self.selected is not None:
            self._open(self.selected.path)

    def action_mark(self) -> None:
        """Mark the selected trace, or take its mark away; a third mark takes the place of the first."""
        if self.selected is None:
            return
        path = self.selected.path
        self.marks = [mark for mark in self.marks if mark != path] if path in self.marks else [*self.marks[-1:], path]
        self._show()

    def action_compare(self) -> None:
        """Compare the two marked traces, or the marked one with the selected one."""
        if self.selected is None:
            return
        paths = list(dict.fromkeys([*self.marks, self.selected.path]))[:2]
        if len(paths) < 2:
            self.host.say("Mark a trace with m, go to another, then compare with c.")
        else:
            self._open(*paths)

    def action_sort(self) -> None:
        """Offer the orders."""
        from tui.screens.menu import MenuScreen

        def choose(name: str) -> None:
            self._sort_by(next(sort for sort in SORTS if sort == name))

        self.app.push_screen(MenuScreen("Sort by", partial(folder_lines.sort_items, self.sort), choose))

    def action_theme(self) -> None:
        """Offer the themes."""
        from tui.lines.menus import theme_items
        from tui.screens.menu import MenuScreen

        self.app.push_screen(MenuScreen("Theme", partial(theme_items, self.host.look.name), self.host.use_theme))

    def action_redraw(self) -> None:
        """Paint everything again."""
        self.host.action_redraw()

    def action_help(self) -> None:
        from tui.screens.help import HelpScreen

        self.app.push_screen(HelpScreen(self.SCOPE, self.READING))

    async def action_quit(self) -> None:
        self.app.exit()

    @property
    def host(self) -> Host:
        return host_of(self)

    def _open(self, *paths: Path) -> None:
        if not self.is_current:  # a second key that came before the first had opened it
            return
        traces: list[Trace] = []
        try:
            traces += map(open_trace, paths)
            self.host.enter_trace(*traces)
        except TracerError as error:
            for trace in traces:
                trace.close()
            self.host.say(str(error))

    def _read(self) -> None:
        try:
            entries, problem = list_traces(self.folder), ""
        except TracerError as error:
            entries, problem = [], str(error)
        self.app.call_from_thread(self._take, entries, problem)

    def _take(self, entries: list[FolderEntry], problem: str) -> None:
        self._loaded, self._problem = True, problem
        there = {entry.path for entry in entries}
        self.marks = [mark for mark in self.marks if mark in there]
        self._reorder(entries)

    def _sort_by(self, sort: Sort) -> None:
        self.sort = sort
        self._reorder(self.entries)

    def _reorder(self, entries: list[FolderEntry]) -> None:
        """Show the entries in order, the cursor on the file it was on."""
        before = self.selected
        self.entries = folder_lines.sorted_entries(entries, self.sort)
        if before is not None:
            places = [index for index, entry in enumerate(self.entries) if entry.path == before.path]
            self.files.cursor = places[0] if places else self.files.cursor
        self._show()

    def _show(self) -> None:
        entries, marks, sort = self.entries, self.marks, self.sort
        self.files.border_title = Content(folder_lines.summary(entries, str(self.folder), len(marks)))
        self.files.show(
            len(entries),
            lambda width: folder_lines.heading(width, sort),
            lambda index, width: folder_lines.row(entries[index], width, marks),
        )
        self._tell()
        self._arrange()

    def _tell(self) -> None:
        entry = self.selected
        if entry is not None:
            self.query_one("#folder-entry", ShortLines).show(lambda width: folder_lines.entry_lines(entry, width))
            return
        words = self._problem or "This folder holds no traces: 'deeplift-tracer trace' writes them, as NAME.dltrace."
        empty = self.query_one("#folder-empty", LinesView)
        empty.show(lambda width: paragraph(words, width, Role.MUTED))

    def _arrange(self) -> None:
        empty = self._loaded and not self.entries
        self.files.display = not empty
        self.query_one("#folder-entry").display = bool(self.entries) and self.app.size.height >= SHORT
        self.query_one("#folder-empty").display = empty
