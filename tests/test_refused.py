"""What cannot be traced is refused in one line: what was seen, and what to do instead; nothing of PyTorch's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import DeepLift
from safetensors.torch import save_file
from torch import Tensor, nn

import tracer
from tests.models import Plain
from tests.test_cli import call
from tests.wrong_numbers import METHODS, Holds, Inner, Method, attributed, made, tensors
from tracer.errors import InputError, ModelError
from tracer.model.unsupported import check_model, tensor_fault

# Quantisation and nested tensors are announced as deprecated, or as new.
pytestmark = pytest.mark.filterwarnings("ignore")


def one_line(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text and len(text) < 400, text
    return text


def entries(model: nn.Module, x: Any, reference: Any = None) -> dict[str, Callable[[], Any]]:
    """Every way into the library."""

    def by(method: Method) -> Callable[[], Any]:
        return lambda: attributed(model, x, reference, method)

    return {
        **{method: by(method) for method in METHODS},
        "DeepLift": lambda: tracer.DeepLift(model).attribute(x, reference, target=1),
    }


# --- models ---------------------------------------------------------------------------------------------------------


def quantised() -> nn.Module:
    import torch.ao.quantization as quantisation

    return quantisation.quantize_dynamic(made(Plain), {nn.Linear}, dtype=torch.qint8)  # type: ignore[no-any-return,no-untyped-call]


def quantised_weight() -> nn.Module:
    model = made(Plain)
    model.register_buffer("table", torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8))
    return model


def sharded() -> nn.Module:
    class FSDPModule:
        """What `torch.distributed.fsdp.fully_shard` adds to the bases of a module."""

    class Sharded(FSDPModule, Plain):
        pass

    return Sharded()


def exported() -> nn.Module:
    module: nn.Module = torch.export.export(made(Plain), (torch.ones(2, 4),)).module()
    return module


MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "DataParallel": (lambda: nn.DataParallel(made(Plain)), "it is DataParallel: pass the module inside it"),
    "FSDP": (sharded, r"sharded \(FSDP\): pass the model as it was before"),
    "quantised": (quantised, "it is a quantised Linear, which has no gradient: pass the model as it was before"),
    "a quantised buffer": (quantised_weight, "its table has the quantised dtype qint8"),
    "torch.export": (exported, "came out of torch.export: pass the Python module"),
    "the meta device": (lambda: Plain().to("meta"), "its weight is on the meta device, without values: load"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3)), "its weight has no shape yet: run the model once"),
}
UNSEEN: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "TorchScript": (lambda: torch.jit.script(made(Plain)), "it is a TorchScript module: pass the Python module"),
    "compiled": (lambda: torch.compile(made(Plain), backend="eager"), r"it is torch.compile'd: .*\._orig_mod"),
}  # type: ignore[dict-item]


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", [*MODELS, *UNSEEN])
def test_models_that_cannot_be_observed_are_refused_with_their_path(name: str, inside: bool) -> None:
    make, words = {**MODELS, **UNSEEN}[name]
    model: nn.Module = Holds(make()) if inside else make()
    for entry, run in entries(model, *tensors()).items():
        if entry == "DeepLift" and name in UNSEEN:
            continue
        with pytest.raises(ModelError, match=f"cannot be traced: .*{words}") as caught:
            run()
        told = one_line(caught.value)
        assert told.startswith("inner") if inside else not told.startswith("inner")


@pytest.mark.parametrize("name", UNSEEN)
def test_an_attribution_alone_takes_compiled_modules_and_notes_torchscript(name: str) -> None:
    lift, (x, ref) = tracer.DeepLift(Holds(UNSEEN[name][0]())), tensors()
    _found, delta = lift.attribute(x, ref, target=1, return_convergence_delta=True)
    assert (float(delta.abs().max()) < 1e-6) == (name == "compiled")
    assert ("unseen" in [note.kind for note in lift.notes]) == (name == "TorchScript")


def test_a_distributed_model_is_refused() -> None:
    """Without a process group there is none; the check asks for the type alone."""
    model = nn.parallel.DistributedDataParallel.__new__(nn.parallel.DistributedDataParallel)
    nn.Module.__init__(model)
    with pytest.raises(ModelError, match=r"it is DistributedDataParallel: pass the module inside it, model\.module"):
        check_model(Holds(model))


def test_fake_quantised_models_have_gradients_and_stay() -> None:
    import torch.ao.quantization as quantisation

    check_model(made(Plain))
    model = made(lambda: Inner(quantisation.FakeQuantize()))
    assert attributed(model, *tensors(), "exact").run.status == "complete"


@pytest.mark.parametrize("model", [None, "model", Plain, lambda x: x])
def test_what_is_no_module_is_refused(model: Any) -> None:
    for run in entries(model, *tensors()).values():
        with pytest.raises(ModelError, match=r"expected a torch\.nn\.Module"):
            run()


# --- compiled functions and modules compiled in place ----------------------------------------------------------------


def in_place() -> nn.Module:
    model = made(Plain)
    model.compile(backend="eager")
    return model


def its_leaves() -> nn.Module:
    model = made(Plain)
    for child in model.children():
        child.compile(backend="eager")
    return model


def its_forward() -> nn.Module:
    model = made(Plain)
    model.forward = torch.compile(model.forward, backend="eager")  # type: ignore[method-assign]
    return model


def a_function() -> nn.Module:
    return made(lambda: Inner(torch.compile(torch.relu, backend="eager")))


@pytest.mark.parametrize("make", [in_place, its_leaves, its_forward, a_function, lambda: Holds(in_place())])
@pytest.mark.parametrize("method", METHODS)
def test_what_was_compiled_in_place_is_traced_through_its_eager_source(
    make: Callable[[], nn.Module], method: Method
) -> None:
    torch._dynamo.reset()  # type: ignore[no-untyped-call]
    x, ref = tensors()
    torch.manual_seed(3)
    model = make().eval()
    trace = attributed(model, x, ref, method)
    plain = Inner(torch.relu) if make is a_function else Holds(made(Plain)) if isinstance(model, Holds) else Plain()
    plain.load_state_dict(model.state_dict())
    expected = attributed(plain, x, ref, method)
    assert [(node.path, node.type) for node in trace.nodes][1:] == [(n.path, n.type) for n in expected.nodes][1:]
    assert np.array_equal(trace.delta, expected.delta)
    compiled = model(x)  # and is compiled again afterwards
    assert torch.allclose(compiled, plain(x))


# --- inputs and references --------------------------------------------------------------------------------------------

ONES = torch.ones(2, 4)
INPUTS: dict[str, tuple[Callable[[], Any], str]] = {
    "sparse": (lambda: ONES.to_sparse(), r"is sparse or packed \(sparse_coo\): give x\.to_dense"),
    "csr": (lambda: ONES.to_sparse_csr(), r"is sparse or packed \(sparse_csr\): give x\.to_dense"),
    "nested": (lambda: torch.nested.nested_tensor([torch.ones(4), torch.ones(3)]), "is a nested tensor: pad its parts"),
    "jagged": (
        lambda: torch.nested.nested_tensor([torch.ones(4), torch.ones(3)], layout=torch.jagged),
        "is a nested tensor: pad its parts",
    ),
    "quantised": (
        lambda: torch.quantize_per_tensor(ONES, 0.1, 0, torch.qint8),
        r"has the quantised dtype qint8: give x\.dequantize",
    ),
    "meta": (lambda: ONES.to("meta"), "is on the meta device, without values"),
    "complex": (lambda: ONES.to(torch.complex64), r"has dtype complex64, .* give torch\.view_as_real\(x\)"),
}
SHAPES: dict[str, tuple[Callable[[], Any], str]] = {
    "a number": (lambda: torch.tensor(1.0), "is one number without axes: expected examples first"),
    "no example": (lambda: torch.ones(0, 4), "holds no example: its first axis has length 0"),
    "a list": (lambda: [1.0], "is list, not a tensor"),
    "nothing": (lambda: (), "there are no inputs"),
}


@pytest.mark.parametrize("name", [*INPUTS, *SHAPES])
def test_inputs_without_differences_are_refused(name: str) -> None:
    make, words = {**INPUTS, **SHAPES}[name]
    for entry, run in entries(made(Plain), make()).items():
        if entry == "watch":
            continue  # captum meets most of them first
        with pytest.raises(InputError, match=words) as caught:
            run()
        one_line(caught.value)


@pytest.mark.parametrize("name", INPUTS)
def test_references_without_differences_are_refused(name: str) -> None:
    make, words = INPUTS[name]
    for entry, run in entries(made(Plain), ONES, make()).items():
        if entry == "watch":
            continue
        with pytest.raises(InputError, match=f"the baseline {words.replace('x.', 'x.')}") as caught:
            run()
        one_line(caught.value)


def test_of_several_inputs_the_one_at_fault_is_named() -> None:
    class Two(Plain):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(a + b)

    with pytest.raises(InputError, match="the input 1 is sparse"):
        tracer.record(Two(), (ONES, ONES.to_sparse()), target=1, method="exact")
    with pytest.raises(InputError, match="the baseline 1 has dtype float64, its input float32"):
        tracer.record(Two(), (ONES, ONES), (ONES, ONES.double()), target=1)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        (ONES.double(), r"the baseline has dtype float64, its input float32: give baseline\.to\(input\)"),
        (ONES.half(), "the baseline has dtype float16, its input float32"),
        (ONES.long(), "the baseline has dtype int64, its input float32"),
        (ONES.bool(), "the baseline has dtype bool, its input float32"),
        (torch.ones(3, 4), r"the baseline has shape \(3, 4\), its input \(2, 4\): give the same shape"),
        (torch.ones(2, 1), r"the baseline has shape \(2, 1\), its input \(2, 4\)"),
        ("zeros", "the baseline is str, not a tensor or a number"),
    ],
)
def test_references_that_do_not_fit_their_input_are_refused(reference: Any, words: str) -> None:
    for entry, run in entries(made(Plain), ONES, reference).items():
        if entry == "watch":
            continue
        with pytest.raises(InputError, match=words) as caught:
            run()
        one_line(caught.value)


def test_a_reference_on_another_device_is_refused() -> None:
    class Elsewhere(Tensor):
        """Says that it lies on a GPU, where there need be none."""

        device = property(lambda _self: torch.device("cuda", 0))  # type: ignore[assignment]

    with pytest.raises(InputError, match=r"is on cuda:0, its input on cpu: give baseline\.to\(input\)"):
        tracer.DeepLift(made(Plain)).attribute(ONES, ONES.as_subclass(Elsewhere), target=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("x", [ONES.long(), ONES.bool(), ONES.to(torch.uint8)])
def test_integers_are_refused_with_a_trace_that_says_so(x: Tensor, tmp_path: Path) -> None:
    kind = str(x.dtype).removeprefix("torch.")
    for entry, run in entries(made(Plain), x).items():
        if entry == "watch":
            continue
        with pytest.raises(InputError, match=f"has dtype {kind}"):
            run()
    path = tmp_path / "t.dltrace"
    with pytest.raises(InputError) as caught:
        tracer.record(made(Plain), x, path=path, method="exact")
    assert caught.value.trace.run.status == "failed"
    assert [finding.kind for finding in tracer.diagnose(tracer.open_trace(path))] == ["integer-input"]
    with pytest.raises(RuntimeError), tracer.watch(made(Plain)) as watching:
        DeepLift(made(Plain)).attribute(x, target=1)
    assert watching.partial is None


def test_watching_refuses_at_the_models_door_what_captum_lets_pass() -> None:
    class Real(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.view_as_real(x).flatten(1)

    x = torch.ones(2, 4, dtype=torch.complex64)
    model = Real()
    for wrong, words in ((x, "the input has dtype complex64"), (torch.ones(0, 4), "the input holds no example")):
        watched: nn.Module = model if wrong is x else made(Plain)
        with pytest.raises(InputError, match=words), tracer.watch(watched):
            DeepLift(watched).attribute(wrong, target=1)
        assert not watched._forward_hooks and not watched._forward_pre_hooks


def test_sound_tensors_pass() -> None:
    for sound in (ONES, ONES.double(), ONES.T, ONES[:1].expand(3, 4), ONES.long()):
        assert tensor_fault(sound) == ""


# --- the command line ----------------------------------------------------------------------------------------------

FACTORIES = """
import torch
from torch import nn

def parallel(): return nn.DataParallel(nn.Linear(4, 3))
def meta(): return nn.Linear(4, 3, device="meta")
def compiled(): return torch.compile(nn.Linear(4, 3), backend="eager")
def plain(): return nn.Linear(4, 3)
class Sparse(nn.Linear):
    def forward(self, x): return super().forward(x).to_sparse().to_dense()
def sparse(): return Sparse(4, 3)
"""


@pytest.mark.parametrize(
    ("factory", "x", "words"),
    [
        ("parallel", ONES, "cannot be traced: it is DataParallel"),
        ("meta", ONES, "on the meta device"),
        ("compiled", ONES, "torch.compile'd"),
        ("sparse", ONES, "is sparse or packed"),
        ("plain", ONES.to(torch.complex64), "dtype complex64"),
        ("plain", ONES.long(), "dtype int64"),
        ("plain", torch.ones(0, 4), r"shape \(0, 4\)"),
    ],
)
def test_the_command_line_refuses_in_one_line(
    factory: str, x: Tensor, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "own_refused.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    save_file({"input": x}, "x.safetensors")
    arguments = ("--inputs", "x.safetensors", "--target", 1, "-o", "t.dltrace")
    assert call("trace", f"own_refused:{factory}", *arguments) == 2
    out, err = capsys.readouterr()
    said = [line for line in err.splitlines() if line.startswith("deeplift-tracer:")]
    assert out == "" and len(said) == 1 and re.search(words, said[0]) and "Traceback" not in err
