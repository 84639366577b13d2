"""What each token carries and gets, as parts of the HTML page: the flow map, and the text with its attributions."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tracer.analysis.flow_map import flow_map
from tracer.analysis.verdict import changes
from tracer.errors import InputError
from tracer.report.contents import TraceReport, token_attributions
from tracer.report.flow_svg import NEGATIVE, POSITIVE, flow_svg
from tracer.report.html_parts import text
from tracer.text import figure

_MOST_TOKENS = 5_000
_STRONGEST = 0.6


def flow(report: TraceReport) -> Iterator[str]:
    """The flow map of the example shown, or of the first; or why there is none."""
    if not report.complete:
        return
    example = report.example or 0
    try:
        mapped = flow_map(report.trace, example)
    except InputError as error:
        yield f'<h2>Flow map</h2><p class="muted">{text(str(error))}</p>'
        return
    paths = [report.trace.columns.paths[node] or "the model's input" for node in mapped.nodes]
    which = f" Example {example} of {report.trace.run.examples}." if report.trace.run.examples > 1 else ""
    change = float(changes(report.trace.run)[example])
    yield (
        "<h2>Flow map</h2><p>What each token carries of the output's change after each layer, from the input down to "
        f"the output. A row should sum to {figure(change, signed=True)}; its sum stands behind it.{which}</p>"
    )
    yield f'<div class="scroll">{flow_svg(mapped, paths)}</div>'
    yield f'<p class="muted">Colours are relative to each row\'s largest: {_key(POSITIVE, "+")} adds to the output, '
    yield f"{_key(NEGATIVE, '−')} takes from it.</p>"


def _key(colour: str, sign: str) -> str:
    return f'<span style="background:{colour};padding:0 .35em;border-radius:2px">{sign}</span>'


def tokens(report: TraceReport) -> Iterator[str]:
    """The text of each example shown, every token coloured by its attribution."""
    rows: dict[int, list[tuple[str, float]]] = {}
    for index, token, value in token_attributions(report.trace, report.example):
        rows.setdefault(index, []).append((token, value))
    if not rows:
        return
    yield "<h2>Tokens</h2>"
    left = _MOST_TOKENS
    for index, row in rows.items():
        if left <= 0:
            yield f'<p class="muted">Examples from {index} on are left out.</p>'
            return
        if len(rows) > 1:
            yield f"<h3>example {index}</h3>"
        known = [abs(value) for _, value in row if math.isfinite(value)]
        largest = max(known, default=0.0)
        cells = [_token(token, value, largest) for token, value in row[:left]]
        yield f'<p class="tokens">{"".join(cells)}</p>'
        left -= len(cells)


def _token(token: str, value: float, largest: float) -> str:
    strength = _STRONGEST * abs(value) / largest if largest and math.isfinite(value) else 0.0
    red, green, blue = (int((POSITIVE if value > 0 else NEGATIVE)[at : at + 2], 16) for at in (1, 3, 5))
    style = f' style="background:rgba({red},{green},{blue},{strength:.2f})"' if strength else ""
    told = "" if math.isnan(value) else figure(float(f"{value:.2g}"), signed=True)
    return f"<span{style}>{text(token) or '&nbsp;'}<small>{told}</small></span>"
