"""The operators of PyTorch's own test database as models, to hold exact attribution against all of them.

`op_db` of `torch.testing._internal` has for each operator samples of its arguments, as PyTorch tests it with. A sample
is the input, the same elements in another order are the reference, and Σ w·tanh(op(x)) is what is explained: the tanh
tells where each output went, the weights w tell outputs apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils._pytree import tree_flatten, tree_unflatten

from tracer.errors import TracerError
from tracer.exact.deeplift import DeepLift

Class = Literal["exact", "no reference", "refused", "told", "silent", "raises"]
CLASSES: tuple[Class, ...] = get_args(Class)
"""From good to bad. "no reference": torch itself refuses the other order, or its derivative there, or gives no number;
or the sample has no two elements to exchange."""
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-5}
_CANCELLED = 1e-2
"""Of Σ |attributions|, the least that a change counts for: a sum that stays the same has nothing to compare with."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an operator. `notes`: the kinds noted, with the ops they stand at; `words`: an error's."""

    found: Class
    relative: float = 0.0
    notes: tuple[str, ...] = ()
    words: str = ""

    def why(self) -> str:
        """What was noted, or what an error said first."""
        return self.words.splitlines()[0][:100].replace("|", "/") if self.words else ", ".join(self.notes)


class Operator(nn.Module):
    """Σ w·tanh(op(sample)) with the tensors of a sample, each with an axis of one example in front, as the inputs."""

    def __init__(self, run: Callable[..., Any], leaves: list[Any], spec: Any, places: list[int]) -> None:
        super().__init__()
        self.run, self.leaves, self.spec, self.places = run, leaves, spec, places
        self.scale = 1.0

    def results(self, *tensors: Tensor) -> Iterator[Tensor]:
        """What the operator gives, in one row a result, complex numbers as pairs."""
        leaves = list(self.leaves)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor[0]
        (first, args), kwargs = tree_unflatten(leaves, self.spec)
        found = self.run(first, *args, **kwargs)
        for value in tree_flatten(found)[0]:
            if isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex()):
                yield (torch.view_as_real(value.resolve_conj()) if value.is_complex() else value).reshape(-1)

    def forward(self, *tensors: Tensor) -> Tensor:
        """(1, 1)."""
        total = tensors[0].new_zeros(())
        for flat in self.results(*tensors):
            weights = torch.linspace(0.3, 1.0, flat.numel(), dtype=flat.dtype)
            total = total + (weights * torch.tanh(flat / self.scale)).sum()
        return total.reshape(1, 1)


_VECTORS = (
    "eigenvectors and singular vectors turn freely where two values meet on the way, and have a sign of their own"
)
_PIVOTS = "the order of rows jumps on the way, and factors have poles there"
_SIGN = "columns change their sign on the way"
_CELLS = "a grid that varies: corners of cells on the way"
_ROUNDED = "what the model computes behind the cast is rounded to that dtype"
REASONS = {
    **dict.fromkeys(("svd", "linalg.svd", "svd_lowrank", "pca_lowrank", "linalg.eigh", "linalg.eig"), _VECTORS),
    "linalg.eigvals": "two real eigenvalues become a complex pair: which is which is not continuous",
    **dict.fromkeys(("lu", "linalg.lu", "linalg.lu_factor", "linalg.lu_factor_ex", "lu_unpack"), _PIVOTS),
    **dict.fromkeys(("qr", "linalg.qr"), _SIGN),
    **dict.fromkeys(("half", "bfloat16", "float", "cfloat", "chalf"), _ROUNDED),
    "linalg.cholesky_ex": "the other order is not positive definite: no factor",
    "linalg.pinv.singular": "the rank is smaller: every way leaves the matrices of that rank",
    "special.entr": "−∞ below 0",
    "max_pool2d_with_indices_backward": "the derivative of a pool: places that other numbers choose",
    **dict.fromkeys(("nn.functional.grid_sample", "grid_sampler_2d", "grid_sampler_3d"), _CELLS),
    "nn.functional.ctc_loss": "a sum over alignments, averaged along the way",
}
"""Why an operator is not exact, where its note alone does not say."""


def operators(dtype: torch.dtype) -> Iterator[Any]:
    """The differentiable operators that take this dtype."""
    for info in op_db:
        if info.supports_autograd and info.supports_dtype(dtype, "cpu"):
            yield info


def name_of(info: Any) -> str:
    """An operator's name with that of its variant."""
    return f"{info.name}.{info.variant_test_name}" if info.variant_test_name else info.name


def samples(info: Any, dtype: torch.dtype, most: int) -> list[Any]:
    """Up to `most` samples of an operator, spread over those that have two elements to exchange; always the same."""
    torch.manual_seed(0)
    found = [s for s in info.sample_inputs("cpu", dtype, requires_grad=False) if _varies(s, dtype)]
    count = min(most, len(found))
    return [found[i * len(found) // count] for i in range(count)]


def worst(info: Any, dtype: torch.dtype, most: int) -> Result:
    """What came of the worst of an operator's samples."""
    found = [
        measure(info, sample, dtype, everything)
        for sample in samples(info, dtype, most)
        for everything in (False, True)
    ]  # fmt: skip
    known = [result for result in found if result.found != "no reference"] or found or [Result("no reference")]
    return max(known, key=lambda result: (CLASSES.index(result.found), result.relative))


def measure(info: Any, sample: Any, dtype: torch.dtype, everything: bool) -> Result:
    """The operator at one sample; `everything`: all its tensors vary and not only the first, and its results are
    scaled to where the tanh is steep."""
    leaves, spec, places = _inputs(sample, dtype, everything)
    if not places:
        return Result("no reference")
    generator = torch.Generator().manual_seed(0)
    xs = [leaves[place].detach().clone() for place in places]
    refs = [x.reshape(-1)[torch.randperm(x.numel(), generator=generator)].reshape(x.shape) for x in xs]
    model = Operator(info.get_op(), leaves, spec, places)
    pairs = tuple(x[None] for x in xs), tuple(ref[None] for ref in refs)
    try:
        for tensors in pairs[::-1]:
            torch.manual_seed(0)
            with torch.no_grad():
                model(*(t.clone() for t in tensors))
            torch.manual_seed(0)
            starts = [t.clone().requires_grad_() for t in tensors]
            torch.autograd.grad(model(*starts), starts, allow_unused=True)
            torch.manual_seed(0)
            with torch.no_grad():
                sizes = [flat.double().abs() for flat in model.results(*(t.clone() for t in tensors))]
    except Exception as error:
        if everything and "not differentiable with respect to argument" in str(error):
            return measure(info, sample, dtype, False)
        return Result("no reference", words=f"{type(error).__name__}: {error}")
    if everything:
        finite = torch.cat(sizes or [torch.zeros(1)]).nan_to_num(0, 0, 0)
        model.scale = max(1.0, float(finite.mean()))
    lift = DeepLift(model)
    torch.manual_seed(0)
    try:
        attributions, delta = lift.attribute(*pairs, target=0, return_convergence_delta=True)
    except TracerError as error:
        return Result("refused", words=str(error))
    except Exception as error:
        return Result("raises", words=f"{type(error).__name__}: {error}")
    assert lift.outputs is not None
    if any(not bool(torch.isfinite(output).all()) for output in lift.outputs):
        return Result("no reference", words="the operator gives no number")
    change = float((lift.outputs[0] - lift.outputs[1]).abs())
    size = sum(float(a.double().abs().sum()) for a in attributions)
    size += 100 * torch.finfo(dtype).eps / TOLERANCE[dtype] * sum(float(output.abs()) for output in lift.outputs)
    error = float(delta.double().abs())
    scale = max(change, _CANCELLED * size)
    relative = error / scale if scale else (0.0 if error == 0 else float("inf"))
    notes = tuple(sorted({f"{note.kind} {note.op}" for note in lift.notes}))
    if relative <= TOLERANCE[dtype]:
        return Result("exact", relative, notes)
    return Result("told" if notes else "silent", relative, notes)


def _varies(sample: Any, dtype: torch.dtype) -> bool:
    leaves, _spec, places = _inputs(sample, dtype, True)
    return bool(places) and not any(bool(leaves[place].isnan().any()) for place in places)


def _inputs(sample: Any, dtype: torch.dtype, everything: bool) -> tuple[list[Any], Any, list[int]]:
    """(arguments of a sample one by one, how they nest, where those stand that vary)."""
    leaves, spec = tree_flatten(((sample.input, sample.args), sample.kwargs))
    first = len(tree_flatten(sample.input)[0])
    places = [
        place
        for place, leaf in enumerate(leaves)
        if isinstance(leaf, Tensor) and leaf.dtype == dtype and leaf.layout == torch.strided and leaf.numel() > 1
        and (everything or place < first)
    ]  # fmt: skip
    return leaves, spec, places
