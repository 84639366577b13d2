"""Texts that a terminal, a page, an issue thread or a spreadsheet would obey, and a trace that has them everywhere."""

from __future__ import annotations

import json
import sqlite3
import unicodedata
from contextlib import closing
from pathlib import Path

ACTIVE = {
    "colour": "\x1b[31mred",
    "clear": "\x1b[2J\x1b[H",
    "title": "\x1b]0;title\a",
    "link": "\x1b]8;;https://evil.example\x1b\\text\x1b]8;;\x1b\\",
    "clipboard": "\x1b]52;c;ZXZpbA==\a",
    "C1": "\x9b31m\x9d52;c;ZXZpbA==\x9c\x85",
    "device": "\x1bP$q\"p\x1b\\\x1b[6n\x05",
    "bidi": "\u202egnp.exe\u202c \u2066x\u2069 \u200f",
    "invisible": "a\u200bb\ufeffc\u00ad\u2060\U000e0041",
    "lines": "a\nb\rc\td\x0be\x0cf\u2028g\u2029h",
    "null": "a\0b\x7f\x08",
    "HTML": "<script>alert(1)</script><img src=x onerror=y>\"'&lt;</td></tr>",
    "Markdown": "[x](https://evil.example) ![y](z) `c` ``d`` | e | @maintainer #1 **b**",
    "markup": "[red]bold[/] [@click=app.evil]x[/] [link=https://evil.example]y[/]",
    "formula": "=HYPERLINK(\"https://evil.example\")",
    "plus": "+1",
    "minus": "-1+1",
    "at": "@SUM(A1)",
    "mixed": "\x1b[2J\x9b1m\u202e\u200b\x1b]8;;u\a\n\u2028\t\x1b]52;c;eA==\a",  # in the first few characters
    "template": "${7*7} {{7*7}} %s %n {0}",
}  # fmt: skip


def write_hostile(source: Path, target: Path, text: str, keep_types: bool = False) -> Path:
    """A copy of a trace in which `text` stands in every field that holds text.

    `keep_types` leaves the calls' types as they are: some views show calls of certain types only.
    """
    target.write_bytes(source.read_bytes())
    quoted = json.dumps(text)
    with closing(sqlite3.connect(target)) as connection:
        for column in ("model", "method", "variant", "message", "started", "rulebook", "target", "text", "reference"):
            connection.execute(f"UPDATE run SET {column} = ?", (text,))
        ((tokens,),) = connection.execute("SELECT json_array_length(tokens, '$[0]') FROM run").fetchall()
        ((examples,),) = connection.execute("SELECT json_array_length(tokens) FROM run").fetchall()
        rows = json.dumps([[text] * (tokens or 0)] * (examples or 0))
        connection.execute("UPDATE run SET tokens = ?, reference_tokens = ?", (rows, rows))
        connection.execute("UPDATE run SET versions = ?", (f"{{{quoted}: {quoted}}}",))
        command = json.dumps({"model": text, "text": text, "method": "captum"})
        connection.execute("UPDATE run SET command = ?", (command,))
        panel = json.loads(connection.execute("SELECT panel FROM run").fetchone()[0])
        panel["labels"] = panel["labels"] and [text] * len(panel["labels"])
        panel["rankings"] = [{**ranking, "name": text, "note": text} for ranking in panel["rankings"]]
        panel["hooks"] |= {"version": text, "path": text, "hooked": {text: 1}, "unhooked": {text: 2}}
        connection.execute("UPDATE run SET panel = ?", (json.dumps(panel),))
        connection.execute("UPDATE node SET path = ? || id, source = ?, rule = ?", (text,) * 3)
        if not keep_types:
            connection.execute("UPDATE node SET type = ?", (text,))
        connection.execute("UPDATE edge SET name = ?", (text,))
        for what in ("training mode", "reused module", "random call", text):
            row = (what, text, text, text)
            connection.execute("INSERT INTO note (what, path, detail, source) VALUES (?, ?, ?, ?)", row)
        for step in (0, 1, 2):
            connection.execute(
                "INSERT INTO counterfactual SELECT NULL, ?, ?, ?, ?, 0, delta, x'', 0 FROM run",
                (step, text, text, f"[{quoted}]"),
            )
        connection.execute(
            "INSERT INTO finding SELECT NULL, ?, path, 0, ?, 1, ?, ?, ?, 0, 1, '[1]', '[]', ? FROM node WHERE id = 1",
            (*(text,) * 5, f"[[{quoted}, 1]]"),
        )
        connection.commit()
    return target


def obeyed(text: str, also: str = "\n") -> list[str]:
    """What stands in `text` that a terminal obeys or that hides; `also` is let through."""
    categories = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return [repr(each) for each in text if each not in also and unicodedata.category(each) in categories]
