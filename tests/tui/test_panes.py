"""Header, detail, tokens and help as lines: what they say, within their width, whatever the file holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len

from tests.synthetic import synthetic_run
from tests.tui.builders import EVIL, edge, figures, node
from tracer.analysis.verdict import Level, Verdict
from tracer.records import Panel, Ranking
from tui import actions
from tui.keys import shown
from tui.lines.detail import detail_lines
from tui.lines.header import header_lines
from tui.lines.help import help_lines
from tui.lines.layers import READING
from tui.lines.tokens import token_lines
from tui.looks.roles import Line

WIDTHS = (38, 60, 78, 100, 160)
SMALL = figures([-1, 0], [0.0, -770.0])


def verdict_of(level: Level = "broken", headline: str = "Do not read these attributions.") -> Verdict:
    return Verdict(level, headline, 1.0, None, 0.5)


def text_of(lines: Sequence[Line]) -> str:
    return "\n".join("".join(text for text, _ in line) for line in lines)


def check_within(lines: Sequence[Line], width: int) -> None:
    for line in lines:
        text = "".join(part for part, _ in line)
        assert cell_len(text) <= width, text
        assert text.isprintable(), repr(text)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_pane_keeps_within_its_width_and_is_printable(width: int) -> None:
    call = node(1, 0, 2, 1, EVIL * 9, -770.0, type=EVIL, source=EVIL * 5, rule="captum", gain=math.inf)
    edges = [edge(), edge(EVIL * 3, math.nan), replace(edge(), value_statistics=None, multiplier_statistics=None)]
    check_within(detail_lines(call, edges, SMALL, -770.0, width), width)
    run = synthetic_run(examples=3)
    odd = replace(run, model=EVIL * 5, variant=EVIL * 5, target=EVIL, tokens=((EVIL,) * 12,) * 3)
    panel = replace(run.panel, labels=(EVIL * 3,), rankings=(*run.panel.rankings, Ranking(EVIL, (math.nan, 1.0))))
    check_within(token_lines(replace(odd, panel=panel), width), width)
    check_within(header_lines(odd, verdict_of(headline=EVIL * 20), width, short=False), width)
    check_within(help_lines(width, "layers", READING), width)


def test_the_header_says_all_numbers() -> None:
    run = replace(
        synthetic_run(), delta=np.array([-96505.0]), output=np.array([2.0]), output_reference=np.array([-0.24])
    )
    text = text_of(header_lines(run, verdict_of(), 140, short=False))
    for part in ("✖ Do not read", "delta -96 505", "43 000 times", "f(x) 2.000", "f(x') -0.2400", "f(x)-f(x') +2.240"):
        assert part in text
    for part in ("synthetic", "captum / softmax explicit", "target 1", "1 of 13 non-linearities hooked"):
        assert part in text
    assert "examples" not in text


def test_a_narrow_header_keeps_what_matters_most() -> None:
    run = replace(synthetic_run(examples=2), delta=np.array([-96505.0, 1.0]))
    text = text_of(header_lines(run, verdict_of(), 60, short=False))
    assert "delta -96 504" in text and "sums over 2 examples" in text and "captum / softmax explicit" in text
    assert len(header_lines(run, verdict_of(headline="word " * 50), 38, short=True)) == 2


@pytest.mark.parametrize(("level", "glyph"), [("holds", "✔"), ("off", "▲"), ("broken", "✖"), ("unfinished", "▲")])
def test_a_verdict_has_a_glyph_beside_its_words(level: Level, glyph: str) -> None:
    assert text_of(header_lines(synthetic_run(), verdict_of(level), 80, short=True)).startswith(f"{glyph} Do not read")


def test_the_detail_says_everything_about_a_call() -> None:
    call = node(
        1,
        0,
        2,
        1,
        "bert/softmax",
        -770.0,
        kind="op",
        type="softmax",
        call=2,
        source="model.py:7 forward",
        rule="captum",
        gain=442.0,
        relative_leak=0.5,
        largest_secant=5900.0,
        small_differences=48,
        dropped_differences=3,
        nonfinite=9,
    )
    text = text_of(detail_lines(call, [edge("mask", 0.25)], SMALL, -1000.0, 120))
    for part in ("bert/softmax", "op, call 2", "rule: captum", "model.py:7 forward", "-770.0", "77 %", "100 %", "×442"):
        assert part in text, part
    for part in (
        "0.5",
        "5900",
        "48",
        "dropped Δ",
        "non-finite",
        "in  0  mask  1×8 float32  flow +0.2500",
        "multiplier",
    ):
        assert part in text, part
    assert "the worst of all calls: large divergence" in text


def test_figures_go_before_a_line_is_cut() -> None:
    wide = text_of(detail_lines(node(1, 0, 2, 1, "m", 1.0), [edge()], SMALL, 1.0, 80))
    narrow = text_of(detail_lines(node(1, 0, 2, 1, "m", 1.0), [edge()], SMALL, 1.0, 30))
    assert "mean" in wide and "mean" not in narrow and "norm" in narrow


def test_a_call_without_tensors_says_so() -> None:
    assert "No tensors were recorded" in text_of(detail_lines(node(1, 0, 2, 1, "m", 1.0), [], SMALL, 0.0, 80))


def test_tokens_are_ranked_by_each_method() -> None:
    run = synthetic_run()
    scores = tuple(float(place) for place in range(12))
    panel = replace(run.panel, rankings=(Ranking("up", scores), Ranking("down", tuple(-s for s in scores), 2.5, 1.25)))
    lines = text_of(token_lines(replace(run, panel=panel), 100)).splitlines()
    first = next(place for place, line in enumerate(lines) if "[SEP]" in line and "[CLS]" in line)
    assert lines[first].index("[SEP]") < lines[first].index("[CLS]"), "the highest score is on top in each"
    assert "no delta of its own" in "\n".join(lines) and "delta +2.500  125 %" in "\n".join(lines)
    assert "▲ down is itself off by 125 %" in "\n".join(lines)


def test_what_a_trace_has_not_got_is_said_in_words() -> None:
    run = synthetic_run(tokens=False)
    assert "No rankings of tokens" in text_of(token_lines(run, 80))
    assert "No rankings" in text_of(token_lines(replace(run, panel=Panel()), 80))
    numbered = replace(run, panel=Panel(rankings=(Ranking("r", (1.0, 2.0)),)))
    text = text_of(token_lines(numbered, 80))
    assert "names no tokens" in text and "token 1" in text


def test_scores_that_are_no_numbers_come_last() -> None:
    panel = Panel(rankings=(Ranking("r", (math.nan, 1.0, -1.0)),))
    text = text_of(token_lines(replace(synthetic_run(), tokens=(("a", "b", "c"),), panel=panel), 40))
    assert text.splitlines()[-1].startswith("a ")


def test_the_help_of_a_screen_names_its_keys() -> None:
    text = text_of(help_lines(90, "layers", READING))
    for action in actions.of("tree", "layers", "screen"):
        assert shown(action.keys) in text
        assert action.title.split()[0] in text
    assert "logarithmic" in text
