"""The texts to search: names at once, source lines when they have been read."""

from __future__ import annotations

import pytest

from tests.synthetic import write_synthetic
from tracer.tracefile.trace import Trace
from tui.model import searchable as searching
from tui.model.searchable import Searchable, read_sources
from tui.model.session import figures_of


@pytest.fixture(scope="module")
def trace() -> Trace:
    """A small trace, in memory."""
    return write_synthetic(None, layers=2).trace()


def test_all_source_lines_are_read_in_chunks(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [node.source or "" for node in trace.nodes]
    assert any(expected) and "" in expected
    for chunk in (1, 7, len(expected), 5_000):
        monkeypatch.setattr(searching, "_CHUNK", chunk)
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
