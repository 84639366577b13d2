"""The text coloured by attribution, the agreement of methods, and their screen."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.synthetic import write_synthetic
from tests.tui.builders import EVIL, node, write
from tests.tui.test_app import SIZES, run, shown
from tests.tui.test_app import text_of as screen_text
from tests.tui.test_panes import check_within, text_of
from tracer.analysis.agreement import cosine, spearman
from tracer.records import Panel, Ranking
from tracer.tracefile.trace import Trace, open_trace
from tui.lines import text as text_lines
from tui.lines.text import Scored
from tui.looks.roles import Role
from tui.screens.tokens import TokensScreen


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    path = tmp_path_factory.mktemp("traces") / "tokens.dltrace"
    write_synthetic(path, layers=1, ops_per_layer=8, examples=2)
    return open_trace(path)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (("[CLS]", "un", "##believ", "##able", "film", "[SEP]"), "[CLS] unbelievable film [SEP]"),
        (("<s>", "It", "Ġwas", "Ġamaz", "ing", "!", "</s>"), "<s> It was amazing! </s>"),
        (("▁Un", "believable", "▁film", "."), "Unbelievable film."),
        (("##", "a", "##b"), "## ab"),
        (("Ġa", "Ċ", "Ġ"), "a⏎ ␣"),
        (("great", "film"), "great film"),
    ],
)
def test_pieces_of_a_word_are_joined(tokens: tuple[str, ...], text: str) -> None:
    assert text_of(text_lines.running_text(tokens, np.zeros(len(tokens)), 80)) == text


def test_sign_and_size_are_painted_and_said() -> None:
    tokens = ("a", "##b", "##c", "d", "e", "f")
    (line,) = text_lines.running_text(tokens, np.array([1.0, 0.5, -0.4, 0.001, -1.0, math.nan]), 80)
    assert list(line) == [
        ("+a", Role.RISE_4),
        ("b", Role.RISE_3),
        ("-c", Role.FALL_3),
        (" ", Role.TEXT),
        ("d", Role.MUTED),
        (" ", Role.TEXT),
        ("-e", Role.FALL_4),
        (" ", Role.TEXT),
        ("!f", Role.NONFINITE),
    ]


@given(
    st.lists(st.sampled_from(["a", "##b", "Ġc", "▁d", "世界" * 9, EVIL, "", "x" * 70, "[CLS]"]), max_size=20),
    st.integers(4, 100),
)
def test_running_text_keeps_within_its_width(tokens: list[str], width: int) -> None:
    scores = np.linspace(-1.0, 1.0, len(tokens))
    check_within(text_lines.running_text(tokens, scores, width), width)


@given(st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=30), st.integers(6, 40))
def test_no_token_is_lost_in_the_wrapping(words: list[str], width: int) -> None:
    lines = text_of(text_lines.running_text(words, np.zeros(len(words)), width))
    assert "".join(lines.split()) == "".join(words)


def test_scores_are_summed_over_all_but_tokens_and_over_inputs() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 3, 8)), rng.normal(size=(2, 3, 4, 2))
    scores = text_lines.token_scores([first, second, rng.normal(size=(2, 9))], [("a", "b", "c")] * 2, 1)
    assert scores is not None and np.allclose(scores, first[1].sum(axis=1) + second[1].sum(axis=(1, 2)))
    assert text_lines.token_scores([rng.normal(size=(2, 9))], [("a", "b", "c")] * 2, 0) is None
    assert text_lines.token_scores([first], [()] * 2, 0) is None


def test_what_scores_come_to() -> None:
    text = Scored("of this run", ("good", "bad", "odd"), np.array([2.0, -0.5, math.nan]), doubt="off")
    lines = text_of(text_lines.scored_lines(text, 100)).splitlines()
    assert lines[0] == "▲ of this run"
    assert lines[1] == "sum nan, highest “good” +2.000, lowest “bad” -0.5000, 1 of 3 not a number"
    assert text_of(text_lines.scored_lines(Scored("t", (), np.zeros(0)), 40)).startswith("t\nsum 0")


def test_agreement_is_that_of_the_scores() -> None:
    scores = [(1.0, 2.0, -3.0), (2.0, 1.0, -1.0), (-1.0, -2.0, 3.0)]
    rankings = [Ranking(name, values) for name, values in zip("xyz", scores, strict=True)]
    lines = text_of(text_lines.agreement_lines(rankings, 100)).splitlines()
    for row, line in enumerate(lines[-3:]):
        assert line.startswith(f"{row + 1} {'xyz'[row]}")
        expected = []
        for measure in (cosine, spearman):
            expected += ["·" if row == other else f"{measure(scores[row], scores[other]):+.2f}" for other in range(3)]
        assert line.split()[2:] == expected
    assert "-1.00" in lines[-1]
    assert text_lines.agreement_lines(rankings[:1], 100) == []
    odd = [Ranking("x", (1.0, 2.0)), Ranking("y", (1.0,))]
    assert text_of(text_lines.agreement_lines(odd, 100)).splitlines()[-1].split()[2:] == ["-", "·", "-", "·"]


@pytest.mark.parametrize("width", [38, 60, 100])
def test_agreement_keeps_within_its_width(width: int) -> None:
    rankings = [Ranking(EVIL * 3, (1.0, 2.0)), Ranking("世" * 50, (math.nan, 1.0)), Ranking("z", (0.0, 0.0))]
    check_within(text_lines.agreement_lines(rankings, width), width)


def test_the_screen_shows_text_agreement_and_rankings(trace: Trace) -> None:
    async def story() -> None:
        async with shown(trace, (120, 60)) as pilot:
            await pilot.press("3")
            assert isinstance(pilot.app.screen, TokensScreen)
            text = screen_text(pilot)
            for part in ("Example 0: attributions of this run (captum)", "Example 1: ", "raises the output", "cosine"):
                assert part in text, part
            for part in ("DeepLIFT, of the first example", "amazing", "rank correlation"):
                assert part in text, part
            await pilot.press("t")
            assert "cosine" not in screen_text(pilot) and "amazing" in screen_text(pilot)
            await pilot.press("c")
            assert "Example 0: " in screen_text(pilot) and "Example 1: " not in screen_text(pilot)
            await pilot.press("c", "c")
            assert "mean attention, last 4 layers, of the first example" in screen_text(pilot)
            await pilot.press("c", "c", "c")
            assert "Example 1: " in screen_text(pilot), "all again"
            await pilot.press("]", "]")
            assert "Example 0: " not in screen_text(pilot) and "Example 1: " in screen_text(pilot)
            assert "of the first example" not in screen_text(pilot), "rankings are of another text"

    run(story)


def test_the_runs_own_ranking_is_not_shown_twice(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "t.dltrace", layers=1, ops_per_layer=8)
    trace = open_trace(tmp_path / "t.dltrace")
    scores = text_lines.token_scores(trace.attributions, trace.run.tokens, 0)
    assert scores is not None
    trace.run = replace(trace.run, panel=Panel(rankings=(Ranking("own", tuple(scores)), Ranking("other", (1.0,) * 12))))

    async def story() -> None:
        async with shown(trace) as pilot:
            await pilot.press("3", "t")
            lines = screen_text(pilot).splitlines()
            assert any(line.strip().startswith("other") for line in lines)
            assert not any(line.strip().startswith("own") for line in lines)

    run(story)


def test_what_is_missing_is_said_in_words(tmp_path: Path) -> None:
    no_tokens = tmp_path / "n.dltrace"
    write_synthetic(no_tokens, layers=1, tokens=False)
    elsewhere = write(tmp_path / "e.dltrace", [node(0, None, 1, 0, "", 1.0)], tokens=(("a", "b"),), panel=Panel())

    async def story() -> None:
        for trace, words in ((open_trace(no_tokens), "names no tokens"), (elsewhere, "not by token")):
            async with shown(trace, (60, 20)) as pilot:
                await pilot.press("3")
                assert words in " ".join(screen_text(pilot).split())
                await pilot.press("c", "t", "c", "]", "G")
                assert isinstance(pilot.app.screen, TokensScreen)

    run(story)


@pytest.mark.parametrize("size", SIZES)
def test_the_text_is_seen_at_every_size(trace: Trace, size: tuple[int, int]) -> None:
    async def story() -> None:
        async with shown(trace, size) as pilot:
            await pilot.press("3", "]")
            assert "[CLS]" in screen_text(pilot)
            await pilot.press("G")
            assert "█" in screen_text(pilot), "the rankings"

    run(story)
