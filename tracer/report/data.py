"""The report on a trace as strict JSON takes it. Pure: a trace in, a dict or text out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tracer.analysis.verdict import changes, ranking_warning, relative_deltas
from tracer.records import Counterfactual, Finding, Floats, Node, Panel
from tracer.report.command_line import command_line
from tracer.report.contents import TraceReport, ranked, token_attributions
from tracer.text import json_figure, of_example, relative, total
from tracer.tracefile.trace import Trace

SCHEMA = 1


def report_data(trace: Trace, top: int | None = None, example: int | None = None) -> dict[str, Any]:
    """The report as strict JSON takes it: NaN is None, infinities are "inf" and "-inf".

    Figures are sums over the examples, or those of `example`; `worst_example` is the one that the verdict is about. A
    run that is not complete has no delta and no leaks: they are None, and `nodes` stand in execution order. `nodes`
    are worst first, at most `top` of them. A token's attribution is the sum over its embedding, None where the
    attributions are not by token. A ranking's tokens stand by falling score. `findings` stand as `tracer.diagnose`
    gives them, `counterfactuals` as they were measured.
    """
    run = trace.run
    report = TraceReport(trace, example)
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
        "output": json_figure(report.figure(run.output)),
        "output_reference": json_figure(report.figure(run.output_reference)),
        "delta": json_figure(report.delta) if report.complete else None,
        "relative_delta": json_figure(relative(report.delta, report.change)) if report.complete else None,
        "worst_example": _worst_example(report),
        "self_leak_sum": json_figure(total(report.self_leak)) if report.complete else None,
        "findings": [finding_data(finding) for finding in report.findings],
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


def _worst_example(report: TraceReport) -> dict[str, Any] | None:
    """The example shown, or of all the one whose relative delta is the largest: what the verdict is about."""
    run = report.trace.run
    if not report.complete or not run.examples:
        return None
    worst = report.judged_example
    return {
        "example": worst,
        "delta": json_figure(float(run.delta[worst])),
        "relative_delta": json_figure(float(relative_deltas(run)[worst])),
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


def finding_data(finding: Finding) -> dict[str, Any]:
    """A finding as strict JSON takes it; `calls` is how many show it."""
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
