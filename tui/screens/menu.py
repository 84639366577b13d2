"""A menu over the screen: each line has a letter of its own, and can be clicked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Click, Key
from textual.screen import ModalScreen

from tui.lines.menus import Item, menu_line
from tui.looks.panes import framed
from tui.looks.roles import Role
from tui.widgets.line_list import HEADING, LineList


class MenuList(LineList):
    """The lines; one click chooses."""

    def on_click(self, event: Click) -> None:
        """Choose the line that was clicked."""
        event.prevent_default()
        offset = event.get_content_offset(self)
        index = offset.y - HEADING + round(self.scroll_y) if offset is not None else -1
        if offset is not None and offset.y >= HEADING and index < self.count:
            self.move(index)
            self.post_message(self.Chosen(index))


class MenuScreen(ModalScreen[None]):
    """Lies over a screen. `items` are asked for again after each choice where the menu stays."""

    DEFAULT_CSS = framed("MenuScreen", "#menu")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Close"),
        Binding("enter", "choose", "Choose"),
    ]

    def __init__(
        self,
        title: str,
        items: Callable[[], Sequence[Item]],
        choose: Callable[[str], None],
        stays: bool = False,
        heading: str = "",
    ) -> None:
        super().__init__()
        self._title = title
        self._ask = items
        self._choose = choose
        self._stays = stays
        self._heading = heading
        self._items: Sequence[Item] = ()

    def compose(self) -> ComposeResult:
        """The lines in a frame."""
        lines = MenuList(id="menu")
        lines.border_title = self._title
        lines.border_subtitle = "Esc closes" if not self._stays else "several can be chosen, Esc closes"
        yield lines

    def on_mount(self) -> None:
        """Show the items, the cursor on the first that holds."""
        self._show()
        self._list.move(next((index for index, item in enumerate(self._items) if item.on), 0))
        titles = max((cell_len(item.title) for item in self._items), default=10)
        notes = max((cell_len(item.note) for item in self._items), default=0)
        self._list.styles.width = min(titles + notes + 14, 100)
        self._list.styles.height = len(self._items) + 3

    def on_key(self, event: Key) -> None:
        """A letter chooses its line."""
        for item in self._items:
            if item.key and event.character == item.key:
                event.stop()
                event.prevent_default()
                self._take(item)
                return

    def on_line_list_chosen(self, event: LineList.Chosen) -> None:
        """A click."""
        self._take(self._items[event.index])

    def action_choose(self) -> None:
        """The line of the cursor."""
        if self._items:
            self._take(self._items[self._list.cursor])

    @property
    def _list(self) -> MenuList:
        return self.query_one("#menu", MenuList)

    def _take(self, item: Item) -> None:
        if not self.is_current:  # a second key that came before the first had closed the menu
            return
        if not self._stays:
            self.dismiss()
        self._choose(item.value)
        if self._stays:
            self._show()

    def _show(self) -> None:
        self._items = self._ask()
        titles = max((cell_len(item.title) for item in self._items), default=10)
        items = self._items
        self._list.show(
            len(items),
            lambda width: [("     " + self._heading, Role.MUTED)],
            lambda index, width: menu_line(items[index], titles, width),
        )
