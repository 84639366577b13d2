"""What a query finds, and in which order; names can be searched at once, source lines when they have been read."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.synthetic import write_synthetic
from tracer.tracefile.trace import Trace
from tui.model import search
from tui.model.search import Index, Searchable, read_sources
from tui.model.session import figures_of

PATHS = ["", "bert", "bert.layer.0", "bert.layer.0/softmax", "bert.layer.1/softmax"]
TYPES = ["Model", "BertModel", "BertLayer", "softmax", "softmax"]
SOURCES = ["", "", "", "modeling.py:30", "modeling.py:44"]
NAMES = st.text(alphabet="berts lay01./_S", max_size=9)


def found(index: Index, query: str) -> list[int]:
    return index.find(query).ranked.tolist()


def test_every_word_counts_in_any_order_and_case() -> None:
    index = Index(PATHS, TYPES, SOURCES)
    assert found(index, "softmax") == [3, 4]
    assert found(index, "SOFTMAX layer.1") == [4]
    assert found(index, "bertlayer") == [2]
    assert found(index, "py:30") == [3]
    assert found(index, "  ") == [] == found(index, "nothing")


@given(st.lists(NAMES, max_size=6))
def test_what_was_asked_before_does_not_matter(queries: list[str]) -> None:
    used = Index(PATHS, TYPES, SOURCES)
    for query in queries:
        fresh = Index(PATHS, TYPES, SOURCES).find(query)
        assert found(used, query) == fresh.ranked.tolist()


def test_the_best_comes_first() -> None:
    paths = ["a.attention.output", "a.output_layer.dense", "b.output", "x.rawoutputs", "layer.0.attention"]
    index = Index(paths, ["M"] * 5)
    assert found(index, "output") == [0, 2, 3, 1], (
        "a call of that name, one with it in its name, one inside such a call"
    )
    assert found(index, "attention") == [4, 0], "the call of that name before what lies in it"
    types = Index(["a.n", "b.norm"], ["LayerNorm", "Other"])
    assert found(types, "layernorm") == [0]
    assert found(Index(["aa", "ba"], ["a", "a"]), "a") == [0, 1], "equals keep the order of execution"


def test_letters_may_have_others_between_them_where_nothing_has_the_words_as_written() -> None:
    index = Index(PATHS, TYPES, SOURCES)
    loose = index.find("sfmx")
    assert loose.loosely and loose.ranked.tolist() == [3, 4]
    assert found(index, "l1 sfmx") == [4]
    assert not index.find("softmax").loosely
    assert found(index, "xamtfos") == [], "the order of the letters counts"
    assert found(index, "世界") == []


def test_the_shortest_stretch_comes_first() -> None:
    index = Index(["s.long.way.to.max", "soft.max", "x"], ["M"] * 3)
    assert index.find("smax").ranked.tolist() == [1, 0]


@settings(max_examples=200)
@given(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=6), NAMES)
def test_it_finds_what_a_slow_search_finds(calls: list[tuple[str, str]], query: str) -> None:
    paths, types = [path for path, _ in calls], [name for _, name in calls]
    words = query.casefold().split()
    texts = [f"{path}\n{name}".casefold() for path, name in calls]

    def is_loose(place: int) -> bool:
        patterns = [".*".join(map(re.escape, word)) for word in words]
        return all(any(re.search(each, text.casefold()) for text in calls[place]) for each in patterns)

    exact = [place for place, text in enumerate(texts) if words and all(word in text for word in words)]
    loose = [place for place in range(len(calls)) if words and is_loose(place)]
    hits = Index(paths, types).find(query)
    assert sorted(hits.ranked.tolist()) == (exact or loose)
    assert hits.loosely == (not exact) or not words


def test_hits_know_their_places() -> None:
    hits = Index(PATHS, TYPES).find("softmax")
    assert [hits.place_of(node) for node in (3, 4, 0)] == [0, 1, None]
    assert hits.below(4).ranked.tolist() == [3] and hits.below(5) is hits


@pytest.fixture(scope="module")
def trace() -> Trace:
    """A small trace, in memory."""
    return write_synthetic(None, layers=2).trace()


def test_all_source_lines_are_read_in_chunks(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [node.source or "" for node in trace.nodes]
    assert any(expected) and "" in expected
    for chunk in (1, 7, len(expected), 5_000):
        monkeypatch.setattr(search, "_CHUNK", chunk)
        assert read_sources(trace, lambda: False) == expected


def test_reading_can_be_given_up(trace: Trace) -> None:
    assert read_sources(trace, lambda: True) is None


def test_source_lines_join_the_search(trace: Trace) -> None:
    searchable = Searchable(figures_of(trace))
    assert not len(searchable.index.find("synthetic.py:5")) and not searchable.complete
    sources = read_sources(trace, lambda: False)
    assert sources is not None
    searchable.replace(searchable.completed(sources))
    found = searchable.index.find("synthetic.py:5").ranked.tolist()
    assert searchable.complete and found
    assert all("synthetic.py:5" in (trace.nodes[node].source or "") for node in found)
