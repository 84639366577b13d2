"""The thrifty driver: whatever is painted, the terminal shows the same, and what did not change is not sent."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tui.terminal.changed_cells import Shadow

_STYLES = [
    "",
    "1",
    "38;2;255;160;46;48;2;18;21;27",
    "1;38;2;95;175;255;48;2;18;21;27",
    "4;38;5;188",
    "7",
    "2;3;38;2;8;8;8;48;2;255;255;255",
    "31;42",
    "97;100",
]
_WORDS = ["a", "  ", "      ", "self leak", "+1.25", "◆", "█▌ │", "世界", "e\u0301", "▸ x", "-770.0      "]
_ATTRIBUTES = {"22": "12", "23": "3", "24": "4", "25": "56", "27": "7", "29": "9"}


@dataclass
class Screen:
    """A terminal that knows what Textual sends, written another way than the code under test: a cell at a time."""

    cells: dict[tuple[int, int], tuple[str, object]] = field(default_factory=dict)
    at: tuple[int, int] = (0, 0)

    def feed(self, data: str) -> None:
        style: tuple[frozenset[str], str, str] = (frozenset(), "", "")
        position = 0
        while position < len(data):
            if match := re.compile(r"\x1b\[(\d*);?(\d*)H").match(data, position):
                self.at = (int(match[1] or 1) - 1, int(match[2] or 1) - 1)
            elif match := re.compile(r"\x1b\[([\d;]*)m").match(data, position):
                style = self._style(style, match[1].split(";"))
            elif match := re.compile(r"\x1b\[2J").match(data, position):
                self.cells.clear()
            elif match := re.compile(r"\x1b\[\?\d+[hl]").match(data, position):
                pass
            elif data[position] == "\n":
                self.at = (self.at[0] + 1, self.at[1])
                position += 1
                continue
            else:
                self._put(data[position], style)
                position += 1
                continue
            position = match.end()

    def _put(self, letter: str, style: tuple[frozenset[str], str, str]) -> None:
        line, column = self.at
        width = cell_len(letter)
        if width == 0:
            before = (line, column - 1)
            before = before if self.cells[before][0] else (line, column - 2)
            self.cells[before] = (self.cells[before][0] + letter, style)
            return
        for place in range(column, column + width):
            self._split(line, place)
        self.cells[line, column] = (letter, style)
        if width == 2:
            self.cells[line, column + 1] = ("", style)
        self.at = (line, column + width)

    def _split(self, line: int, column: int) -> None:
        """Blank the other half of a wide letter."""
        letter, style = self.cells.get((line, column), (" ", None))
        if not letter:
            self.cells[line, column - 1] = (" ", style)
        elif self.cells.get((line, column + 1), ("x", None))[0] == "":
            self.cells[line, column + 1] = (" ", style)

    @staticmethod
    def _style(style: tuple[frozenset[str], str, str], codes: list[str]) -> tuple[frozenset[str], str, str]:
        attributes, ink, ground = style
        while codes:
            code = codes.pop(0) or "0"
            if code in ("38", "48"):
                rest, codes = (codes[:4], codes[4:]) if codes[0] == "2" else (codes[:2], codes[2:])
                colour = "rgb " + " ".join(rest[1:]) if rest[0] == "2" else Screen._number(int(rest[1]))
                ink, ground = (colour, ground) if code == "38" else (ink, colour)
            elif code == "0":
                attributes, ink, ground = frozenset(), "", ""
            elif code in _ATTRIBUTES:
                attributes -= set(_ATTRIBUTES[code])
            elif 30 <= int(code) <= 37 or 90 <= int(code) <= 97:
                ink = code
            elif 40 <= int(code) <= 47 or 100 <= int(code) <= 107:
                ground = code
            else:
                attributes |= {code}
        return attributes, ink, ground

    @staticmethod
    def _number(index: int) -> str:
        """The colour of this number in the palette of 256."""
        if index >= 232:
            return "rgb " + " ".join([str(8 + 10 * (index - 232))] * 3)
        levels = (0, 95, 135, 175, 215, 255)
        rest = index - 16
        return "rgb " + " ".join(str(levels[part]) for part in (rest // 36, rest // 6 % 6, rest % 6))

    def seen(self) -> dict[tuple[int, int], tuple[str, object]]:
        """What a person sees: of a blank nothing but its ground, unless it is underlined or reversed."""
        shown = {}
        for place, (letter, style) in self.cells.items():
            if letter == " " and style is not None:
                attributes, _, ground = style  # type: ignore[misc]
                if not attributes & {"4", "7", "9"}:
                    style = ground
            shown[place] = (letter, style)
        return shown


@st.composite
def frames(draw: st.DrawFn) -> str:
    """What one refresh of Textual sends: spans of styled text, each at its place."""
    parts: list[str] = []
    for _ in range(draw(st.integers(1, 6))):
        if draw(st.integers(0, 9)) == 0:
            parts.append(draw(st.sampled_from(["\x1b[?25l", "\x1b[?2026h", "\x1b[2J"])))
        parts.append(f"\x1b[{draw(st.integers(1, 4))};{draw(st.integers(1, 12))}H")
        for _ in range(draw(st.integers(1, 5))):
            style, word = draw(st.sampled_from(_STYLES)), draw(st.sampled_from(_WORDS))
            parts.append(f"\x1b[{style}m{word}\x1b[0m" if style else word)
        if draw(st.booleans()):
            parts.append("\n")
    return "".join(parts) + "\x1b[1;1H"


@settings(max_examples=250, deadline=None)
@given(st.lists(frames(), min_size=1, max_size=6), st.integers(0, 6))
def test_the_terminal_shows_what_was_painted(sent: list[str], forget_at: int) -> None:
    shadow, plain, thrifty = Shadow(), Screen(), Screen()
    for place, data in enumerate(sent):
        if place == forget_at:
            shadow.forget()
        plain.feed(data)
        thrifty.feed(shadow.reduce(data))
        assert thrifty.seen() == plain.seen()
        assert thrifty.at == plain.at


@given(frames())
def test_what_stands_there_already_is_not_sent_again(data: str) -> None:
    shadow = Shadow()
    shadow.reduce(data)
    if "\x1b[2J" not in data:
        # A combining letter or the half of a wide one cannot be told apart from what it was written over.
        again = shadow.reduce(data)
        once = shadow.reduce(data)
        assert once == again
        lines = re.findall(r"\x1b\[(\d+);\d+H", data)
        if data.isascii() and len(set(lines)) == len(lines):  # no cell is written over
            assert not re.sub(r"\x1b\[[?\d;]*[Hhlm]", "", again)


def test_wide_letters_that_stay_are_not_sent_again() -> None:
    shadow = Shadow()
    frame = "\x1b[1;1H世界 e\u0301\x1b[1;1H"
    assert "世界" in shadow.reduce(frame)
    assert shadow.reduce(frame) == "\x1b[1;1H"


def test_one_changed_figure_costs_a_few_bytes() -> None:
    def line(figure: str) -> str:
        return f"\x1b[3;1H\x1b[38;2;1;2;3mleak\x1b[0m\x1b[38;2;4;5;6m {figure} \x1b[0m{'type':<90}\x1b[1;1H"

    shadow = Shadow()
    first = shadow.reduce(line("-770.0"))
    second = shadow.reduce(line("-771.0"))
    assert len(first) > 100
    assert second == "\x1b[3;9H\x1b[38;2;4;5;6m1\x1b[0m\x1b[1;1H"


def test_a_colour_that_the_palette_has_is_sent_by_its_number() -> None:
    assert "38;5;75" in Shadow().reduce("\x1b[1;1H\x1b[38;2;95;175;255mx\x1b[0m")
    assert "38;5;246" in Shadow().reduce("\x1b[1;1H\x1b[38;2;148;148;148mx\x1b[0m")


@pytest.mark.parametrize(
    "odd", ["\x1bPtmux;x\x1b\\", "\x1b]52;c;eA==\x07", "\x1b[?1049h", "\x07", "\x1b[5A", "text first"]
)
def test_what_is_no_frame_goes_through(odd: str) -> None:
    shadow = Shadow()
    shadow.reduce("\x1b[1;1Hxyz\x1b[1;1H")
    assert odd in shadow.reduce(odd)


@pytest.mark.parametrize("painting", ["\x1b[2J", "\x1b[?1049h", "text first", "\x1bc", "\x1b[1;1Hx\x1b"])
def test_after_what_may_paint_everything_is_sent_again(painting: str) -> None:
    shadow = Shadow()
    frame = "\x1b[1;1Hxyz\x1b[1;1H"
    shadow.reduce(frame)
    assert "xyz" not in shadow.reduce(frame)
    shadow.reduce(painting)
    assert "xyz" in shadow.reduce(frame)
