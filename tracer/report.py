"""The report on a trace, as data and as plain text. Pure: a trace in, a dict or text out."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tracer.columns import worst_first
from tracer.errors import InputError
from tracer.plain import clean, ending, figure, shorten, times
from tracer.records import Floats, Node, Panel, Ranking
from tracer.trace import Trace
from tracer.verdict import call_name, ranking_warning, verdict

SCHEMA = 1
_SIGNS = {"holds": "HOLDS", "off": "OFF", "broken": "BROKEN", "unfinished": "UNFINISHED"}
_TOP_TOKENS = 5


def report_data(trace: Trace, top: int | None = None, example: int | None = None) -> dict[str, Any]:
    """The report as strict JSON takes it: NaN is None, infinities are "inf" and "-inf".

    Figures are sums over the examples, or those of `example`. `nodes` are worst first, at most `top` of them. A token's
    attribution is the sum over its embedding, None where the attributions are not by token. A ranking's tokens
    stand by falling score.
    """
    run = trace.run
    _, self_leak = trace.leaks(example)
    output, reference, delta = (_shown(array, example) for array in (run.output, run.output_reference, run.delta))
    judged = verdict(trace, example)
    return {
        "schema": SCHEMA,
        "status": run.status,
        "message": run.message,
        "verdict": judged.level,
        "headline": judged.headline,
        "model": run.model,
        "method": run.method,
        "variant": run.variant,
        "target": run.target,
        "text": run.text,
        "reference": run.reference,
        "examples": run.examples,
        "output": _json(output),
        "output_reference": _json(reference),
        "delta": _json(delta),
        "relative_delta": _json(_relative(delta, output - reference)),
        "self_leak_sum": _json(float(sum(self_leak.tolist()))),
        "tokens": [
            {"token": token, "attribution": _json(value), "example": index}
            for index, token, value in _token_attributions(trace, example)
        ],
        "nodes": [_node_data(node, example) for node in _worst(trace, self_leak, top)],
        "findings": [],
        "panel": _panel_data(run.panel, run.tokens[0] if run.tokens else ()),
        "versions": run.versions,
    }


def report_json(data: dict[str, Any]) -> str:
    """`data` as strict JSON, a line for each key and each entry of a list: quick for 100 000 calls, and diffable."""
    parts = []
    for key, value in data.items():
        if isinstance(value, list) and value:
            text = "[\n  " + ",\n  ".join(json.dumps(item, allow_nan=False) for item in value) + "\n ]"
        else:
            text = json.dumps(value, allow_nan=False)
        parts.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def report_text(trace: Trace, top: int = 10, example: int | None = None, width: int = 100) -> str:
    """The report for a terminal of `width` columns: verdict, numbers, sanity panel, the `top` worst calls."""
    judged = verdict(trace, example)
    lines = [*textwrap.wrap(f"{_SIGNS[judged.level]}: {judged.headline}", width), ""]
    lines += _numbers(trace, example)
    lines += _panel(trace, width)
    lines += _calls(trace, example, top, width)
    return "\n".join(lines) + "\n"


def ranked(ranking: Ranking, tokens: Sequence[str]) -> list[tuple[str, float, float]]:
    """(token, score, normalised score) by falling score, NaN last; a score without a token goes by its place."""
    names = [*tokens, *(f"#{index}" for index in range(len(tokens), len(ranking.scores)))]
    rows = list(zip(names, ranking.scores, ranking.normalised, strict=False))
    return sorted(rows, key=lambda row: (math.isnan(row[1]), -row[1]))


def _numbers(trace: Trace, example: int | None) -> Iterator[str]:
    run = trace.run
    output, reference, delta = (_shown(array, example) for array in (run.output, run.output_reference, run.delta))
    ratio = _relative(delta, output - reference)
    leaks = float(sum(trace.leaks(example)[1].tolist()))
    rows = [
        ("model", clean(run.model, 200)),
        ("method", clean(f"{run.method}, {run.variant}" if run.variant else run.method)),
        ("target", clean(run.target)),
        ("text", clean(run.text, 300)),
        ("reference", clean(run.reference, 300)),
        ("examples", _examples(run.examples, example)),
        ("f(x)", figure(output)),
        ("f(x')", f"{figure(reference)}   f(x) - f(x') = {figure(output - reference, signed=True)}"),
        ("delta", f"{figure(delta, signed=True)}   {times(ratio)} f(x) - f(x')"),
        ("not exact", clean(run.message) if run.status == "complete" else ""),
        ("self leaks", f"{figure(leaks, signed=True)} in sum over {len(trace.nodes)} calls"),
    ]
    for name, value in rows:
        if value:
            yield f"{name:<11} {value}"


def _examples(count: int, example: int | None) -> str:
    if count <= 1:
        return ""
    return f"example {example} of {count} (0 to {count - 1})" if example is not None else f"sums over {count}"


def _panel(trace: Trace, width: int) -> Iterator[str]:
    panel = trace.run.panel
    tokens = trace.run.tokens[0] if trace.run.tokens else ()
    if panel.output:
        yield ""
        yield f"{'model output':<22} {'text':>12} {'reference':>12}"
        labels = [*panel.labels, *map(str, range(len(panel.labels), len(panel.output)))]
        for label, output, reference in zip(labels, panel.output, panel.output_reference, strict=False):
            yield f"  {clean(label, 20):<20} {figure(output, signed=True):>12} {figure(reference, signed=True):>12}"
    if panel.rankings:
        yield ""
        yield f"{'top tokens by':<34} {'delta':>12}  tokens (attribution over its norm)"
    for ranking in panel.rankings:
        delta = "" if ranking.delta is None else figure(ranking.delta, signed=True)
        top = [f"{clean(token, 30)} {value:+.2f}" for token, _, value in ranked(ranking, tokens)[:_TOP_TOKENS]]
        while len(top) > 1 and len(", ".join(top)) > width - 49:
            top.pop()
        yield f"  {clean(ranking.name, 32):<32} {delta:>12}  {', '.join(top)}"
    for ranking in panel.rankings:
        warning = ranking_warning(ranking)
        if warning:
            yield from textwrap.wrap(f"warning: {clean(warning)}", width, initial_indent="  ", subsequent_indent="    ")
    if panel.hooks is not None:
        hooks = panel.hooks
        yield ""
        yield f"captum {clean(hooks.version)}: {hooks.summary}   ({clean(hooks.path)})"
        yield f"  hooked      {_counts(hooks.hooked)}"
        yield f"  not hooked  {_counts(hooks.unhooked)}"


def _counts(types: dict[str, int]) -> str:
    ordered = sorted(types.items(), key=lambda item: -item[1])
    return ", ".join(f"{clean(name, 60)} × {count}" for name, count in ordered) or "none"


def _calls(trace: Trace, example: int | None, top: int, width: int) -> Iterator[str]:
    _, self_leak = trace.leaks(example)
    nodes = _worst(trace, self_leak, top)
    yield ""
    if not nodes:
        yield "no call was recorded"
        return
    yield f"{'self leak':>12} {'leak':>12} {'gain':>8}  {'type':<12} worst {len(nodes)} of {len(trace.nodes)} calls"
    for node in nodes:
        own, whole = _shown(node.self_leak, example), _shown(node.leak, example)
        room = max(width - 50, 24)
        yield (
            f"{figure(own, signed=True):>12} {figure(whole, signed=True):>12} {figure(node.gain):>8}  "
            f"{shorten(clean(node.type), 12):<12} {ending(call_name(node), room)}"
        )
        if node.source:
            yield f"{'':>50}{ending(clean(node.source), room)}"


def _worst(trace: Trace, self_leak: Floats, top: int | None) -> list[Node]:
    order = worst_first(self_leak)[:top].tolist()
    if top is not None and top < 1_000:
        return [trace.nodes[node] for node in order]
    nodes = list(trace.nodes)  # one pass over the file beats a look-up for each
    return [nodes[node] for node in order]


def _node_data(node: Node, example: int | None) -> dict[str, Any]:
    return {
        "path": node.path,
        "call": node.call,
        "kind": node.kind,
        "type": node.type,
        "source": node.source,
        "leak": _json(_shown(node.leak, example)),
        "self_leak": _json(_shown(node.self_leak, example)),
        "gain": _json(node.gain),
    }


def _token_attributions(trace: Trace, example: int | None) -> Iterator[tuple[int, str, float]]:
    """(example, token, attribution) of each token of the examples shown."""
    rows = trace.run.tokens
    if not rows:
        return
    first = trace.attributions[0] if trace.attributions else np.zeros(0)
    by_token = None
    if first.ndim >= 2 and first.shape[0] == len(rows):
        by_token = first.reshape(*first.shape[:2], -1).sum(axis=-1, dtype=np.float64)
    for index, tokens in enumerate(rows):
        if example is not None and index != example:
            continue
        fits = by_token is not None and by_token.shape[1] == len(tokens)
        for place, token in enumerate(tokens):
            yield index, token, float(by_token[index, place]) if by_token is not None and fits else math.nan


def _panel_data(panel: Panel, tokens: Sequence[str]) -> dict[str, Any]:
    hooks = panel.hooks
    return {
        "labels": list(panel.labels),
        "output": list(map(_json, panel.output)),
        "output_reference": list(map(_json, panel.output_reference)),
        "rankings": [
            {
                "name": ranking.name,
                "delta": None if ranking.delta is None else _json(ranking.delta),
                "relative_delta": None if ranking.relative_delta is None else _json(ranking.relative_delta),
                "warning": ranking_warning(ranking),
                "tokens": [
                    {"token": token, "score": _json(score), "normalised": _json(normalised)}
                    for token, score, normalised in ranked(ranking, tokens)
                ],
            }
            for ranking in panel.rankings
        ],
        "captum": None
        if hooks is None
        else {
            "version": hooks.version,
            "path": hooks.path,
            "hooked": hooks.hooked,
            "unhooked": hooks.unhooked,
            "summary": hooks.summary,
        },
    }


def _shown(values: Floats, example: int | None) -> float:
    """The sum over the examples, or the figure of one; NaN where an unfinished run has none."""
    if example is None:
        return float(sum(values.tolist()))
    if example >= len(values):
        raise InputError(f"there is no example {example}: the trace holds {len(values)}")
    return float(values[example])


def _relative(delta: float, change: float) -> float:
    return abs(delta) / abs(change) if change else (0.0 if delta == 0 else math.inf)


def _json(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)
