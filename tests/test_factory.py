"""Any PyTorch model with tensors of a file: what is recorded is what was given, and a mistake is one clear line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.rounding import of_delta
from tracer import cli, open_trace
from tracer.subject.factory import is_factory, load_factory
from tracer.subject.inputs_file import read_inputs
from tracer.subject.tensors import make_tensor_subject

MODELS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, classes)
        self.drop = nn.Dropout(0.9)
    def forward(self, x, scale=None):
        print("on standard output")
        hidden = self.drop(torch.tanh(self.first(x) * 3))
        return self.last(hidden if scale is None else hidden * scale)

class Two(nn.Module):
    def forward(self, a, b, rows):
        return (a * b)[torch.arange(len(rows)), rows] ** 2

class Grid(nn.Module):
    def forward(self, x):
        return torch.stack([x ** 2, x ** 3], dim=-1)

class Words(nn.Module):
    def forward(self, x):
        return torch.softmax(x.sum(1), dim=-1).log()

class Alone(nn.Module):
    def forward(self, x):
        assert len(x) == 2, "two examples only"
        return x.exp()

def net(): return Net()
def wide(): return Net(40)
def broken(): raise ValueError("no weights\\nat all")
def nothing(): return 3
def leave(): raise SystemExit(4)
def whole(): return nn.Sequential(nn.Flatten(0))
def scalar(): return nn.Identity()
ready = Net()
number = 5
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current directory with own_models.py, own_broken.py and x.safetensors, forgotten again afterwards."""
    (tmp_path / "own_models.py").write_text(MODELS)
    (tmp_path / "own_broken.py").write_text("import no_such_package_at_all\n")
    (tmp_path / "own_error.py").write_text("raise RuntimeError('half done')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    write("x.safetensors", input=torch.randn(2, 4, generator=torch.Generator().manual_seed(1)))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


def write(file: str, metadata: dict[str, str] | None = None, **tensors: torch.Tensor) -> None:
    save_file({name.replace("_", "."): tensor for name, tensor in tensors.items()}, file, metadata)


def call(*arguments: str) -> int:
    return cli.main(["trace", *arguments])


def subject(model: str, file: str, target: str | None = None) -> Any:
    return make_tensor_subject(load_factory(model), read_inputs(Path(file)), model, target)


@pytest.mark.rounding
@pytest.mark.parametrize("method", ["exact", "captum", "gradient"])
def test_a_batch_from_the_command_line(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("own_models:net", "--inputs", "x.safetensors", "--method", method, "--target", "1") == 0
    assert capsys.readouterr().out == "own_models-net.dltrace\n"  # what the model prints goes elsewhere
    assert cli.main(["report", "own_models-net.dltrace", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    model: Any = load_factory("own_models:net")
    x = read_inputs(Path("x.safetensors")).inputs[0]
    with torch.no_grad():
        expected = model(x)[:, 1]
        reference = model(torch.zeros_like(x))[:, 1]
    with open_trace("own_models-net.dltrace") as trace:
        bound = of_delta(trace, 6)
        assert (np.abs(trace.run.output - expected.numpy()) <= bound).all()
        assert (np.abs(trace.run.output_reference - reference.numpy()) <= bound).all()
        sums = trace.attributions[0].sum(1)
        assert (np.abs(trace.delta - (sums - (expected - reference).numpy())) <= 2 * bound).all()
        assert "first" in [node.path for node in trace.nodes]
        assert (trace.run.target, trace.run.reference, trace.run.tokens) == ("1", "zeros", ())
        gradients, own = trace.run.panel.rankings
        np.testing.assert_allclose(own.scores, trace.attributions[0][0], rtol=1e-5)
        assert own.delta == pytest.approx(float(trace.delta[0])) and gradients.relative_delta is not None
        assert bool((np.abs(trace.delta) <= bound).all()) is (method == "exact")
    assert data["relative_delta"] == pytest.approx(trace.run.relative_delta)
    assert data["panel"]["labels"] == ["0", "1", "2"]
    assert data["panel"]["output"][1] == pytest.approx(float(expected[0]), rel=0, abs=bound[0])


def test_several_inputs_baselines_and_extras() -> None:
    a, b = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double(), torch.full((2, 2), 2.0).double()
    write("two.safetensors", input_0=a, input_1=b, baseline_1=torch.ones(1, 2).double(), extra_0=torch.tensor([1, 0]))
    assert call("own_models:Two", "--inputs", "two.safetensors", "--method", "exact", "-o", "two.dltrace") == 0
    with open_trace("two.dltrace") as trace:
        assert trace.run.output.tolist() == [16.0, 36.0] and trace.run.output_reference.tolist() == [0.0, 0.0]
        assert [array.dtype for array in trace.attributions] == [np.float64] * 2
        # (a·b)² by midpoints: m = (ab + a'b'), shared between a and b as (b + b')/2 and (a + a')/2.
        np.testing.assert_allclose(trace.attributions[0], [[0, 12.0], [27.0, 0]])
        np.testing.assert_allclose(trace.attributions[1], [[0, 4.0], [9.0, 0]])
        assert (trace.run.target, trace.run.reference) == ("output", "baselines of the file")


def test_extras_of_one_row_an_example_reach_integrated_gradients() -> None:
    write("x2.safetensors", input=torch.randn(3, 4), extra=torch.rand(3, 6))
    assert call("own_models:net", "--inputs", "x2.safetensors", "--method", "exact", "-o", "x2.dltrace") == 0
    with open_trace("x2.dltrace") as trace:
        gradients = trace.run.panel.rankings[0]
        assert gradients.note == "" and gradients.relative_delta is not None and gradients.relative_delta < 1e-3


def test_tokens_and_text_of_the_metadata() -> None:
    tokens = [["a", "film"], ["the", "movie"]]
    write("t.safetensors", {"tokens": json.dumps(tokens), "text": "two reviews"}, input=torch.randn(2, 2, 5))
    assert call("own_models:Words", "--inputs", "t.safetensors", "--method", "exact", "-o", "t.dltrace") == 0
    with open_trace("t.dltrace") as trace:
        assert trace.run.tokens == (("a", "film"), ("the", "movie")) and trace.run.text == "two reviews"
        scores = trace.run.panel.rankings[-1].scores
        np.testing.assert_allclose(scores, trace.attributions[0][0].sum(-1), rtol=1e-5)
        assert (np.abs(trace.delta) <= of_delta(trace, 5)).all()


def test_targets() -> None:
    x = read_inputs(Path("x.safetensors")).inputs[0]
    each = load_factory("own_models:net")(x).argmax(1).tolist()
    chosen = subject("own_models:net", "x.safetensors")
    assert chosen.target == (each[0] if each[0] == each[1] else each)
    write("apart.safetensors", input=torch.eye(2))
    apart = subject("own_models:scalar", "apart.safetensors")
    assert (apart.target, apart.target_name, apart.row) == ([0, 1], "0, 1 (each example's largest)", 0)
    assert call("own_models:scalar", "--inputs", "apart.safetensors", "--method", "exact", "-o", "a.dltrace") == 0
    with open_trace("a.dltrace") as trace:
        assert trace.run.output.tolist() == [1.0, 1.0]
    grid = subject("own_models:Grid", "x.safetensors", "3, 1")
    assert (grid.target, grid.labels, grid.first_outputs[0]) == (
        (3, 1),
        ("3,1",),
        (pytest.approx(float(x[0, 3] ** 3)),),
    )
    wide = subject("own_models:wide", "x.safetensors", "7")
    assert len(wide.labels) == 6 and wide.labels[0] == "7" and wide.row == 0


def test_a_model_that_takes_no_other_batch_keeps_its_trace() -> None:
    assert call("own_models:Alone", "--inputs", "x.safetensors", "--method", "exact", "-o", "a.dltrace") == 0
    with open_trace("a.dltrace") as trace:
        gradients, own = trace.run.panel.rankings
        assert gradients.note.startswith(
            "Integrated Gradients does not run on this model: AssertionError: two examples only"
        )
        assert gradients.scores == () and own.note == "" and (np.abs(trace.delta) <= of_delta(trace, 4)).all()
    assert cli.main(["report", "a.dltrace"]) == 0


def test_modules_and_classes_are_factories_too() -> None:
    for name in ("own_models:ready", "own_models:Net", "own_models:net"):
        assert not load_factory(name).training
    assert is_factory("a.b:c") and is_factory("a:b.c")
    assert not any(map(is_factory, ("owner/name", "a", "a:", ":b", "./a:b", "a b:c", "1a:b", "C:\\models")))


MODEL_MISTAKES = [
    ("own_none:net", "there is no module 'own_none' in the current directory or among the installed packages"),
    ("own_models.sub:net", "there is no module 'own_models.sub' in the current directory"),
    ("own_broken:net", "own_broken needs the module 'no_such_package_at_all', which is not installed"),
    ("own_error:net", "importing own_error raises RuntimeError: half done"),
    ("own_models:nil", "own_models has no 'nil': give a function that returns the model"),
    ("own_models:broken", "own_models:broken() raises ValueError: no weights at all"),
    ("own_models:leave", "own_models:leave() raises SystemExit: 4"),
    ("own_models:nothing", "own_models:nothing() returns int: it must return a torch.nn.Module"),
    ("own_models:number", "own_models:number is int: give a function that returns the model"),
    ("own_models:whole", "Sequential gives a tensor of shape (8,) for 2 examples: expected (examples, ...)"),
    ("own_models:Two", "Two does not run on the tensors of the file: TypeError: "),
    ("own_models:Grid", "the model gives (4, 2) numbers an example: name one with --target, 2 numbers with commas"),
]


@pytest.mark.parametrize(("model", "line"), MODEL_MISTAKES)
def test_mistakes_in_the_model(model: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(model, "--inputs", "x.safetensors") == 2
    assert_one_line(capsys, line)


X = torch.ones(2, 4)
FILE_MISTAKES: list[tuple[dict[str, torch.Tensor], dict[str, str], str]] = [
    ({"x": X}, {}, "f.safetensors has a tensor 'x': expected input, baseline and extra"),
    ({"extra": X}, {}, "f.safetensors has no tensor named input"),
    ({"input": X.long()}, {}, "input has dtype int64; DeepLIFT needs floating point: give the output of the embedding"),
    ({"input_0": X, "input_1": X.bool()}, {}, "input.1 has dtype bool; DeepLIFT needs floating point"),
    ({"input": X, "input_0": X}, {}, "f.safetensors has both input and input.0: leave one of them out"),
    ({"input_0": X, "input_2": X}, {}, "f.safetensors has input.2 but no input.1: number them from 0 without gaps"),
    ({"input_0": X, "input_1": X[:1]}, {}, "input.1 has 1 examples, input.0 has 2: give as many"),
    ({"input": torch.tensor(1.0)}, {}, "input has shape (): expected (examples, ...), none of them 0"),
    ({"input": X[:0]}, {}, "input has shape (0, 4): expected (examples, ...), none of them 0"),
    (
        {"input": X, "baseline": X[:, :3]},
        {},
        "baseline.0 has shape (2, 3), input.0 (2, 4): give the same shape",
    ),
    ({"input": X, "baseline": X.long()}, {}, "baseline.0 has dtype int64: give floating point, as the input is"),
    ({"input": X, "baseline_1": X}, {}, "there is a baseline.1 but no input.1: give one baseline an input"),
    (
        {"input": X.double()},
        {},
        "Net does not run on the tensors of the file: RuntimeError: mat1 and mat2",
    ),
    ({"input": X[:, :3]}, {}, "Net does not run on the tensors of the file: RuntimeError: mat1 and mat2 shapes"),
    ({"input": X}, {"tokens": "a b"}, "the metadata's tokens are not JSON"),
    ({"input": X}, {"tokens": '["a", "b"]'}, "the metadata's tokens are not lists of texts: give a JSON list"),
    ({"input": X}, {"tokens": '[["a"]]'}, "the metadata has tokens for 1 examples, the input has 2"),
    ({"input": X}, {"tokens": '[["a"], ["b"]]'}, "example 0 has 1 tokens in the metadata, the input has shape (2, 4)"),
]


@pytest.mark.parametrize(("tensors", "metadata", "line"), FILE_MISTAKES)
def test_mistakes_in_the_file(
    tensors: dict[str, torch.Tensor], metadata: dict[str, str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("f.safetensors", metadata, **{name: tensor.contiguous().clone() for name, tensor in tensors.items()})
    assert call("own_models:net", "--inputs", "f.safetensors") == 2
    assert_one_line(capsys, line)


OPTION_MISTAKES = [
    (("own_models:net", "--inputs", "none"), "none is not a file: give a safetensors file with a tensor named input"),
    (("own_models:net", "--inputs", "own_models.py"), "own_models.py is not a safetensors file that can be read: "),
    (("own_models:net",), "--inputs is missing: give own_models:net a safetensors file with a tensor named input"),
    (("own_models:net", "--inputs", "x.safetensors", "--text", "a"), "--text is for Hugging Face models and texts"),
    (("own_models:net", "--inputs", "x.safetensors", "--task", "causal"), "--task is for Hugging Face models"),
    (("own_models:net", "--inputs", "x.safetensors", "--reference-positions", "zero"), "--reference-positions is for"),
    (("own_models:net", "--inputs", "x.safetensors", "--target", "3"), "target '3' is out of range: 3 is not within 0"),
    (("own_models:net", "--inputs", "x.safetensors", "--target=-1"), "target '-1' is out of range"),
    (
        ("own_models:net", "--inputs", "x.safetensors", "--target", "0,1"),
        "target '0,1' has 2 numbers, the model gives ",
    ),
    (("own_models:net", "--inputs", "x.safetensors", "--target", "cat"), "target 'cat': expected a number, or numbers"),
    (("owner/name", "--inputs", "x.safetensors"), "--inputs goes with package.module:factory: explain owner/name for"),
    (("owner/name",), "--text is missing: give the text to explain owner/name for"),
]


@pytest.mark.parametrize(("arguments", "line"), OPTION_MISTAKES)
def test_mistakes_in_the_options(arguments: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*arguments) == 2
    assert_one_line(capsys, line)


def assert_one_line(capsys: pytest.CaptureFixture[str], line: str) -> None:
    out, err = capsys.readouterr()
    said = [text for text in err.splitlines() if text.startswith("deeplift-tracer: ")]
    assert out == "" and len(said) == 1 and err.splitlines()[-1] == said[0] and "Traceback" not in err
    assert said[0].startswith(f"deeplift-tracer: {line}")
    assert not list(Path.cwd().glob("*.dltrace*"))


def test_a_model_with_nan_is_told_where_they_come_from_and_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "with_nan.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).eval()\n"
        "    nn.init.constant_(model[2].bias, float('nan'))\n"
        "    return model\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    save_file({"input": torch.ones(1, 4)}, "inputs.safetensors")
    arguments = ["trace", "with_nan:make", "--inputs", "inputs.safetensors", "--target", "0", "-o", "run.dltrace"]
    assert cli.main(arguments) == 0
    told = capsys.readouterr().err
    assert "2 (Linear) makes 2 numbers NaN or infinite" in told
    assert "brings the delta" not in told
    with open_trace(tmp_path / "run.dltrace") as trace:
        assert not trace.counterfactuals
