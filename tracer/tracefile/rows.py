"""Where a record becomes a row of the trace file, and where a row becomes a record again: each pair side by side.

A `..._row` gives the cells in the order of the table's columns in `layout`. A `..._from_row` takes cells that anybody
may have written: it raises one of `cells.MISSHAPEN` where one is not what it must be.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, cast

from tracer.records import (
    Counterfactual,
    Edge,
    EvidenceName,
    Finding,
    FindingKind,
    Floats,
    HookReport,
    Node,
    Note,
    NoteKind,
    Panel,
    Ranking,
    Run,
    Statistics,
    TensorRef,
)
from tracer.text import total
from tracer.tracefile.cells import (
    Cell,
    json_number,
    number,
    pack,
    parse_shape,
    shape_text,
    storable,
    storable_or_null,
    text,
    text_or_none,
    unpack,
    whole,
)
from tracer.tracefile.columns import Columns
from tracer.tracefile.layout import EDGE_COLUMNS, FIGURES, NODE_FIGURES, RUN_COLUMNS, STORED

LONGEST_JSON = 1 << 26
"""Bytes of JSON in the row of a run; decoded they take up to twenty times as many."""

NODE_REST = (
    "source", "rule", "largest_secant", "small_differences", "dropped_differences", "nonfinite", "leak_examples",
    "self_leak_examples",
)  # fmt: skip
"""The columns of a node that are not in `Columns`."""

_figures = attrgetter(*FIGURES)
_NO_FIGURES = (None,) * len(FIGURES)
_RUN_TEXTS = (
    "model", "method", "variant", "message", "started", "capture", "rulebook", "target", "text", "reference", "command",
)  # fmt: skip


def run_row(run: Run) -> tuple[Cell, ...]:
    """The cells of RUN_COLUMNS."""
    texts = (run.model, run.method, run.variant, run.status, run.message, run.started)
    return (
        1,
        *map(storable, texts),
        run.seconds,
        run.capture,
        storable(run.rulebook),
        json.dumps(run.versions),
        *map(storable, (run.target, run.text, run.reference)),
        json.dumps(run.tokens),
        json.dumps(run.reference_tokens),
        pack(run.output),
        pack(run.output_reference),
        pack(run.delta),
        json.dumps(_panel_to_json(run.panel), allow_nan=False),
        storable(run.command),
    )


def run_from_row(row: Sequence[Cell]) -> Run:
    """The run of what `run_row` wrote."""
    cells = dict(zip(RUN_COLUMNS, row, strict=True))
    status = cells["status"]
    if status not in ("recording", "complete", "failed"):
        raise ValueError(f"unknown status {status!r}")
    size = sum(len(cells[name]) for name in ("versions", "tokens", "reference_tokens", "panel"))
    if size > LONGEST_JSON:
        raise ValueError(f"{size} bytes of tokens and rankings")
    output, output_reference, delta = (unpack(cells[name]) for name in ("output", "output_reference", "delta"))
    if not len(output) == len(output_reference) == len(delta):
        raise ValueError(f"outputs of {len(output)} and {len(output_reference)} examples, a delta of {len(delta)}")
    return Run(
        **{name: text(cells[name]) for name in _RUN_TEXTS},
        status=status,
        seconds=number(cells["seconds"]),
        versions={text(key): text(value) for key, value in json.loads(cells["versions"]).items()},
        tokens=_token_rows(cells["tokens"]),
        reference_tokens=_token_rows(cells["reference_tokens"]),
        output=output,
        output_reference=output_reference,
        delta=delta,
        panel=_panel_from_json(json.loads(cells["panel"])),
    )


def node_row(node: Node) -> tuple[Cell, ...]:
    """The cells of NODE_COLUMNS. The children are not stored: they follow from the tree."""
    leak, self_leak = total(node.leak), total(node.self_leak)
    places = (-1 if node.parent is None else node.parent, node.end, node.depth, node.call)
    sizes = (leak, self_leak, node.gain, node.relative_leak, node.seconds)
    return (
        node.id,
        node.parent,
        *places[1:],
        node.kind,
        *sizes,
        storable(node.type),
        storable(node.path),
        storable_or_null(node.source),
        storable(node.rule),
        node.largest_secant,
        node.small_differences,
        node.dropped_differences,
        node.nonfinite,
        NODE_FIGURES.pack(node.id, *places, *sizes),
        pack(node.leak),
        pack(node.self_leak),
    )


def node_from_row(columns: Columns, index: int, row: Sequence[Cell]) -> Node:
    """Node number `index` of what `node_row` wrote: what `columns` has of it, and the cells of NODE_REST."""
    source, rule, largest_secant, small_differences, dropped_differences, nonfinite, leak, self_leak = row
    parent, end = int(columns.parent[index]), int(columns.end[index])
    children = []
    child = index + 1
    while child < end:
        children.append(child)
        child = int(columns.end[child])
    return Node(
        id=index,
        parent=parent if parent >= 0 else None,
        end=end,
        depth=int(columns.depth[index]),
        path=columns.paths[index],
        call=int(columns.call[index]),
        kind=columns.kinds[index],
        type=columns.types[index],
        source=text_or_none(source),
        rule=text(rule),
        leak=unpack(leak),
        self_leak=unpack(self_leak),
        gain=float(columns.gain[index]),
        relative_leak=float(columns.relative_leak[index]),
        largest_secant=number(largest_secant),
        small_differences=int(small_differences),
        dropped_differences=int(dropped_differences),
        nonfinite=int(nonfinite),
        seconds=float(columns.seconds[index]),
        children=tuple(children),
    )


def edge_row(node: int, edge: Edge) -> tuple[Cell, ...]:
    """The cells of EDGE_COLUMNS; `node` is the number of the call."""
    return (
        node,
        edge.direction,
        edge.slot,
        storable(edge.name),
        shape_text(edge.shape),
        edge.dtype,
        total(edge.flow),
        pack(edge.flow),
        *_statistics_cells(edge.value_statistics),
        *_statistics_cells(edge.reference_statistics),
        *_statistics_cells(edge.difference_statistics),
        *_statistics_cells(edge.multiplier_statistics),
        None if edge.value is None else edge.value.hash or b"",
        None if edge.reference is None else edge.reference.hash or b"",
        None if edge.multiplier is None else edge.multiplier.hash or b"",
    )


def edge_from_row(row: Sequence[Cell]) -> Edge:
    """The edge of what `edge_row` wrote, after which come dtype and shape of its value, reference and multiplier.

    Those are the cells of the table `tensor`, NULL where it does not have the tensor.
    """
    cells = dict(zip(EDGE_COLUMNS, row, strict=False))
    stored = row[len(EDGE_COLUMNS) :]
    direction = cells["direction"]
    if direction not in ("in", "out"):
        raise ValueError(f"an edge of direction {direction!r}")
    shape = parse_shape(json.loads(cells["shape"]))
    dtype = text(cells["dtype"])
    refs: dict[str, TensorRef | None] = {}
    for index, tensor in enumerate(STORED):
        digest = cells[f"{tensor}_hash"]
        if not isinstance(digest, bytes | None):
            raise TypeError("this is not a hash")
        stored_dtype, stored_shape = stored[2 * index : 2 * index + 2]
        if digest is None:
            refs[tensor] = None
        elif stored_dtype is None:
            refs[tensor] = TensorRef(digest or None, dtype, shape, elided=digest == b"")
        else:
            refs[tensor] = TensorRef(digest, text(stored_dtype), parse_shape(json.loads(stored_shape)))
    return Edge(
        direction=direction,
        slot=int(cells["slot"]),
        name=text(cells["name"]),
        shape=shape,
        dtype=dtype,
        flow=unpack(cells["flow_examples"]),
        value_statistics=_statistics_from_cells(cells, "value"),
        reference_statistics=_statistics_from_cells(cells, "reference"),
        difference_statistics=_statistics_from_cells(cells, "difference"),
        multiplier_statistics=_statistics_from_cells(cells, "multiplier"),
        value=refs["value"],
        reference=refs["reference"],
        multiplier=refs["multiplier"],
    )


def note_row(note: Note) -> tuple[Cell, ...]:
    """The cells of NOTE_COLUMNS."""
    source = storable_or_null(note.source)
    return (storable(note.kind), storable(note.path), note.call, storable(note.detail), note.amount, source)


def note_from_row(row: Sequence[Cell]) -> Note:
    """The note of what `note_row` wrote."""
    what, path, call, detail, amount, source = row
    return Note(
        kind=cast(NoteKind, text(what)),  # a kind of another version stays as it is
        path=text(path),
        call=None if call is None else int(call),
        detail=text(detail),
        amount=number(amount),
        source=text_or_none(source),
    )


def counterfactual_row(run: Counterfactual) -> tuple[Cell, ...]:
    """The cells of COUNTERFACTUAL_COLUMNS."""
    return (
        run.step,
        storable(run.change),
        storable(run.pattern),
        json.dumps(run.rules),
        total(run.delta),
        pack(run.delta),
        pack(run.self_leak),
        run.seconds,
    )


def counterfactual_from_row(row: Sequence[Cell]) -> Counterfactual:
    """The counterfactual of what `counterfactual_row` wrote."""
    step, change, pattern, rules, _total, delta, self_leak, seconds = row
    return Counterfactual(
        step=int(step),
        change=text(change),
        pattern=text(pattern),
        rules=tuple(map(text, json.loads(rules))),
        delta=unpack(delta),
        self_leak=unpack(self_leak),
        seconds=number(seconds),
    )


def finding_row(finding: Finding) -> tuple[Cell, ...]:
    """The cells of FINDING_COLUMNS; a delta that was measured and is NaN is the text "nan", as NULL is none at all."""
    delta = finding.delta_after
    return (
        finding.kind,
        storable(finding.path),
        finding.call,
        storable_or_null(finding.source),
        finding.share,
        storable(finding.message),
        storable(finding.advice),
        finding.caused_by,
        "nan" if delta is not None and delta != delta else delta,
        finding.node,
        json.dumps(finding.nodes),
        json.dumps(finding.issues),
        json.dumps([[name, json_number(value)] for name, value in finding.evidence]),
    )


def finding_from_row(row: Sequence[Cell]) -> Finding:
    """The finding of what `finding_row` wrote."""
    kind, path, call, source, share, message, advice, caused_by, delta, node, nodes, issues, evidence = row
    return Finding(
        kind=cast(FindingKind, text(kind)),
        node=None if node is None else int(node),
        path=text(path),
        call=int(call),
        source=text_or_none(source),
        share=number(share),
        message=text(message),
        advice=text(advice),
        issues=tuple(map(whole, json.loads(issues))),
        nodes=tuple(map(whole, json.loads(nodes))),
        evidence=tuple((cast(EvidenceName, text(name)), number(value)) for name, value in json.loads(evidence)),
        caused_by=cast(FindingKind, text(caused_by)),
        delta_after=None if delta is None else number(delta),
    )


def check_examples(run: Run, what: str, *figures: Floats) -> None:
    """ValueError where `figures` of `what` in a complete run do not have one number for each example."""
    if run.status == "complete" and any(len(numbers) != run.examples for numbers in figures):
        sizes = ", ".join(str(len(numbers)) for numbers in figures)
        raise ValueError(f"{what} has figures of {sizes} examples, the run has {run.examples}")


def refs_to_json(refs: Iterable[TensorRef]) -> str:
    """References of stored tensors as a JSON list of [hash in hex or null, dtype, shape]."""
    return json.dumps([[ref.hash.hex() if ref.hash else None, ref.dtype, list(ref.shape)] for ref in refs])


def refs_from_json(value: str) -> tuple[TensorRef, ...]:
    """The references of what `refs_to_json` wrote."""
    refs = []
    for digest, dtype, shape in json.loads(value):
        stored = None if digest is None else bytes.fromhex(digest)
        refs.append(TensorRef(stored, text(dtype), parse_shape(shape), elided=stored is None))
    return tuple(refs)


def _statistics_cells(statistics: Statistics | None) -> tuple[Cell, ...]:
    """One tensor's cells, in the order of FIGURES."""
    cells: tuple[Cell, ...] = _NO_FIGURES if statistics is None else _figures(statistics)
    return cells


def _statistics_from_cells(cells: Mapping[str, Cell], tensor: str) -> Statistics | None:
    count, nonfinite, *figures = (cells[f"{tensor}_{figure}"] for figure in FIGURES)
    return None if count is None else Statistics(int(count), int(nonfinite), *map(number, figures))


def _token_rows(value: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(text(token) for token in row) for row in json.loads(value))


def _panel_to_json(panel: Panel) -> dict[str, Any]:
    hooks = panel.hooks
    return {
        "output": [json_number(value) for value in panel.output],
        "output_reference": [json_number(value) for value in panel.output_reference],
        "labels": list(panel.labels),
        "rankings": [
            {
                "name": ranking.name,
                "scores": [json_number(score) for score in ranking.scores],
                "delta": None if ranking.delta is None else json_number(ranking.delta),
                "relative_delta": None if ranking.relative_delta is None else json_number(ranking.relative_delta),
                "note": ranking.note,
            }
            for ranking in panel.rankings
        ],
        "hooks": hooks
        and {"version": hooks.version, "path": hooks.path, "hooked": hooks.hooked, "unhooked": hooks.unhooked},
    }


def _panel_from_json(data: Any) -> Panel:
    hooks = data["hooks"]
    return Panel(
        output=tuple(map(number, data["output"])),
        output_reference=tuple(map(number, data["output_reference"])),
        labels=tuple(map(text, data["labels"])),
        rankings=tuple(
            Ranking(
                name=text(item["name"]),
                scores=tuple(map(number, item["scores"])),
                delta=None if item["delta"] is None else number(item["delta"]),
                relative_delta=None if item["relative_delta"] is None else number(item["relative_delta"]),
                note=text(item["note"]),
            )
            for item in data["rankings"]
        ),
        hooks=None
        if hooks is None
        else HookReport(
            version=text(hooks["version"]),
            path=text(hooks["path"]),
            hooked={text(key): int(value) for key, value in hooks["hooked"].items()},
            unhooked={text(key): int(value) for key, value in hooks["unhooked"].items()},
        ),
    )
