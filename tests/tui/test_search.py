"""What a query finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tui.search import Index

PATHS = ["", "bert", "bert.layer.0", "bert.layer.0/softmax", "bert.layer.1/softmax"]
TYPES = ["Model", "BertModel", "BertLayer", "softmax", "softmax"]
SOURCES = ["", "", "", "modeling.py:30", "modeling.py:44"]


def test_every_word_counts_in_any_order_and_case() -> None:
    index = Index(PATHS, TYPES, SOURCES)
    assert index.find("softmax").tolist() == [3, 4]
    assert index.find("SOFTMAX layer.1").tolist() == [4]
    assert index.find("bertlayer").tolist() == [2]
    assert index.find("py:30").tolist() == [3]
    assert index.find("  ").tolist() == [] == index.find("nothing").tolist()


@given(st.lists(st.text(alphabet="berts lay01", max_size=9), max_size=6))
def test_what_was_asked_before_does_not_matter(queries: list[str]) -> None:
    used = Index(PATHS, TYPES, SOURCES)
    for query in queries:
        assert used.find(query).tolist() == Index(PATHS, TYPES, SOURCES).find(query).tolist()
