"""The comparison with other tools runs, compares the same work, and leaves out what is not installed."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest
import torch
from transformers import BertConfig

from tests.benchmarks import comparison, observers
from tracer.model.tensors import tensors_in

TINY = BertConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2, intermediate_size=16, vocab_size=20)
warnings.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _no_collecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between timed runs the garbage is collected, which takes longer than the tiny runs."""
    monkeypatch.setattr(comparison.gc, "collect", lambda: 0)


def test_plain_hooks_keep_each_output_of_a_module_and_the_gradient_that_torch_gives_it() -> None:
    given = observers.frozen_subject(TINY, 3)
    returned: dict[int, torch.Tensor] = {}
    for module in given.model.modules():
        module.register_forward_hook(
            lambda _module, _args, output: returned.update((id(tensor), tensor) for _, tensor in tensors_in(output))
        )
    both, masks = given.both()
    logits = given.model(both, masks)
    carrying = [tensor for tensor in returned.values() if tensor.requires_grad]
    gradients = iter(torch.autograd.grad(logits[:, observers.CLASS].sum(), carrying))
    wanted = [(tensor, next(gradients) if tensor.requires_grad else None) for tensor in returned.values()]

    found = observers.hooked(observers.frozen_subject(TINY, 3))
    assert len(found) == len(wanted) > 10
    assert all(map(observers.equal, found, wanted))
    assert observers.size(found)[0] == len(wanted) + len(carrying)


def test_every_installed_tool_has_a_row_and_passes_its_check(tmp_path: Path) -> None:
    bases, rows = comparison.measure(TINY, 3, 1, tmp_path)
    assert set(bases) == {"passes", "captum"} and all(len(taken) == 1 for taken in bases.values())
    assert all(row.ratio > 0 and row.tensors > 0 and row.bytes > 0 for row in rows)
    by_name = {row.name: row for row in rows}
    kept = {name.split(", ", 1)[1]: row.tensors for name, row in by_name.items() if name.startswith("deeplift-tracer")}
    assert kept["figures"] == 1  # the attribution
    assert kept["tensors, to a file"] == kept["tensors, in memory"] > by_name["plain hooks that clone"].tensors
    assert (tmp_path / "run.dltrace").is_file()


def test_what_is_not_installed_is_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(comparison, "SHAPES", {"tiny": (TINY, 3)})
    monkeypatch.setattr(comparison, "NAMED_SHAPES", {"tiny": "tiny"})
    monkeypatch.setattr(comparison, "find_spec", lambda _name: None)
    monkeypatch.setattr(observers, "find_spec", lambda _name: None)
    monkeypatch.setattr(sys, "argv", ["comparison", "--rounds", "1", "--shape", "tiny"])
    comparison.main()
    printed = capsys.readouterr().out.splitlines()
    assert "torchlens is not installed and left out: pip install -e '.[benchmarks]'" in printed
    rows = [line for line in printed if line.startswith("| ")][1:]
    assert len(rows) == 4 and not any("torchlens" in row or "nnsight" in row for row in rows)
