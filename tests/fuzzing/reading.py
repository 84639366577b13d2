"""Reads everything that a trace file gives: each part is refused in one clear line, or of the right types."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from html.parser import HTMLParser
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import safetensors.numpy

from tracer.analysis.compare import compare
from tracer.analysis.flow_map import flow_map
from tracer.analysis.verdict import Verdict, verdict
from tracer.diagnosis.faults import diagnose
from tracer.errors import InputError, TraceFileError
from tracer.records import Counterfactual, Edge, EvidenceName, Finding, FindingKind, Node, Note, NoteKind, Run
from tracer.report.csv_json import csv_lines, json_lines
from tracer.report.data import report_data, report_json
from tracer.report.html import fragment, report_html
from tracer.report.markdown import report_markdown
from tracer.report.safetensors import write_safetensors
from tracer.report.text import report_text
from tracer.tracefile.columns import Columns
from tracer.tracefile.trace import Trace, open_trace

_NODES = 8  # whose edges and tensors are read, of a trace of more
_NAMES = ("input", "reference", "multiplier_in", "output", "output_reference", "multiplier_out")
_LONGEST_MESSAGE = 600
# A file may name kinds that only another version of the program knows: there they are texts.
_OPEN = (NoteKind, FindingKind, FindingKind | Literal[""], EvidenceName)
csv.field_size_limit(2**30)


_ELEMENTS = {
    "a", "b", "body", "code", "dd", "details", "div", "dl", "dt", "g", "h1", "h2", "h3", "head", "html", "i", "li",
    "main", "meta", "ol", "p", "pre", "rect", "section", "small", "span", "style", "summary", "svg", "table", "td",
    "text", "th", "title", "tr", "ul",
}  # fmt: skip
_ATTRIBUTES = {
    "aria-label", "charset", "class", "content", "fill", "fill-opacity", "font-family", "font-size", "font-style",
    "height", "href", "http-equiv", "lang", "name", "open", "pointer-events", "role", "style", "text-anchor",
    "transform", "viewbox", "width", "x", "xmlns", "y",
}  # fmt: skip


class Unsound(Exception):
    """A part is neither refused nor right: of a wrong type, or its refusal is not a clear line."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """`refused` says why a part was refused, `figures` has a fingerprint of each part that was read.

    `longest` is the most processor time that one part took, in seconds.
    """

    refused: dict[str, str]
    figures: dict[str, str]
    longest: float = 0.0


def read_everything(path: Path, forms: Sequence[str] = ()) -> Reading:
    """All parts of the trace at `path`, and views of it in these forms; errors that are not ours go to the caller.

    All views are made of the same parts: to make each of them of every file would take most of the time.
    """
    refused: dict[str, str] = {}
    figures: dict[str, str] = {}
    start = time.process_time()
    try:
        trace = open_trace(path)
    except TraceFileError as error:
        return Reading({"opening": _clear(error)}, {}, time.process_time() - start)
    longest = time.process_time() - start
    with trace:
        for name, read, annotation in (*_parts(trace), *((form, partial(FORMS[form], trace), Any) for form in forms)):
            start = time.process_time()
            try:
                value = read()
            except (TraceFileError, InputError) as error:
                refused[name] = _clear(error)
                continue
            finally:
                longest = max(longest, time.process_time() - start)
            if not _fits(value, annotation):
                raise Unsound(f"{name} is not of type {annotation}: {value!r}"[:2000])
            figures[name] = _fingerprint(value)
    return Reading(refused, figures, longest)


def _parts(trace: Trace) -> Iterator[tuple[str, Callable[[], object], Any]]:
    """The name of each part, how to read it, and of what type it must be."""
    yield "run", lambda: trace.run, Run
    yield "notes", lambda: trace.notes, tuple[Note, ...]
    yield "counterfactuals", lambda: trace.counterfactuals, tuple[Counterfactual, ...]
    yield "findings", lambda: trace.findings, tuple[Finding, ...]
    yield "columns", lambda: trace.columns, Columns
    yield "attributions", lambda: trace.attributions, Any
    yield "nodes", lambda: tuple(trace.nodes), tuple[Node, ...]
    yield "worst", lambda: trace.worst(3), list[Node]
    yield "last node", lambda: trace.nodes[-1:], list[Node]
    yield "found", lambda: [trace.find(path, call) for path, call in _places(trace)], list[Node]
    yield "verdict", lambda: verdict(trace), Verdict
    yield "leaks", lambda: trace.leaks(trace.run.examples - 1), Any
    yield "findings", lambda: diagnose(trace, 0), tuple[Finding, ...]
    yield "flow", lambda: flow_map(trace), Any
    yield "ledger", lambda: trace.query("SELECT path, share FROM ledger ORDER BY abs(self_leak) LIMIT 5"), Any
    try:
        count = len(trace.nodes)
    except TraceFileError:
        count = 3
    for node in range(0, count, max(count // _NODES, 1)):
        yield f"edges {node}", lambda node=node: trace.edges(node), tuple[Edge, ...]
        for name in _NAMES:
            yield f"{name} {node}", lambda node=node, name=name: trace.tensor(node, name), Any
        yield f"rows {node}", lambda node=node: trace.tensor_rows(node, "multiplier_out", 1, 3), Any


def _text(trace: Trace) -> str:
    return _printable(report_text(trace, example=max(trace.run.examples - 1, 0)))


def _markdown(trace: Trace) -> str:
    text = _printable(report_markdown(trace, example=0).replace("\u200b", ""))  # which it puts in to break links
    if re.search(r"<(?!/?code>)", re.sub(r"`[^`\n]*`", "", text)):
        raise Unsound("HTML in the Markdown")
    return text


def _page(trace: Trace) -> str:
    text = _printable(report_html(trace))
    _Tags().feed(text)
    return text


def _fragment(trace: Trace) -> str:
    text = _printable(fragment(trace))
    _Tags().feed(text)
    return text


def _safetensors(trace: Trace) -> object:
    file = io.BytesIO()
    write_safetensors(trace, file)
    return safetensors.numpy.load(file.getvalue()).keys() if _known(trace) else len(file.getvalue())


def _known(trace: Trace) -> bool:
    return not trace.query("SELECT 1 FROM tensor WHERE dtype = 'bfloat16'")  # the reader here has no such dtype


FORMS: dict[str, Callable[[Trace], object]] = {
    "text": _text,
    "JSON": lambda trace: _strict(report_json(report_data(trace))),
    "Markdown": _markdown,
    "HTML": _page,
    "fragment": _fragment,
    "export to JSON": lambda trace: _strict("".join(json_lines(trace))),
    "export to CSV": lambda trace: list(csv.reader(csv_lines(trace))),
    "export to safetensors": _safetensors,
    "comparison": lambda trace: compare(trace, trace),
}


class _Tags(HTMLParser):
    """Refuses an element or attribute that no page of ours has."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for each tag that opens."""
        if tag not in _ELEMENTS or not {name for name, _ in attrs} <= _ATTRIBUTES:
            raise Unsound(f"<{tag} {attrs}> in a page")


def _places(trace: Trace) -> list[tuple[str, int]]:
    found = trace.columns
    return list(zip(found.paths, found.call.tolist(), strict=True))[:: max(len(found.paths) // 5, 1)]


def _clear(error: Exception) -> str:
    message = str(error)
    if not message.isprintable() or len(message) > _LONGEST_MESSAGE:
        raise Unsound(f"the message is not a clear line: {message[:_LONGEST_MESSAGE]!r}") from error
    return message


def _printable(text: str) -> str:
    for line in text.split("\n"):
        if not line.isprintable():
            raise Unsound(f"a terminal would obey {line[:200]!r}")
    return text


def _strict(text: str) -> str:
    def refuse(constant: str) -> None:
        raise Unsound(f"{constant} is not strict JSON")

    json.loads(text, parse_constant=refuse)
    if not text.isascii():
        raise Unsound("the JSON is not escaped")
    return text


def _fits(value: Any, annotation: Any) -> bool:
    """Whether `value` is exactly what the annotation says, deep down."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if dataclasses.is_dataclass(annotation):
        hints = _hints(annotation)  # type: ignore[arg-type]
        return type(value) is annotation and all(_fits(getattr(value, name), hint) for name, hint in hints.items())
    if annotation in _OPEN:
        return isinstance(value, str)
    if origin is Literal:
        return value in arguments
    if origin is UnionType:
        return any(_fits(value, argument) for argument in arguments)
    if origin is np.ndarray:
        return isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype == get_args(arguments[1])[0]
    if origin is tuple and arguments[-1] is not ...:
        return isinstance(value, tuple) and all(map(_fits, value, arguments))
    if origin in (tuple, list):
        return isinstance(value, origin) and all(_fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(item, arguments) for item in value.items())
    if isinstance(annotation, tuple):
        return all(map(_fits, value, annotation))
    if annotation is Any:
        return True
    if annotation is float:  # as annotations have it, an int is one too
        return isinstance(value, float | int) and not isinstance(value, bool)
    return type(value) is (NoneType if annotation is None else annotation)


@cache
def _hints(annotation: type) -> dict[str, Any]:
    return get_type_hints(annotation)


def _fingerprint(value: object) -> str:
    digest = hashlib.blake2b(digest_size=8)
    _feed(digest.update, value)
    return digest.hexdigest()


def _feed(update: Callable[[bytes], None], value: Any) -> None:
    if isinstance(value, np.ndarray):
        update(f"{value.dtype}{value.shape}".encode())
        update(np.ascontiguousarray(value).tobytes())
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            _feed(update, getattr(value, field.name))
    elif isinstance(value, list | tuple):
        update(f"{len(value)}".encode())
        for item in value:
            _feed(update, item)
    else:
        update(repr(value).encode())
