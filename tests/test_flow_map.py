"""The flow map keeps the ledger's law: a row sums to the flow of its edge, and with exact rules to f(x) − f(x')."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.synthetic import synthetic_run, write_synthetic
from tests.test_rows import node
from tracer.analysis.flow_map import flow_map
from tracer.errors import InputError
from tracer.recording.options import Details
from tracer.recording.record import record
from tracer.records import Edge, Statistics, TensorRef
from tracer.tracefile.trace import Trace
from tracer.tracefile.writer import TraceWriter

EXAMPLES, TOKENS, WIDTH = 3, 5, 4
WORDS = tuple(tuple(f"{example}{place}" for place in range(TOKENS)) for example in range(EXAMPLES))


class Block(nn.Module):
    """Attention without heads, and what stands around it: gives a tuple, as Hugging Face's layers do."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.steps = nn.ModuleList([nn.Linear(WIDTH, WIDTH), nn.Tanh()])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weights = (self.mix(x) @ x.transpose(1, 2)).softmax(-1)
        h = self.norm(x + weights @ x)
        for step in self.steps:
            h = step(h)
        return h, weights


class Encoder(nn.Module):
    """Embeddings, a list of blocks, a last norm, a head on the first token."""

    def __init__(self, blocks: int = 3) -> None:
        super().__init__()
        self.embeddings, self.norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.body = nn.Module()
        self.body.layer = nn.ModuleList(Block() for _ in range(blocks))
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embeddings(x) * 2
        for block in self.body.layer:
            x, _ = block(x)
        return self.head(self.norm(x)[:, 0])


def traced(model: nn.Module, method: str = "exact", **options: Any) -> Trace:
    torch.manual_seed(7)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    x, reference = torch.randn(2, EXAMPLES, TOKENS, WIDTH, dtype=torch.float64)
    details = Details(target="1", tokens=WORDS, reference_tokens=WORDS)
    return record(model.double(), x, reference, target=1, method=method, details=details, **options)  # type: ignore[arg-type]


def flows(trace: Trace, nodes: tuple[int, ...], example: int) -> list[float]:
    """The flow of each row's edge: the first one in of node 0, the first one out of the others."""
    edges = (trace.edges(one) for one in nodes)
    return [
        next(edge for edge in found if edge.direction == ("out" if one else "in")).flow[example]
        for one, found in zip(nodes, edges, strict=True)
    ]


def hand_made(
    value: tuple[float, ...],
    reference: tuple[float, ...],
    multiplier: tuple[float, ...] | None,
    elided: int | None = None,
) -> Trace:
    """One example of two tokens and width 1: the model's input, and its only layer unless `multiplier` is None.

    `elided` is the number of the row whose multiplier was left out; `multiplier` None leaves them all out.
    """
    run = replace(synthetic_run(tensors=True), tokens=(("one", "two"),))
    with TraceWriter(None) as writer:
        writer.begin(run)

        def stored(numbers: tuple[float, ...]) -> TensorRef:
            return writer.put_tensor(np.array(numbers).tobytes(), "float64", (1, len(numbers), 1))

        def edge(row: int) -> Edge:
            kept = multiplier is not None and row != elided
            out = stored(multiplier) if kept and multiplier else TensorRef(None, "float64", (1, 2, 1), elided=True)
            sizes = Statistics(2, 0, 1.0, 1.0, 1.0, 1.0)
            return Edge(
                "out" if row else "in", 0, "x", (1, 2, 1), "float64", np.zeros(1), multiplier_statistics=sizes,
                value=stored(value), reference=stored(reference), multiplier=out,
            )  # fmt: skip

        writer.add(node(path="", end=2), (edge(0),))
        writer.add(node(1, path="layer.0"), (edge(1),))
        writer.finish(run)
        return writer.trace()


def test_rows_are_the_input_the_embeddings_the_layers_and_the_norm() -> None:
    trace = traced(Encoder())
    found = flow_map(trace, 1)
    assert found.names == ("input", "embeddings", "layer.0", "layer.1", "layer.2", "norm")
    assert [trace.columns.paths[one] for one in found.nodes] == [
        "", "embeddings", "body.layer.0", "body.layer.1", "body.layer.2", "norm",
    ]  # fmt: skip
    assert found.tokens == WORDS[1] and found.values.shape == (6, TOKENS) and found.values.dtype == np.float64


@pytest.mark.parametrize("method", ["exact", "gradient", "captum"])
def test_a_row_sums_to_the_flow_of_its_edge(method: str) -> None:
    trace = traced(Encoder(), method)
    for example in range(EXAMPLES):
        found = flow_map(trace, example)
        assert found.values.sum(axis=1) == pytest.approx(flows(trace, found.nodes, example), rel=1e-12, abs=1e-13)
        assert found.values[0] == pytest.approx(trace.attributions[0][example].sum(axis=-1), rel=1e-12, abs=1e-13)


def test_with_exact_rules_every_row_sums_to_the_change_of_the_output() -> None:
    trace = traced(Encoder())
    for example in range(EXAMPLES):
        change = trace.run.output[example] - trace.run.output_reference[example]
        assert flow_map(trace, example).values.sum(axis=1) == pytest.approx([change] * 6, rel=1e-9)
        # The tokens themselves change from row to row, or the map would say nothing.
        assert np.ptp(flow_map(trace, example).values, axis=0).min() > 0.02 * abs(change)


def test_what_holds_the_layers_and_what_they_hold_are_no_rows() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            inner = nn.Sequential(nn.Tanh(), nn.Linear(WIDTH, WIDTH))
            self.body, self.norm = nn.Sequential(nn.Linear(WIDTH, WIDTH), inner), nn.LayerNorm(WIDTH)
            self.head = nn.Linear(WIDTH, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.norm(self.body(x)).sum(1))

    assert flow_map(traced(Nested())).names == ("input", "body.0", "body.1", "norm")


def test_a_layer_that_is_called_again_is_a_row_of_its_own() -> None:
    class Shared(Encoder):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(3):
                x, _weights = self.body.layer[0](x)
            return self.head(x[:, 0])

    assert flow_map(traced(Shared(1))).names == ("input", "layer.0", "layer.0 #1", "layer.0 #2")


def test_names_are_long_enough_to_tell_lists_apart() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = Encoder(1).body, Encoder(2).body
            self.head = nn.Linear(WIDTH, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for block in (*self.left.layer, *self.right.layer):
                x, _ = block(x)
            return self.head(x[:, 0])

    names = flow_map(traced(Two())).names
    assert names == ("input", "left.layer.0", "right.layer.0", "layer.1")


def test_a_model_without_lists_shows_the_modules_of_one_depth() -> None:
    class Body(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Tanh()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x))

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = Body(), nn.Linear(WIDTH, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.body(x).sum(1))

    # The body alone at depth 1 would be one row; at depth 2 there are two.
    assert flow_map(traced(Plain())).names == ("input", "first", "second")


def test_a_model_with_tokens_first_is_read_along_its_own_axes() -> None:
    class TokensFirst(Encoder):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.embeddings(x).transpose(0, 1)
            return self.head(self.norm(x)[0])

    trace = traced(TokensFirst(0))
    found = flow_map(trace, 2)
    assert [trace.edges(one)[-1].shape[:2] for one in found.nodes[1:]] == [(EXAMPLES, TOKENS), (TOKENS, EXAMPLES)]
    assert found.values.sum(axis=1) == pytest.approx(flows(trace, found.nodes, 2), rel=1e-12)


def test_what_is_the_same_infinity_in_both_runs_does_not_differ() -> None:
    trace = hand_made(value=(np.inf, 2.0), reference=(np.inf, 1.0), multiplier=(3.0, 5.0))
    assert flow_map(trace).values.tolist() == [[0.0, 5.0], [0.0, 5.0]]


def test_what_was_left_out_is_nan_and_all_left_out_is_said() -> None:
    trace = hand_made(value=(1.0, 2.0), reference=(0.0, 0.0), multiplier=(3.0, 5.0), elided=1)
    assert np.array_equal(flow_map(trace).values, [[3.0, 10.0], [np.nan, np.nan]], equal_nan=True)
    with pytest.raises(InputError, match="the tensors of the layers were left out of the trace to save room"):
        flow_map(hand_made(value=(1.0, 2.0), reference=(0.0, 0.0), multiplier=None))


def test_a_file_that_gives_an_edge_a_tensor_of_another_shape_gives_no_row() -> None:
    with pytest.raises(InputError, match="left out"):
        flow_map(hand_made(value=(1.0, 2.0, 3.0), reference=(0.0, 0.0), multiplier=(3.0, 5.0)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tensors": False}, "the trace holds figures only; record it with --capture tensors"),
        ({"tensors": True, "tokens": False}, "the trace names no tokens, so it is not of a text"),
    ],
)
def test_what_is_missing_is_said(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        flow_map(write_synthetic(None, layers=1, **options).trace())


def test_an_example_that_is_not_there_is_said() -> None:
    trace = write_synthetic(None, layers=1, examples=2, tensors=True).trace()
    assert flow_map(trace, 1).values.shape == (2, 12)
    for example in (2, -1):
        with pytest.raises(InputError, match=f"there is no example {example}: the trace holds 2, 0 to 1"):
            flow_map(trace, example)


def test_no_call_with_the_tokens_is_said() -> None:
    run = replace(synthetic_run(tensors=True), tokens=(("one", "two"),))
    with TraceWriter(None) as writer:
        writer.begin(run)
        writer.add(node(), ())
        writer.finish(run)
        with pytest.raises(InputError, match="no call gives a tensor with a row for each of the 2 tokens"):
            flow_map(writer.trace())
