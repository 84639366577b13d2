"""The heads: which calls attend, that their leaks sum to the ledger's, and the screen that shows them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.pilot import Pilot

from tests.synthetic import synthetic_run, write_synthetic
from tests.test_trace import changed
from tests.tui.builders import node
from tracer.analysis import heads
from tracer.analysis.heads import Attention, HeadFigures, attentions, distinct_names, head_figures
from tracer.records import Edge, TensorRef
from tracer.tracefile.trace import Trace, open_trace
from tracer.tracefile.writer import TraceWriter
from tui.app import TracerApp
from tui.lines.format import number
from tui.lines.heads import HeadTable, head_lines, heading, layout, row, unrecorded_text
from tui.looks.roles import Line
from tui.screens.heads import HeadsScreen
from tui.screens.layers import LayersScreen
from tui.screens.tensor import TensorScreen

Call = tuple[str, str, int, Sequence[tuple[int, ...]], tuple[int, ...]]
"""Path, type, depth, the inputs' shapes and the output's."""


def written(
    path: Path, calls: Sequence[Call], examples: int = 1, kept: bool = True, elided: bool = False, tokens: int = 4
) -> Trace:
    """A trace of a model with these calls inside one another by depth; the ledger's leaks are worked out slowly."""
    rng = np.random.default_rng(0)
    words = tuple("abcdefgh"[:tokens])
    run = replace(
        synthetic_run(examples=examples),
        capture="tensors" if kept else "summary",
        tokens=(words,) * examples,
        reference_tokens=(("[PAD]",) * tokens,) * examples,
    )
    zero = np.zeros(examples)
    with TraceWriter(path) as writer:
        writer.begin(run)
        end = len(calls) + 1
        writer.add(replace(node(0, None, end, 0, "", 0.0, type="Model"), leak=zero, self_leak=zero), [])
        open_calls: list[int] = [0]
        for index, (name, kind, depth, inputs, output) in enumerate(calls, 1):
            del open_calls[depth:]
            stop = next(
                (other for other, call in enumerate(calls[index:], index + 1) if call[2] <= depth), len(calls) + 1
            )
            leak, edges = zero.copy(), []
            for slot, shape in enumerate((*inputs, output)):
                tensors = [rng.normal(size=shape).astype(np.float32) for _ in range(3)]
                out = slot == len(inputs)
                flow = (tensors[2] * (tensors[0] - tensors[1])).reshape(examples, -1).sum(1, dtype=np.float64)
                leak += -flow if out else flow
                refs: list[TensorRef | None] = [None] * 3
                if elided:
                    refs = [TensorRef(None, "float32", shape, elided=True)] * 3
                elif kept:
                    refs = [writer.put_tensor(tensor.tobytes(), "float32", shape) for tensor in tensors]
                place = ("out", 0) if out else ("in", slot)
                edges.append(Edge(*place, "x", shape, "float32", flow, None, None, None, None, *refs))  # type: ignore[arg-type]
            call = node(index, open_calls[-1], stop, depth, name, 0.0, type=kind)
            writer.add(replace(call, leak=leak, self_leak=leak), edges)
            open_calls.append(index)
        writer.finish(run)
    return open_trace(path)


def found(trace: Trace) -> list[Attention]:
    return [attention for attention in attentions(trace) if attention is not None]


def slow(trace: Trace, attention: Attention, head: int, example: int | None) -> tuple[float, float]:
    """Leak and gain of a head by picking its elements one edge at a time."""
    chosen = slice(None) if example is None else slice(example, example + 1)
    flows, squares = {"in": 0.0, "out": 0.0}, {"in": 0.0, "out": 0.0}
    for edge in trace.edges(attention.node):
        names = ("input", "reference", "multiplier_in")
        if edge.direction == "out":
            names = ("output", "output_reference", "multiplier_out")
        x, y, m = (
            trace.tensor(attention.node, name, edge.slot)  # type: ignore[arg-type]
            .astype(np.float64)
            .reshape(trace.run.examples, attention.heads, -1)[chosen, head]
            for name in names
        )
        flows[edge.direction] += float((m * (x - y)).sum())
        squares[edge.direction] += float((m * m).sum())
    return flows["in"] - flows["out"], (squares["in"] / squares["out"]) ** 0.5


SOFTMAX: Call = ("bert.layer.0.attention/softmax", "softmax", 1, [(2, 3, 4, 4)], (2, 3, 4, 4))
FUSED: Call = (
    "bert.layer.1.attention/scaled_dot_product_attention", "scaled_dot_product_attention", 1,
    [(2, 3, 4, 8), (2, 3, 5, 8), (2, 3, 5, 6)], (2, 3, 4, 6),
)  # fmt: skip


@pytest.mark.parametrize("example", [None, 0, 1])
def test_the_heads_leaks_are_their_parts_of_the_ledger(
    tmp_path: Path, example: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "BLOCK_BYTES", 8 * 4 * 8)  # some parts in one block a head, some in several
    flat = ("bert.layer.2.attention/softmax", "softmax", 1, [(6, 4, 4)], (6, 4, 4))
    trace = written(tmp_path / "t", [SOFTMAX, FUSED, flat], examples=2)
    attending = found(trace)
    assert [(a.node, a.kind, a.heads, a.group) for a in attending] == [
        (1, "softmax", 3, 1), (2, "fused", 3, 1), (3, "softmax", 3, 1),
    ]  # fmt: skip
    for attention in attending:
        figures = head_figures(trace, attention, example)
        assert figures.problem == ""
        ledger = trace.nodes[attention.node].leak
        assert figures.leak.sum() == pytest.approx(ledger.sum() if example is None else ledger[example], rel=1e-9)
        for head in range(3):
            leak, gain = slow(trace, attention, head, example)
            assert figures.leak[head] == pytest.approx(leak, rel=1e-4, abs=1e-5)
            assert figures.gain[head] == pytest.approx(gain, rel=1e-5)


def test_query_heads_that_share_keys_are_one_column(tmp_path: Path) -> None:
    shared = (FUSED[0], FUSED[1], 1, [(2, 6, 4, 8), (2, 2, 5, 8), (2, 2, 5, 6)], (2, 6, 4, 6))
    trace = written(tmp_path / "t", [shared], examples=2)
    (attention,) = found(trace)
    assert (attention.heads, attention.group) == (2, 3)
    assert [attention.head_name(head) for head in range(2)] == ["0–2", "3–5"]
    figures = head_figures(trace, attention, 1)
    assert figures.leak.sum() == pytest.approx(trace.nodes[1].leak[1], rel=1e-9)
    assert figures.leak[0] == pytest.approx(slow(trace, attention, 0, 1)[0], rel=1e-4)


def test_what_does_not_attend_is_left_out(tmp_path: Path) -> None:
    calls: list[Call] = [
        ("head/softmax", "softmax", 1, [(1, 5)], (1, 5)),
        ("words/softmax", "softmax", 1, [(1, 4, 99)], (1, 4, 99)),
        ("gelu", "GELU", 1, [(1, 3, 4, 4)], (1, 3, 4, 4)),
        ("one/softmax", "softmax", 1, [(1, 4, 4)], (1, 4, 4)),
        ("cross/softmax", "softmax", 1, [(1, 2, 3, 7)], (1, 2, 3, 7)),
        ("odd/softmax", "softmax", 1, [(1, 4, 4)], (1, 3, 4, 4)),
    ]
    assert [(a.path, a.heads) for a in found(written(tmp_path / "t", calls))] == [
        ("one/softmax", 1), ("cross/softmax", 2),
    ]  # fmt: skip


def test_a_module_and_the_op_inside_it_are_one_attention(tmp_path: Path) -> None:
    shape = (1, 3, 4, 4)
    inner = [(1, 3, 4, 8), (1, 3, 4, 8), (1, 3, 4, 8)]
    calls: list[Call] = [
        ("a.softmax", "Softmax", 1, [shape], shape),
        ("a.softmax/softmax", "softmax", 2, [shape], shape),
        ("b/scaled_dot_product_attention", "scaled_dot_product_attention", 1, inner, (1, 3, 4, 8)),
        ("b/scaled_dot_product_attention/softmax", "softmax", 2, [shape], shape),
    ]
    assert [a.node for a in found(written(tmp_path / "t", calls))] == [1, 4]


def test_what_is_missing_is_said_in_words(tmp_path: Path) -> None:
    for name, options, words in (
        ("a", {"kept": False}, "--capture tensors"),
        ("b", {"elided": True}, "left out to save room"),
    ):
        trace = written(tmp_path / name, [SOFTMAX], examples=2, **options)
        figures = head_figures(trace, found(trace)[0], None)
        assert words in figures.problem and np.isnan(figures.leak).all() and len(figures.gain) == 3


@pytest.mark.parametrize(
    "change",
    ["shape = '[2, 3, 4, 5]'", "multiplier_hash = (SELECT hash FROM tensor WHERE shape = '[2, 3, 5, 8]' LIMIT 1)"],
)
def test_tensors_of_another_shape_than_the_call_says_are_not_shared_out(tmp_path: Path, change: str) -> None:
    written(tmp_path / "t", [SOFTMAX, FUSED], examples=2).close()
    trace = open_trace(changed(tmp_path / "t", tmp_path / "u", f"UPDATE edge SET {change} WHERE node = 1"))
    figures = head_figures(trace, found(trace)[0], None)
    assert "the file was changed" in figures.problem and np.isnan(figures.leak).all()


def test_names_leave_out_what_is_the_same_everywhere() -> None:
    assert distinct_names(["bert.layer.0.attention/softmax", "bert.layer.11.attention/softmax"]) == [
        "layer.0", "layer.11",
    ]  # fmt: skip
    assert distinct_names(["a.enc.self/softmax", "a.dec.cross/softmax"]) == ["enc.self", "dec.cross"]
    assert distinct_names(["a/softmax", "a/softmax #1"]) == ["softmax", "softmax #1"]
    assert distinct_names(["m/softmax"]) == ["m/softmax"] and distinct_names([]) == []


def text_of(line: Line) -> str:
    return "".join(text for text, _ in line)


def table_of(trace: Trace, **options: Any) -> HeadTable:
    attending = found(trace)
    return HeadTable(attending, {a.node: head_figures(trace, a, None) for a in attending}, **options)


def test_the_table_has_numbers_where_they_fit_and_signs_everywhere(tmp_path: Path) -> None:
    table = table_of(written(tmp_path / "t", [SOFTMAX, FUSED], examples=2))
    wide, narrow = layout(table, 100), layout(table, 20)
    assert text_of(heading(table, wide, 0, 1)).split() == ["layer", "all", "heads", "0", "1", "2"]
    cells, frozen = row(table, wide, 0, 0)
    leak = table.figures[1].leak
    assert frozen == 2 and len(cells) == 5
    for cell, value in zip(cells[frozen:], leak, strict=True):
        assert float(cell[0].replace(" ", "")) == pytest.approx(value, rel=1e-2)
    signs = [text.strip()[0] for text, _ in row(table, narrow, 0, 0)[0][1:]]
    assert all(sign in "·+-" for sign in signs)
    assert ["+" if sign == "+" else "-" for sign in signs if sign != "·"] == [
        "+" if value > 0 else "-" for sign, value in zip(signs, leak, strict=True) if sign != "·"
    ]
    assert sum(len(text) for text, _ in row(table, narrow, 0, 0)[0]) <= 20
    gains = replace(table, gain=True)
    assert text_of(row(gains, wide, 0, 0)[0]).split()[-1].startswith(f"{table.figures[1].gain[2]:.1f}"[:2])


def test_rounding_noise_fills_no_cell(tmp_path: Path) -> None:
    (attention,) = found(written(tmp_path / "t", [SOFTMAX], examples=2))
    figures = HeadFigures(np.array([1e-9, -2e-9, 0.0]), np.ones(3))
    table = HeadTable([attention], {1: figures}, floor=1e-3)
    assert {role for _, role in row(table, layout(table, 100), 0, 0)[0][2:]} == {"faint"}
    assert table.worst == (0, 1)
    unknown = HeadTable([attention], {})
    assert unknown.worst is None and "…" in text_of(row(unknown, layout(unknown, 100), 0, 0)[0])
    assert "reading" in text_of(head_lines(unknown, 0, 0, 1.0, 100)[0])


@asynccontextmanager
async def shown(trace: Trace, size: tuple[int, int] = (120, 40), **options: Any) -> AsyncIterator[Pilot[None]]:
    """The application on the screen of the heads, all figures read."""
    app = TracerApp(trace, **options)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        app.show_screen("heads")
        await settle(pilot)
        yield pilot


async def settle(pilot: Pilot[None]) -> None:
    await pilot.pause()
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


def screen_of(pilot: Pilot[None]) -> HeadsScreen:
    screen = pilot.app.screen
    assert isinstance(screen, HeadsScreen)
    return screen


def painted(pilot: Pilot[None]) -> str:
    return "\n".join(strip.text for strip in pilot.app.screen._compositor.render_strips())


def run(story: Callable[[], Any]) -> None:
    asyncio.run(story())


def test_the_worst_head_is_selected_with_its_matrices(tmp_path: Path) -> None:
    trace = written(tmp_path / "t", [SOFTMAX, (SOFTMAX[0].replace("0", "1"), *SOFTMAX[1:])], examples=2)

    async def story() -> None:
        async with shown(trace) as pilot:
            screen = screen_of(pilot)
            worst = screen.table.table.worst
            assert worst == (screen.table.row, screen.table.head)
            text = painted(pilot)
            assert f"head {worst[1]}" in text and "Probability" in text and "Reference" in text and "Multiplier" in text
            assert "sums over 2 examples" in text and "a → a" in text
            await pilot.press("tab", "right", "down")
            await settle(pilot)
            attention = screen._attentions[worst[0]]
            values = [trace.tensor(attention.node, name) for name in ("output", "output_reference", "multiplier_out")]
            assert all(heatmap.cursor == (1, 1) for heatmap in screen.matrices), "the cursors go together"
            for value in values:
                assert number(float(value[0, worst[1], 1, 1]), signed=True) in painted(pilot)
            await pilot.press("]")
            await pilot.press("]")
            await settle(pilot)
            assert trace.run.examples == 2 and pilot.app.session.example == 1  # type: ignore[attr-defined]
            assert screen.matrices[0].number == 3 + screen.table.head
            await pilot.press("shift+tab", "v")
            await settle(pilot)
            view = pilot.app.screen
            assert isinstance(view, TensorScreen) and view.direction == "out"
            assert view._source is not None and view._source.index_of(view.number) == (1, screen.table.head)
            await pilot.press("escape", "o")
            await settle(pilot)
            assert isinstance(pilot.app.screen, LayersScreen)
            assert pilot.app.session.node == attention.node  # type: ignore[attr-defined]

    run(story)


def test_moving_and_measuring(tmp_path: Path) -> None:
    calls = [(SOFTMAX[0].replace("0", str(index)), *SOFTMAX[1:]) for index in range(3)]
    trace = written(tmp_path / "t", calls, examples=2)

    async def story() -> None:
        async with shown(trace) as pilot:
            screen = screen_of(pilot)
            screen.table.move_to(0, 0)
            await pilot.press("down", "l", "right", "right")
            assert (screen.table.row, screen.table.head) == (1, 2)
            await pilot.press("m")
            assert screen.table.table.gain and "layer     all heads" not in painted(pilot)
            await pilot.press("w")
            assert (screen.table.row, screen.table.head) == screen.table.table.worst
            await pilot.click(screen.table, offset=(screen.table._layout.name + 14, 3))
            await settle(pilot)
            assert screen.table.row == 2

    run(story)


def test_fused_attention_says_that_nothing_recorded_its_matrix(tmp_path: Path) -> None:
    trace = written(tmp_path / "t", [FUSED], examples=2)
    assert "--explicit softmax" in unrecorded_text(found(trace)[0])

    async def story() -> None:
        async with shown(trace) as pilot:
            text = painted(pilot)
            assert "not recorded" in text and "--explicit softmax" in text and "leak" in text

    run(story)


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (120, 40), (200, 60)])
def test_every_size_shows_table_and_matrices(tmp_path: Path, size: tuple[int, int]) -> None:
    trace = written(tmp_path / "t", [SOFTMAX, FUSED], examples=2)

    async def story() -> None:
        async with shown(trace, size=size) as pilot:
            screen = screen_of(pilot)
            assert "layer.0" in painted(pilot)
            screen.table.move_to(0, 0)
            for _ in range(5):
                screen.action_switch_pane(1)
                await settle(pilot)
                assert screen.focused is not None and screen.focused.display and screen.focused.size.height >= 1
            screen.table.move_to(1, 2)
            await settle(pilot)
            assert "not recorded" in painted(pilot) or size == (40, 10)

    run(story)


def test_traces_without_attention_or_tensors(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "s", layers=1, ops_per_layer=8, tensors=True)

    async def story() -> None:
        async with shown(open_trace(tmp_path / "s")) as pilot:
            assert "No attention was found" in painted(pilot)
            await pilot.press("down", "w", "m", "v", "o", "tab")
            await settle(pilot)
        async with shown(written(tmp_path / "t", [SOFTMAX], examples=2, kept=False)) as pilot:
            assert "--capture tensors" in painted(pilot)

    run(story)


def test_without_colours_and_in_ascii(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    trace = written(tmp_path / "t", [SOFTMAX], examples=2)

    async def story() -> None:
        async with shown(trace, ascii_only=True) as pilot:
            text = painted(pilot)
            assert text.isascii() and "+9" in text

    run(story)
