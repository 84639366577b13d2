"""The report on a trace as data, and what all its forms (text, Markdown, HTML, JSON) share. Pure: a trace in."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Any

import numpy as np

from tracer.analysis.ladder import Repair, stored_repair
from tracer.analysis.verdict import Verdict, changes, ranking_warning, relative_deltas, verdict, worst_example
from tracer.diagnosis.faults import diagnose, ended_by
from tracer.records import Counterfactual, Finding, Floats, Node, Panel, Ranking
from tracer.text import clean, figure, json_figure, of_example, relative, times
from tracer.tracefile.columns import worst_first
from tracer.tracefile.trace import Trace

SCHEMA = 1
SIGNS = {"holds": "HOLDS", "off": "OFF", "broken": "BROKEN", "unfinished": "UNFINISHED"}


@dataclass(frozen=True)
class Report:
    """What a report tells of a trace, over all examples or of one: each part is worked out when it is asked for."""

    trace: Trace
    example: int | None = None

    @cached_property
    def verdict(self) -> Verdict:
        """Whether the attributions add up."""
        return verdict(self.trace, self.example)

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """The diagnosis, worst first, symptoms under their causes."""
        return diagnose(self.trace, self.example)

    @property
    def complete(self) -> bool:
        """Whether the run has a delta and leaks: one that failed or is not finished has flows of some calls only."""
        return self.trace.run.status == "complete"

    @cached_property
    def headline(self) -> str:
        """The verdict in one sentence; of a failed run the fault that ended it, where that is known."""
        fault = ended_by(self.trace)
        if fault is None:
            return self.verdict.headline
        return f"The run failed before its attribution was complete: {clean(fault.message)}."

    @cached_property
    def repair(self) -> Repair:
        """What was measured with other rules."""
        return stored_repair(self.trace)

    @cached_property
    def self_leak(self) -> Floats:
        """The self leak of each call, (N,)."""
        return self.trace.leaks(self.example)[1]

    @property
    def delta(self) -> float:
        """The convergence delta."""
        return self.figure(self.trace.run.delta)

    @property
    def change(self) -> float:
        """f(x) − f(x')."""
        return self.figure(self.trace.run.output) - self.figure(self.trace.run.output_reference)

    def figure(self, values: Floats) -> float:
        """One number of a figure (E,): the sum over the examples, or that of the one shown; NaN where there is none."""
        return math.nan if len(values) == 0 and self.example is None else of_example(values, self.example)

    def worst(self, top: int | None) -> list[Node]:
        """The calls of the largest |self leak|, worst first: `top` of them, or all; of an incomplete run the last."""
        if self.complete:
            order = worst_first(self.self_leak)[:top].tolist()
        else:
            count = len(self.trace.nodes)
            order = list(range(0 if top is None else max(count - top, 0), count))
        if top is not None and top < 1_000:
            return [self.trace.nodes[node] for node in order]
        nodes = list(self.trace.nodes)  # one pass over the file beats a look-up for each
        return [nodes[node] for node in order]

    def numbers(self) -> list[tuple[str, str]]:
        """What ran on what and what came out, as (name, one clean line of text)."""
        run = self.trace.run
        output, reference, delta = map(self.figure, (run.output, run.output_reference, run.delta))
        ratio = relative(delta, output - reference)
        leaks = float(sum(self.self_leak.tolist()))
        calls = len(self.trace.nodes)
        rows = [
            ("model", clean(run.model, 200)),
            ("method", clean(f"{run.method}, {run.variant}" if run.variant else run.method)),
            ("target", clean(run.target)),
            ("text", clean(run.text, 300)),
            ("reference", clean(run.reference, 300)),
            ("examples", _examples(run.examples, self.example)),
            ("f(x)", figure(output)),
            ("f(x')", f"{figure(reference)}   f(x) - f(x') = {figure(output - reference, signed=True)}"),
            ("delta", f"{figure(delta, signed=True)}   {times(ratio)} f(x) - f(x'){self._worst_of_several()}"),
            ("not exact", clean(run.message)),
            ("self leaks", f"{figure(leaks, signed=True)} in sum over {calls} calls"),
        ]
        if not self.complete:
            unknown = {"delta", "not exact", "self leaks"} | ({"f(x)", "f(x')"} if math.isnan(output) else set())
            known = [row for row in rows if row[0] not in unknown]
            error = clean(run.message) if run.status == "failed" else ""
            rows = [*known, ("error", error), ("got to", f"{calls} call{'s' * (calls != 1)} recorded, no delta")]
        return [(name, value) for name, value in rows if value]

    def _worst_of_several(self) -> str:
        """The worst example's delta, to stand behind a sum in which deltas may cancel; "" where there is no sum."""
        run = self.trace.run
        if self.example is not None or run.examples < 2 or not self.complete:
            return ""
        worst = worst_example(relative_deltas(run))
        return f" in sum; {figure(float(run.delta[worst]), signed=True)} in example {worst}, the worst"


def report_data(trace: Trace, top: int | None = None, example: int | None = None) -> dict[str, Any]:
    """The report as strict JSON takes it: NaN is None, infinities are "inf" and "-inf".

    Figures are sums over the examples, or those of `example`; `worst_example` is the one that the verdict is about. A
    run that is not complete has no delta and no leaks: they are None, and `nodes` stand in the data's order. `nodes`
    are worst first, at most `top` of them. A token's attribution is the sum over its embedding, None where the
    attributions are not by token. A ranking's tokens stand by falling score. `findings` stand as `tracer.diagnose`
    gives them, `counterfactuals` as they were measured.
    """
    run = trace.run
    report = Report(trace, example)
    output, reference = report.figure(run.output), report.figure(run.output_reference)
    change = changes(run)
    return {
        "schema": SCHEMA,
        "status": run.status,
        "message": run.message,
        "verdict": report.verdict.level,
        "headline": report.headline,
        "model": run.model,
        "method": run.method,
        "variant": run.variant,
        "target": run.target,
        "text": run.text,
        "reference": run.reference,
        "examples": run.examples,
        "output": json_figure(output),
        "output_reference": json_figure(reference),
        "delta": json_figure(report.delta) if report.complete else None,
        "relative_delta": json_figure(relative(report.delta, output - reference)) if report.complete else None,
        "worst_example": _worst_example(report),
        "self_leak_sum": json_figure(float(sum(report.self_leak.tolist()))) if report.complete else None,
        "findings": [_finding_data(finding) for finding in report.findings],
        "counterfactuals": [_counterfactual_data(measured, change, example) for measured in trace.counterfactuals],
        "tokens": [
            {"token": token, "attribution": json_figure(value), "example": index}
            for index, token, value in token_attributions(trace, example)
        ],
        "nodes": [_node_data(node, example, report.complete) for node in report.worst(top)],
        "panel": _panel_data(run.panel, run.tokens[0] if run.tokens else ()),
        "command": command_line(run.command),
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


def ranked(ranking: Ranking, tokens: Sequence[str]) -> list[tuple[str, float, float]]:
    """(token, score, normalised score) by falling score, NaN last; a score without a token goes by its place."""
    names = [*tokens, *(f"#{index}" for index in range(len(tokens), len(ranking.scores)))]
    rows = list(zip(names, ranking.scores, ranking.normalised, strict=False))
    return sorted(rows, key=lambda row: (math.isnan(row[1]), -row[1]))


def token_attributions(trace: Trace, example: int | None) -> Iterator[tuple[int, str, float]]:
    """(example, token, attribution) of each token of the examples shown; NaN where attributions are not by token."""
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


def command_line(command: str) -> str:
    """The command that makes the run again, from what the trace keeps of its options; "" where it keeps none.

    Of an absolute path only the last name is shown: the folders before it are nobody else's business.
    """
    try:
        kept = json.loads(command) if command else None
    except (ValueError, RecursionError):
        return ""
    if not isinstance(kept, dict) or not isinstance(kept.get("model"), str):
        return ""
    if kept["model"] == "(demo)":
        return "deeplift-tracer demo"
    words = ["deeplift-tracer", "trace", _last_name(kept.pop("model"))]
    for option, value in kept.items():
        name = "--rule" if option == "rules" else f"--{option.replace('_', '-')}"
        if option == "rules" and isinstance(value, list):
            words += [word for rule in value for word in (name, str(rule))]
        elif option == "explicit" and isinstance(value, list):
            words += [name, ",".join(map(str, value))]
        elif isinstance(value, str | int):
            words += [name, _last_name(value) if option == "inputs" and isinstance(value, str) else str(value)]
    return clean(shlex.join(words))


def _last_name(path: str) -> str:
    return PurePath(path).name if path.startswith("/") else path


def _examples(count: int, example: int | None) -> str:
    if count <= 1:
        return ""
    return f"example {example} of {count} (0 to {count - 1})" if example is not None else f"sums over {count}"


def _worst_example(report: Report) -> dict[str, Any] | None:
    """The example shown, or of all the one whose relative delta is the largest: what the verdict is about."""
    run = report.trace.run
    if not report.complete or not run.examples:
        return None
    ratios = relative_deltas(run)
    worst = worst_example(ratios) if report.example is None else report.example
    return {
        "example": worst,
        "delta": json_figure(float(run.delta[worst])),
        "relative_delta": json_figure(float(ratios[worst])),
    }


def _node_data(node: Node, example: int | None, complete: bool) -> dict[str, Any]:
    return {
        "path": node.path,
        "call": node.call,
        "kind": node.kind,
        "type": node.type,
        "source": node.source,
        "leak": json_figure(of_example(node.leak, example)) if complete else None,
        "self_leak": json_figure(of_example(node.self_leak, example)) if complete else None,
        "gain": json_figure(node.gain) if complete else None,
    }


def _finding_data(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "path": finding.path,
        "call": finding.call,
        "source": finding.source,
        "calls": len(finding.nodes),
        "share": json_figure(finding.share),
        "message": finding.message,
        "advice": finding.advice,
        "issues": list(finding.issues),
        "evidence": {name: json_figure(value) for name, value in finding.evidence},
        "caused_by": finding.caused_by,
        "delta_after": json_figure(finding.delta_after),
    }


def _counterfactual_data(measured: Counterfactual, change: Floats, example: int | None) -> dict[str, Any]:
    delta = of_example(measured.delta, example)
    return {
        "step": measured.step,
        "change": measured.change,
        "pattern": measured.pattern,
        "rules": list(measured.rules),
        "delta": json_figure(delta),
        "relative_delta": json_figure(relative(delta, of_example(change, example))),
        "seconds": json_figure(measured.seconds),
    }


def _panel_data(panel: Panel, tokens: Sequence[str]) -> dict[str, Any]:
    hooks = panel.hooks
    return {
        "labels": list(panel.labels),
        "output": list(map(json_figure, panel.output)),
        "output_reference": list(map(json_figure, panel.output_reference)),
        "rankings": [
            {
                "name": ranking.name,
                "delta": json_figure(ranking.delta),
                "relative_delta": json_figure(ranking.relative_delta),
                "warning": ranking_warning(ranking),
                "tokens": [
                    {"token": token, "score": json_figure(score), "normalised": json_figure(normalised)}
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
