"""Sends the terminal only the cells that changed: Textual repaints whole lines, most of whose cells are the same.

A key that moves the cursor changes two lines and some figures; the rest would make a slow connection feel slow.
"""

from __future__ import annotations

import re
from functools import lru_cache

from rich.cells import get_character_cell_size
from textual.driver import Driver

_TOKEN = re.compile(
    r"(?P<text>[^\x00-\x1f\x7f]+)"
    r"|\x1b\[(?P<style>[\d;]*)m"
    r"|\x1b\[(?P<line>\d*);?(?P<column>\d*)H"
    r"|(?P<feed>\n)"
    r"|(?P<other>\x1b\[[<=>?!]*[\d;:]*[ -/]*[@-~]|\x1b[\]P_^X].*?(?:\x07|\x1b\\)|\x1b[^\[\]P_^X]|[\x00-\x1f\x7f])",
    re.DOTALL,
)
# Modes of cursor, mouse, keyboard and synchronised output, titles, and queries: none of them paints.
_HARMLESS = re.compile(
    r"\x1b\[\?(?:25|100[0-6]|101[56]|2004|2026|2031|2048)[hl]|\x1b\](?!104).*|\x1b\[[<=>?]+[\d;]*\$?[unpq]", re.DOTALL
)
_GAP = 7  # a jump over so few cells takes as many bytes as they do

Style = tuple[str, str, str]
"""Attributes, ink and ground as SGR parameters; "" is the terminal's own."""
ScreenCell = tuple[str, Style]
"""A letter on the screen with its style; "" is the right half of a wide letter."""
ScreenCells = list[ScreenCell | None]

_DEFAULT: Style = ("", "", "")
_BLANK: ScreenCell = (" ", _DEFAULT)


class Shadow:
    """What the terminal shows as far as that is known: each line's cells from the left, None for an unknown one."""

    def __init__(self) -> None:
        self._lines: dict[int, ScreenCells] = {}

    def forget(self) -> None:
        """Forget all cells, as after a change of size: the next picture is sent in full."""
        self._lines.clear()

    def reduce(self, data: str) -> str:
        """What has to be sent for the terminal to show what it would show after `data`.

        `data` begins in the terminal's own style and places its text, as Textual's frames do; other data is sent as it
        is, and all cells are unknown after it. Sequences that are neither text, style nor place are sent as they are.
        """
        out: list[str] = []
        style, line, column = _DEFAULT, -1, 0
        changed: dict[int, list[tuple[int, int]]] = {}
        end = 0
        for token in _TOKEN.finditer(data):
            if token.start() != end:
                break
            end, kind = token.end(), token.lastgroup
            if kind == "text":
                if line < 0:
                    end = -1
                    break
                column = self._write(line, column, _cells(token["text"], style), changed.setdefault(line, []))
            elif kind == "style":
                style = _styled(style, token["style"])
            elif kind == "feed":
                line += line >= 0
            elif kind == "other":
                out += (self._painted(changed), token["other"])
                if not _HARMLESS.fullmatch(token["other"]):
                    self.forget()
                    line = -1
            else:
                line, column = int(token["line"] or 1) - 1, int(token["column"] or 1) - 1
        if end != len(data):
            self.forget()
            return data
        out.append(self._painted(changed))
        if line >= 0:
            out.append(f"\x1b[{line + 1};{column + 1}H")
        return "".join(out)

    def _write(self, line: int, column: int, new: ScreenCells, changed: list[tuple[int, int]]) -> int:
        """Note the cells at a place and add what they change to `changed`; gives the column after them."""
        known = self._lines.setdefault(line, [])
        end = column + len(new)
        if len(known) < end:
            known.extend([None] * (end - len(known)))
        old = known[column:end]
        if old == new:
            return end
        known[column:end] = new
        if _is_plain(old) and _is_plain(new) and _is_plain(known[end : end + 1]):
            last = -_GAP - 1
            for at, (was, now) in enumerate(zip(old, new, strict=True), column):
                if was != now:
                    if at - last <= _GAP:
                        changed[-1] = (changed[-1][0], at + 1)
                    else:
                        changed.append((at, at + 1))
                    last = at
            return end
        # A terminal blanks the other half of a wide letter that is written over; it is sent, so as to be sure.
        first, last = column, end
        if old and (cell := old[0]) is not None and not cell[0] and column:
            first = column - 1
            known[first] = (" ", _blank(cell[1]))
        if end < len(known) and (cell := known[end]) is not None and not cell[0]:
            last = end + 1
            known[end] = (" ", _blank(cell[1]))
        changed.append((first, last))
        return end

    def _painted(self, changed: dict[int, list[tuple[int, int]]]) -> str:
        """The changed cells as text for the terminal, which ends in its own style; empties `changed`."""
        parts: list[str] = []
        style = _DEFAULT
        for line, spans in changed.items():
            known = self._lines[line]
            for start, end in _joined(spans, known):
                parts.append(f"\x1b[{line + 1};{start + 1}H")
                for cell in known[start:end]:
                    letter, wanted = cell or _BLANK
                    if wanted is not style and wanted != style and (letter != " " or wanted != _blank(style)):
                        parts.append(_change(style, wanted))
                        style = wanted
                    parts.append(letter)
        changed.clear()
        if style != _DEFAULT:
            parts.append("\x1b[0m")
        return "".join(parts)


def thrifty(driver: type[Driver], shadow: Shadow) -> type[Driver]:
    """A driver like this one that sends only what `shadow` says has changed."""

    class ThriftyDriver(driver):  # type: ignore[valid-type,misc]
        def write(self, data: str) -> None:
            reduced = shadow.reduce(data)
            if reduced:
                super().write(reduced)

    return ThriftyDriver


def _joined(spans: list[tuple[int, int]], known: ScreenCells) -> list[tuple[int, int]]:
    """The spans by column, those with only a small gap of known cells between them as one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start - joined[-1][1] <= _GAP and None not in known[joined[-1][1] : start]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _cells(text: str, style: Style) -> ScreenCells:
    blank = _blank(style)
    if text.isascii():
        return [(letter, blank if letter == " " else style) for letter in text]
    cells: ScreenCells = []
    for letter in text:
        width = get_character_cell_size(letter)
        if width == 0 and cells and cells[-1] is not None:
            place = -2 if len(cells) > 1 and not cells[-1][0] else -1
            under = cells[place]
            cells[place] = (under[0] + letter if under else letter, style)
        else:
            cells.append((letter, blank if letter == " " else style))
            cells += [("", style)] * (width - 1)
    return cells


def _is_plain(cells: ScreenCells) -> bool:
    """Whether each cell has one letter of its own."""
    return all(cell is None or len(cell[0]) == 1 for cell in cells)


@lru_cache(maxsize=4096)
def _blank(style: Style) -> Style:
    """The style of a space: nothing but its ground can be seen of it, unless it is underlined or the like."""
    return style if set(style[0].split(";")) & {"4", "7", "9", "21", "53"} else ("", "", style[2])


@lru_cache(maxsize=4096)
def _styled(style: Style, parameters: str) -> Style:
    """The style after an SGR sequence with these parameters."""
    attributes, ink, ground = set(filter(None, style[0].split(";"))), style[1], style[2]
    codes = [code or "0" for code in parameters.split(";")]
    while codes:
        code = codes.pop(0)
        if code in ("38", "48"):
            count = 2 if codes[:1] == ["5"] else 4
            colour = _shortest(";".join([code, *codes[:count]]))
            del codes[:count]
            ink, ground = (colour, ground) if code == "38" else (ink, colour)
        elif code == "0":
            attributes, ink, ground = set(), "", ""
        elif code in ("39", "49"):
            ink, ground = ("", ground) if code == "39" else (ink, "")
        elif code in _ENDS:
            attributes -= _ENDS[code]
        elif len(code) >= 2 and code[-2] in "39":
            ink = code
        elif len(code) >= 2 and code[-2] in "40":
            ground = code
        else:
            attributes.add(code)
    return ";".join(sorted(attributes)), ink, ground


_ENDS = {
    "22": {"1", "2"},
    "23": {"3"},
    "24": {"4", "21"},
    "25": {"5", "6"},
    "27": {"7"},
    "28": {"8"},
    "29": {"9"},
    "55": {"53"},
}
_STEPS = (0, 95, 135, 175, 215, 255)


def _shortest(colour: str) -> str:
    """A colour of 24 bits by its number where the palette of 256 has the very same."""
    kind, _, rest = colour.partition(";2;")
    if not rest:
        return colour
    red, green, blue = map(int, rest.split(";"))
    if red == green == blue and 8 <= red <= 238 and (red - 8) % 10 == 0:
        return f"{kind};5;{232 + (red - 8) // 10}"
    if red in _STEPS and green in _STEPS and blue in _STEPS:
        return f"{kind};5;{16 + 36 * _STEPS.index(red) + 6 * _STEPS.index(green) + _STEPS.index(blue)}"
    return colour


@lru_cache(maxsize=4096)
def _change(style: Style, wanted: Style) -> str:
    """The SGR sequence from one style to another."""
    before, after = set(filter(None, style[0].split(";"))), set(filter(None, wanted[0].split(";")))
    parts: list[str] = []
    if before - after or (style[1] and not wanted[1]) or (style[2] and not wanted[2]):
        parts.append("0" if wanted != _DEFAULT else "")
        before, style = set(), _DEFAULT
    parts += sorted(after - before)
    parts += [new for old, new in zip(style[1:], wanted[1:], strict=True) if new and new != old]
    return f"\x1b[{';'.join(parts)}m"
